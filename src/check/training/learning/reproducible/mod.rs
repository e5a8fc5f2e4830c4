//! The same seed, the same bits.

mod difference;
mod runs;

use std::panic::Location;

use candle_core::Tensor;

use self::{
    difference::Difference,
    runs::{Produced, Runs},
};
use crate::{
    Cause, Failure, Finding, Result, Seed,
    check::call,
    verdict::{count, listed},
};

/// The same seed gives the same bits, another seed gives others.
///
/// The closure is given a [`Seed`] and returns what it produced, in the order it was produced: initial weights, the first
/// batch, the loss of each step. Where a run cannot be repeated the first tensor that differs is where the
/// unseeded draw is, and everything before it is cleared of suspicion.
///
/// # What must hold
///
/// Runs with one seed give the same tensors under the same names, in the same order, of the same shape and dtype, with
/// the same bits (a NaN equals itself): twice in a row, after runs with other seeds, and in another order of the seeds.
/// Two seeds differ in a bit of one tensor at least, unless [`seed_matters(false)`](Self::seed_matters) says that they
/// need not. Tensors are copied when the closure returns them, so a variable that is trained on later keeps its value of
/// that time.
///
/// With `n` seeds the closure runs `2 n` times: `0, 0, 1, 0` for two.
///
/// # Errors
///
/// [`Violated`](crate::FailureKind::Violated) with the first tensor that differs, its element and both values; `Vacuous`
/// where the closure returns nothing to compare; `NotRun` for a setting that cannot be used, or where the closure
/// returns an error or panics.
///
/// *Source:* the reproducibility checklist of J. Pineau et al. (2021), and PyTorch's notes on reproducibility, which
/// this turns into a test; that results differ by seeds more than by methods is X. Bouthillier et al., *Accounting for
/// variance in machine learning benchmarks* (2021).
///
/// # Examples
///
/// ```
/// use candling::{check::Reproducible, prelude::*};
///
/// let report = Reproducible::new().check(|seed| {
///     let (vars, vb) = seed.var_builder(DType::F32, &Device::Cpu);
///     let layer = candle_nn::linear(4, 2, vb)?;
///     let x = seed.normal("x", (8, 4), DType::F32, &Device::Cpu)?;
///     Ok(vec![("weights", layer.weight().clone()), ("output", layer.forward(&x)?)])
/// })?;
/// assert_eq!(report.tensors, ["weights", "output"]);
///
/// // candle's own initialisation draws from a generator that cannot be seeded on a CPU.
/// let failure = Reproducible::new().check(|_seed| {
///     let vars = VarMap::new();
///     let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
///     let layer = candle_nn::linear(4, 2, vb)?;
///     Ok(vec![("weights", layer.weight().clone())])
/// }).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::NotReproducible));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct Reproducible {
    seed: Seed,
    seeds: usize,
    seed_matters: bool,
    allowed: Vec<Cause>,
}

/// What a passed [`Reproducible`] saw.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReproducibleReport {
    /// The seeds, in the order of the runs.
    pub runs: Vec<Seed>,
    /// The names of what was produced, in the order of production.
    pub tensors: Vec<String>,
    /// The names of tensors that hold the same bits for every seed: constants, or what the seed does not reach.
    pub seedless: Vec<String>,
    /// What differed, where a cause was allowed.
    pub allowed: Vec<Finding>,
}

impl Default for Reproducible {
    fn default() -> Self {
        Self::new()
    }
}

impl Reproducible {
    /// Seeds 0 and 1, which must differ.
    pub fn new() -> Self {
        Self { seed: Seed::new(0), seeds: 2, seed_matters: true, allowed: Vec::new() }
    }

    /// The first seed; the others are those that follow it. Default: `Seed::new(0)`.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// How many seeds are used. Default 2; with 1 nothing is run in between, and the seed need not matter.
    pub fn seeds(mut self, seeds: usize) -> Self {
        self.seeds = seeds;
        self
    }

    /// Whether two seeds must differ somewhere. Default `true`.
    pub fn seed_matters(mut self, matters: bool) -> Self {
        self.seed_matters = matters;
        self
    }

    /// Does not fail for this cause: it is intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Runs `f` with each seed, and again.
    ///
    /// # Errors
    ///
    /// See [`Reproducible`].
    #[track_caller]
    pub fn check<N: Into<String>>(
        &self,
        mut f: impl FnMut(Seed) -> Result<Vec<(N, Tensor)>>,
    ) -> Result<ReproducibleReport> {
        let location = Location::caller();
        let mut f = |seed: Seed| -> Result<Produced> {
            Ok(f(seed)?.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect())
        };
        call::run("reproducible", location, || self.run(&mut f))
    }

    fn run(&self, f: &mut dyn FnMut(Seed) -> Result<Produced>) -> Result<ReproducibleReport> {
        if self.seeds == 0 {
            return Err(Failure::bad_argument("seeds", 0, "1 or more"));
        }
        let mut runs = Runs::new(f);
        let mut different = None;
        for seed in self.schedule() {
            let at = runs.again(seed)?;
            if at == 0 {
                something(runs.produced(0))?;
            }
            if let Some((first, difference)) = runs.differs_from_first(at)? {
                different = Some((first, at, difference));
                break;
            }
        }
        let mut allowed = Vec::new();
        if let Some((first, at, difference)) = different {
            let failure = differs(&mut runs, first, at, &difference)?;
            allowed = failure.findings().to_vec();
            if !call::not_allowed(allowed.clone(), &self.allowed).is_empty() {
                return Err(failure);
            }
        }
        let seedless = runs.seedless()?;
        let tensors: Vec<String> = runs.produced(0).iter().map(|(name, _)| name.clone()).collect();
        let asked = self.seed_matters && self.seeds > 1 && allowed.is_empty();
        if asked && seedless.len() == tensors.len() {
            let failure = seed_ignored(&runs, &seedless);
            allowed = failure.findings().to_vec();
            if !call::not_allowed(allowed.clone(), &self.allowed).is_empty() {
                return Err(failure);
            }
        }
        Ok(ReproducibleReport { runs: runs.seeds(), tensors, seedless, allowed })
    }

    /// The first seed twice in a row, every other once, and back: `0, 0, 1, 2, 1, 0`.
    fn schedule(&self) -> Vec<Seed> {
        let seed = |i: usize| Seed::new(self.seed.value().wrapping_add(i as u64));
        let there = std::iter::once(0).chain(0..self.seeds);
        let back = (0..self.seeds.max(2) - 1).rev();
        there.chain(back).map(seed).collect()
    }
}

/// Without a tensor, or with empty ones alone, everything would be equal.
fn something(produced: &Produced) -> Result<()> {
    if produced.is_empty() {
        return Err(Failure::vacuous("the closure returned no tensor: there is nothing to compare")
            .help("return what the run produces, in order: weights, the first batch, the loss of each step"));
    }
    match produced.iter().all(|(_, tensor)| tensor.elem_count() == 0) {
        true => Err(Failure::vacuous(format!(
            "{} of the closure empty: there is nothing to compare",
            match produced.len() {
                1 => "the only tensor is".to_owned(),
                n => format!("all {n} tensors are"),
            },
        ))),
        false => Ok(()),
    }
}

fn differs(
    runs: &mut Runs<'_>,
    first: usize,
    at: usize,
    difference: &Difference,
) -> Result<Failure> {
    let seed = runs.seed(at).value();
    let headline = format!(
        "run {} with seed {seed} gives other bits than run {}: {}",
        at + 1,
        first + 1,
        difference.headline(runs.produced(first).len()),
    );
    let mut failure = Failure::violated(headline);
    for (label, fact) in difference.facts(runs.produced(first), runs.produced(at))? {
        failure = failure.fact(label, fact);
    }
    // Whether the closure can agree with itself at all is asked by two more runs: the order so far is told first.
    let order = runs.order();
    let state = runs.depends_on_what_ran_before(first, at)?;
    failure = failure.fact("seeds of the runs", order).finding(
        Finding::confirmed(Cause::NotReproducible, difference.evidence(state.is_some()))
            .at(difference.place()),
    );
    Ok(match state {
        Some(evidence) => failure.finding(Finding::confirmed(Cause::StateKept, evidence)),
        None => failure,
    })
}

fn seed_ignored(runs: &Runs<'_>, names: &[String]) -> Failure {
    let mut seeds: Vec<String> = Vec::new();
    for seed in runs.seeds() {
        let seed = seed.value().to_string();
        if !seeds.contains(&seed) {
            seeds.push(seed);
        }
    }
    let shown: Vec<&str> = names.iter().map(String::as_str).collect();
    let headline = format!(
        "seeds {} give the same bits in {}: nothing depends on the seed",
        seeds.join(" and "),
        match names.len() {
            1 => format!("the only tensor, `{}`", names[0]),
            n => format!("all {}", count(n, "tensor")),
        },
    );
    Failure::violated(headline)
        .fact("the same", listed(&shown))
        .fact("seeds of the runs", runs.order())
        .finding(Finding::confirmed(
            Cause::NotReproducible,
            "a run repeats because it is always the same one: its seed is written down elsewhere, or nothing is drawn",
        ))
        .help(
            "draw weights and data from the seed that the closure is given; where nothing is random, say \
             `seed_matters = false`",
        )
}
