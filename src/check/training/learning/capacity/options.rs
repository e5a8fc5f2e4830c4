use std::panic::Location;

use super::why;
use crate::{
    Batch, Cause, Failure, Finding, Learner, Result, Seed, Snapshot,
    check::{
        arguments, call,
        training::learning::trained::{Trained, beats, best, floor},
    },
    verdict::{count, number},
};

/// More capacity, lower loss: of two learners the larger one fits the batch better after the same training.
///
/// A model that is made wider or deeper and fits no better has its limit elsewhere: a narrow layer that was left in, new
/// layers that are not called or get no gradient, labels that contradict each other, a loss with a floor.
///
/// # What must hold
///
/// Both are trained on the batch for the same number of steps, each with its own optimizer, or with the default one at
/// 0.01, 0.001 and 0.1, of which its best counts. The larger must end lower by the [`margin`](Self::margin): of the
/// loss, or, where an offset hides that, of what training takes off it. Where candling built both
/// ([`Learner::build`]), each is trained from [`seeds`](Self::seeds) initialisations: then the larger one's median must
/// be lower by the margin, and of all pairs of runs the larger one must end lower in two thirds: seeds alone do not do that.
///
/// # Errors
///
/// [`Violated`](crate::FailureKind::Violated) with both losses and what a diagnosis of the larger one shows; `Vacuous`
/// where the smaller one fits the batch already, so that nothing is left to gain; `NotRun` where the larger one has no
/// more values to train than the smaller one, for a setting that cannot be used, or where a closure returns an error.
///
/// *Source:* that a training loss must fall with width and depth, else optimisation or wiring is at fault, is
/// K. He et al., *Deep residual learning* (2016); as a step of debugging it is in I. Goodfellow, Y. Bengio and A. Courville,
/// *Deep learning* (2016), section 11.5.
///
/// # Examples
///
/// ```
/// use candling::{check::CapacityHelps, prelude::*, synthetic};
///
/// let (x, y) = synthetic::spirals(Seed::new(1), 3, 8)?;
/// let mlp = |width: usize| {
///     Learner::build(Seed::new(42), DType::F32, &Device::Cpu, move |vb| {
///         let l1 = candle_nn::linear(2, width, vb.pp("l1"))?;
///         let l2 = candle_nn::linear(width, 3, vb.pp("l2"))?;
///         Ok(move |x: &Tensor| l2.forward(&l1.forward(x)?.relu()?))
///     }, loss::cross_entropy)
/// };
/// let report = CapacityHelps::new().steps(100).check(&mlp(2)?, &mlp(32)?, (&x, &y))?;
/// assert!(report.large < report.small);
///
/// // A wide branch behind a gate that is 0, and stays there.
/// let gated = Learner::build(Seed::new(42), DType::F32, &Device::Cpu, |vb| {
///     let (l1, l2) = (candle_nn::linear(2, 2, vb.pp("l1"))?, candle_nn::linear(2, 3, vb.pp("l2"))?);
///     let (w1, w2) = (candle_nn::linear(2, 64, vb.pp("w1"))?, candle_nn::linear(64, 3, vb.pp("w2"))?);
///     Ok(move |x: &Tensor| {
///         let wide = (w2.forward(&w1.forward(x)?.relu()?)? * 0.0)?;
///         l2.forward(&l1.forward(x)?.relu()?)? + wide
///     })
/// }, loss::cross_entropy)?;
/// let failure = CapacityHelps::new().steps(100).check(&mlp(2)?, &gated, (&x, &y)).unwrap_err();
/// assert!(failure.headline().starts_with("more capacity is no help"));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct CapacityHelps {
    steps: usize,
    margin: f64,
    seeds: usize,
    allowed: Vec<Cause>,
}

/// What a passed [`CapacityHelps`] measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CapacityHelpsReport {
    /// The loss at the end, of the smaller learner; the median where there are several seeds.
    pub small: f64,
    /// The same of the larger one.
    pub large: f64,
    /// The smaller one's loss for each seed, sorted.
    pub small_by_seed: Vec<f64>,
    /// The larger one's.
    pub large_by_seed: Vec<f64>,
    /// How many values train in the smaller learner.
    pub small_size: usize,
    /// How many in the larger one.
    pub large_size: usize,
    /// What was found and allowed.
    pub allowed: Vec<Finding>,
}

impl Default for CapacityHelps {
    fn default() -> Self {
        Self::new()
    }
}

impl CapacityHelps {
    /// 300 steps, a tenth lower, and 3 seeds where both can be built again.
    pub fn new() -> Self {
        Self { steps: 300, margin: 0.1, seeds: 3, allowed: Vec::new() }
    }

    /// How many optimizer steps each training may take. Default 300.
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }

    /// By what share the larger one's loss must be lower, in (0, 1). Default 0.1.
    pub fn margin(mut self, share: f64) -> Self {
        self.margin = share;
        self
    }

    /// From how many initialisations each is trained, where candling built both; the first is their own. Default 3.
    pub fn seeds(mut self, seeds: usize) -> Self {
        self.seeds = seeds;
        self
    }

    /// Does not fail for this cause: it is intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Trains both learners on `batch`, `(&x, &y)` or `()`, and restores them.
    ///
    /// # Errors
    ///
    /// See [`CapacityHelps`].
    #[track_caller]
    pub fn check(
        &self,
        small: &Learner<'_>,
        large: &Learner<'_>,
        batch: impl Into<Batch>,
    ) -> Result<CapacityHelpsReport> {
        let (batch, location) = (batch.into(), Location::caller());
        call::run("capacity_helps", location, || self.run(small, large, &batch))
    }

    fn run(
        &self,
        small: &Learner<'_>,
        large: &Learner<'_>,
        batch: &Batch,
    ) -> Result<CapacityHelpsReport> {
        let sizes = self.validate(small, large, batch)?;
        // Both at once: they may share variables.
        let (small_guard, large_guard) = (
            Snapshot::take(small.variables())?.guard(),
            Snapshot::take(large.variables())?.guard(),
        );
        let (initial, at_floor) = floor(small, batch)?;
        let seeds = match (small.built_in(), large.built_in()) {
            (Some(_), Some(_)) => self.seeds,
            _ => 1,
        };
        let small_runs = self.runs(small, batch, seeds, at_floor, small_guard.snapshot())?;
        small_guard.snapshot().restore()?;
        let smaller = median(&small_runs);
        if smaller.last <= at_floor {
            return Err(Failure::vacuous(format!(
                "the smaller learner fits the batch already: {}; nothing is left for more capacity",
                smaller.way(),
            ))
            .help("take a smaller one, or more rows"));
        }
        if !smaller.last.is_finite() {
            return Err(Failure::not_run(format!(
                "the smaller learner does not train: {}",
                smaller.way(),
            ))
            .help("`assert_overfits_batch!` tells why"));
        }
        // A loss that is low enough is not trained any further: below every one of the smaller learner's.
        let lowest = small_runs.iter().map(|run| run.last).fold(f64::INFINITY, f64::min);
        let enough = match lowest > 0.0 {
            true => 0.5 * (1.0 - self.margin) * lowest.max(at_floor),
            false => f64::NEG_INFINITY,
        };
        let large_runs = self.runs(large, batch, seeds, enough, large_guard.snapshot())?;
        large_guard.snapshot().restore()?;
        let larger = median(&large_runs);
        let helps = beats(larger.last, smaller.last, initial, self.margin)
            && share_below(&large_runs, &small_runs) >= MOST;
        let mut report = CapacityHelpsReport {
            small: smaller.last,
            large: larger.last,
            small_by_seed: small_runs.iter().map(|run| run.last).collect(),
            large_by_seed: large_runs.iter().map(|run| run.last).collect(),
            small_size: sizes.0,
            large_size: sizes.1,
            allowed: Vec::new(),
        };
        if helps {
            return Ok(report);
        }
        let target = (1.0 - self.margin) * smaller.last;
        let failure = why::failure(why::Compared {
            large,
            batch,
            before: large_guard.snapshot(),
            smaller,
            larger,
            report: &report,
            steps: self.steps,
            target,
        })?;
        report.allowed = failure.findings().to_vec();
        match call::not_allowed(report.allowed.clone(), &self.allowed).is_empty() {
            true => Ok(report),
            false => Err(failure),
        }
    }

    /// The best training from each initialisation, sorted by where they ended.
    fn runs(
        &self,
        learner: &Learner<'_>,
        batch: &Batch,
        seeds: usize,
        target: f64,
        before: &Snapshot,
    ) -> Result<Vec<Trained>> {
        let mut runs = vec![best(learner, batch, self.steps, target, before)?];
        for seed in 1..seeds {
            let Some(dtype) = learner.built_in() else { break };
            let again = learner.rebuild(Seed::new(seed as u64).split("capacity"), dtype)?;
            let before = Snapshot::take(again.variables())?;
            runs.push(best(&again, batch, self.steps, target, &before)?);
        }
        // A NaN is the worst of all ends.
        let end = |run: &Trained| if run.last.is_nan() { f64::INFINITY } else { run.last };
        runs.sort_by(|a, b| end(a).total_cmp(&end(b)));
        Ok(runs)
    }

    fn validate(
        &self,
        small: &Learner<'_>,
        large: &Learner<'_>,
        batch: &Batch,
    ) -> Result<(usize, usize)> {
        if self.steps == 0 {
            return Err(Failure::bad_argument("steps", 0, "1 or more"));
        }
        if self.seeds == 0 {
            return Err(Failure::bad_argument("seeds", 0, "1 or more"));
        }
        if !(self.margin > 0.0 && self.margin < 1.0) {
            return Err(Failure::bad_argument("margin", number(self.margin), "a share in (0, 1)"));
        }
        usable(small, batch, "the smaller one")?;
        usable(large, batch, "the larger one")?;
        let size = |learner: &Learner<'_>| {
            learner.trainable().map(|(_, var)| var.elem_count()).sum::<usize>()
        };
        let (few, many) = (size(small), size(large));
        match many > few {
            true => Ok((few, many)),
            false => Err(Failure::bad_argument(
                "large",
                format_args!(
                    "a learner of {} to train, beside a small one of {few}",
                    count(many, "value"),
                ),
                "one with more values to train than the small one; the small one comes first",
            )),
        }
    }
}

fn median(runs: &[Trained]) -> &Trained {
    &runs[(runs.len() - 1) / 2]
}

/// By the luck of its initialisation a small network now and then fits as well as a large one. Of all pairs of a run of the
/// larger and a run of the smaller learner, so many must have the larger one lower; half do where size does not matter.
const MOST: f64 = 2.0 / 3.0;

/// The share of pairs in which the first run ends lower: the statistic of H. B. Mann and D. R. Whitney (1947).
fn share_below(runs: &[Trained], others: &[Trained]) -> f64 {
    let pairs = runs.iter().flat_map(|run| others.iter().map(move |other| run.last < other.last));
    pairs.filter(|below| *below).count() as f64 / (runs.len() * others.len()).max(1) as f64
}

fn usable(learner: &Learner<'_>, batch: &Batch, which: &str) -> Result<()> {
    arguments::learner(learner)
        .and_then(|()| arguments::batch(learner, batch))
        .map_err(|failure| failure.fact("learner", which))
}
