//! A cached step says what the full pass says.

mod pattern;
mod reference;
mod runs;

use std::{fmt, panic::Location};

use candle_core::Tensor;

use self::{
    reference::Reference,
    runs::{Run, Step, Stopped},
};
use super::rounding::Bound;
use crate::{
    Cause, Failure, Finding, Result, Seed, Tolerance,
    check::{
        call,
        function::{self, Function, dims_of},
    },
    measure::{perturb::Mix, values::same_bits},
    verdict::number,
};

/// A model with a cache (or a state) says the same however its tokens are handed to it.
///
/// `full` makes one pass over all tokens; `step(tokens, offset)` is given the tokens piece by piece, with `offset` tokens
/// before them, and an offset of 0 starts anew. Tokens are ids `[batch, time]` or floats `[batch, time, features]`. Either
/// closure may return every position, `[batch, time, ..]`, or the last alone, `[batch, ..]` or `[batch, 1, ..]`, as the
/// models of candle-transformers do. Closures that share one model share it through a `RefCell`.
///
/// # What must hold
///
/// - Token by token, all in one call, a prompt and then tokens, and several cuts into two and three chunks: every output
///   equals the full pass's at its position. Where `full` returns the last position alone, it is called on every prefix.
/// - After another prompt, an offset of 0 gives bit for bit what it gave before.
///
/// Two ways to compute the same round differently. What is allowed is sixteen times (in half precision four times) the noise measured on this model
/// (prefixes instead of the whole, twice the rows, floats moved in their last place), and 64 units in the last place of the
/// largest output (at most an eighth of it: 16 units in bf16): healthy decoders in f32 were 7 apart, and a chunk with a wrong mask 2.9 to 5.4 in
/// value. [`tolerance`](Self::tolerance) sets other bounds.
///
/// What differs is looked into: which earlier tokens a step sees, whether it notices its offset, whether a chunk sees its
/// own future, and whether the outputs are those of other rows or positions.
///
/// # Errors
///
/// - [`Violated`](crate::FailureKind::Violated), [`CacheMismatch`](Cause::CacheMismatch): a chunking differs.
///   [`StateKept`](Cause::StateKept): only after another prompt. [`FutureLeak`](Cause::FutureLeak): the full pass sees
///   later tokens, which no step can.
/// - [`Vacuous`](crate::FailureKind::Vacuous): one token; a full pass whose last output ignores the tokens before it; no
///   other tokens to try (ids that are all 0).
/// - [`NotRun`](crate::FailureKind::NotRun): a closure fails. A step that fails for several tokens at once is no silent bug,
///   but no proof, either: [`single_tokens`](Self::single_tokens) says that this is known.
///
/// # Examples
///
/// ```
/// use candling::{check::CacheConsistent, prelude::*};
///
/// // A running sum is the simplest cache: the sum so far.
/// let x = Seed::new(1).normal("x", (2, 5, 3), DType::F32, &Device::Cpu)?;
/// let mut sum = Tensor::zeros((2, 1, 3), DType::F32, &Device::Cpu)?;
/// let step = |x: &Tensor, offset: usize| {
///     if offset == 0 {
///         sum = sum.zeros_like()?;
///     }
///     let sums = x.cumsum(1)?.broadcast_add(&sum)?;
///     sum = sums.narrow(1, x.dim(1)? - 1, 1)?;
///     Ok(sums)
/// };
/// let report = CacheConsistent::new().check(|x| x.cumsum(1), step, &x)?;
/// assert_eq!(report.positions, 5);
///
/// // A sum that no offset sets back to zero:
/// let mut sum = Tensor::zeros((2, 1, 3), DType::F32, &Device::Cpu)?;
/// let step = |x: &Tensor, _: usize| {
///     let sums = x.cumsum(1)?.broadcast_add(&sum)?;
///     sum = sums.narrow(1, x.dim(1)? - 1, 1)?;
///     Ok(sums)
/// };
/// let failure = CacheConsistent::new().check(|x| x.cumsum(1), step, &x).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::StateKept));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct CacheConsistent {
    tolerance: Option<Tolerance>,
    single_tokens: bool,
    seed: Seed,
    allowed: Vec<Cause>,
}

/// What a passed [`CacheConsistent`] measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CacheConsistentReport {
    /// How many positions were compared.
    pub positions: usize,
    /// The chunkings, in the order they ran.
    pub runs: Vec<CachedRun>,
    /// The largest difference to the full pass.
    pub difference: f64,
    /// The absolute part of what was allowed.
    pub allowed: f64,
}

/// One way to hand the tokens over. `Display` names it: `4 tokens, then one by one`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CachedRun {
    /// How many tokens each call was given.
    pub lengths: Vec<usize>,
    /// Whether another prompt went before.
    pub after_another: bool,
    /// The largest difference to the full pass; `None` where the step returned an error.
    pub difference: Option<f64>,
    /// The first position that differs by more than is allowed.
    pub first_different: Option<usize>,
}

impl Default for CacheConsistent {
    fn default() -> Self {
        Self::new()
    }
}

impl CacheConsistent {
    /// Chunks of every kind, within the rounding measured on the model.
    pub fn new() -> Self {
        Self { tolerance: None, single_tokens: false, seed: Seed::new(0), allowed: Vec::new() }
    }

    /// How far a step may be from the full pass. By default what rounding explains, see [`CacheConsistent`].
    pub fn tolerance(mut self, tolerance: impl Into<Tolerance>) -> Self {
        self.tolerance = Some(tolerance.into());
        self
    }

    /// Whether the step is known to take one token at a time once the cache holds something. Default false.
    ///
    /// Chunks are then left out, but for the prompt in one call, which may fail and is left out of the report if it does.
    pub fn single_tokens(mut self, single: bool) -> Self {
        self.single_tokens = single;
        self
    }

    /// Which other tokens are drawn. Default `Seed::new(0)`.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// Does not fail for this cause: it is intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Compares `step` with `full` on `tokens`.
    ///
    /// # Errors
    ///
    /// See [`CacheConsistent`].
    #[track_caller]
    pub fn check(
        &self,
        full: impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
        mut step: impl FnMut(&Tensor, usize) -> candle_core::Result<Tensor>,
        tokens: &Tensor,
    ) -> Result<CacheConsistentReport> {
        let location = Location::caller();
        let mut full = function::erased("the full pass", full);
        let mut step = move |tokens: &Tensor, offset: usize| {
            let output = step(tokens, offset).map_err(|e| Failure::from_candle("the step", e))?;
            Ok(output.detach())
        };
        call::run("cache_consistent", location, || self.run(&mut full, &mut step, tokens))
    }

    fn run(
        &self,
        full: &mut Function<'_>,
        step: &mut Step<'_>,
        tokens: &Tensor,
    ) -> Result<CacheConsistentReport> {
        if let Some(tolerance) = &self.tolerance {
            tolerance.validate()?;
        }
        let tokens = usable(tokens)?;
        let others = function::alternatives(std::slice::from_ref(&tokens), self.seed)?;
        let reference = Reference::of(full, &tokens, self.seed)?;
        past_matters(full, &tokens, &others, &reference)?;
        let other = Mix::new(std::slice::from_ref(&tokens), &others, 1)?.replacing(|_| true)?;
        let bound = Bound::new(self.tolerance, &reference.rounding, reference.dtype);
        let trial = Trial { reference, bound, tokens, other: other[0].clone() };
        self.judge(full, step, &trial)
    }

    fn judge(
        &self,
        full: &mut Function<'_>,
        step: &mut Step<'_>,
        trial: &Trial,
    ) -> Result<CacheConsistentReport> {
        let ones = vec![1; trial.positions()];
        let fresh = trial.run(step, &ones, false)?;
        if let Some(stopped) = &fresh.stopped {
            return Err(stopped.clone().not_run(&fresh));
        }
        let again = trial.run(step, &ones, true)?;
        let mut runs = vec![fresh, again];
        // What is not reset spoils all that follows: nothing more is learnt from it.
        let kept = runs[0].pieces != runs[1].pieces || runs[1].stopped.is_some();
        if !kept {
            for lengths in runs::chunkings(trial.positions(), self.single_tokens) {
                runs.push(trial.run(step, &lengths, false)?);
            }
        }
        let mut findings = Vec::new();
        if kept {
            findings.extend(pattern::kept(&runs));
        } else {
            findings.extend(pattern::mismatch(full, step, trial, &runs)?);
        }
        let any = !findings.is_empty();
        let findings = call::not_allowed(findings, &self.allowed);
        if !findings.is_empty() {
            return Err(violated(&runs, trial, findings));
        }
        let unforeseen = |run: &&Run| run.stopped.is_some() && !self.single_tokens;
        if let (Some(run), false) = (runs.iter().find(unforeseen), any)
            && let Some(stopped) = &run.stopped
        {
            return Err(stopped.clone().not_run(run));
        }
        Ok(report(&runs, trial))
    }
}

/// What all runs are compared with.
struct Trial {
    reference: Reference,
    bound: Bound,
    tokens: Tensor,
    /// Another prompt of the same shape.
    other: Tensor,
}

impl Trial {
    fn positions(&self) -> usize {
        self.reference.grid.positions()
    }
}

/// Tokens in rows, with time as the second dimension, more than one.
fn usable(tokens: &Tensor) -> Result<Tensor> {
    if tokens.rank() < 2 {
        let was = dims_of(std::slice::from_ref(tokens));
        let allowed = "ids of dims [batch, time], or floats of dims [batch, time, features]";
        return Err(Failure::bad_argument("tokens", format!("of {was}"), allowed));
    }
    function::input(std::slice::from_ref(tokens))?;
    if tokens.dim(1)? == 1 {
        return Err(Failure::vacuous(
            "one token a row: the cache is empty when it is read, so that nothing of it can be seen",
        )
        .help("give six tokens or so, so that there are chunks of several kinds"));
    }
    Ok(tokens.detach().contiguous()?)
}

/// The last output of the full pass depends on a token before it.
fn past_matters(
    full: &mut Function<'_>,
    tokens: &Tensor,
    others: &[Option<Tensor>],
    reference: &Reference,
) -> Result<()> {
    let len = tokens.dim(1)?;
    let mix = Mix::new(std::slice::from_ref(tokens), others, 1)?;
    let changed = full(&mix.replacing(|cell| cell % len != len - 1)?)?;
    let same = match reference.everywhere {
        true => {
            same_bits(&changed.narrow(1, len - 1, 1)?, &reference.whole.narrow(1, len - 1, 1)?)?
        }
        false => same_bits(&changed, &reference.whole)?,
    };
    if same {
        return Err(Failure::vacuous(
            "the last output of the full pass is the same, bit for bit, with other tokens before it: a cache cannot matter",
        )
        .finding(Finding::confirmed(
            Cause::InputIgnored,
            format!("{} replaced", crate::verdict::all(len - 1, "earlier token")),
        )));
    }
    Ok(())
}

fn violated(runs: &[Run], trial: &Trial, findings: Vec<Finding>) -> Failure {
    let bad = runs.iter().find(|run| run.first_bad.is_some());
    let headline = match bad.and_then(|run| Some((run, run.first_bad.as_ref()?))) {
        Some((run, at)) => {
            format!(
                "{run}, the step leaves the full pass at position {}: {}",
                at.position,
                at.values()
            )
        }
        None => "what the step returns depends on the prompt before".to_owned(),
    };
    let lines: Vec<String> = runs.iter().map(Run::line).collect();
    let name_width = runs.iter().map(|run| run.to_string().len()).max().unwrap_or(0);
    let table: Vec<String> = runs
        .iter()
        .zip(&lines)
        .map(|(run, line)| format!("{:name_width$}   {line}", run.to_string()))
        .collect();
    Failure::violated(headline)
        .fact("against the full pass", table.join("\n"))
        .fact("rounding explains", number(trial.bound.absolute))
        .with_findings(findings)
}

fn report(runs: &[Run], trial: &Trial) -> CacheConsistentReport {
    let ran = |run: &&Run| run.stopped.is_none();
    let difference = runs.iter().filter(ran).map(|run| run.difference).fold(0.0, f64::max);
    let told = |run: &Run| CachedRun {
        lengths: run.lengths.clone(),
        after_another: run.after_another,
        difference: run.stopped.is_none().then_some(run.difference),
        first_different: run.first_bad.as_ref().map(|at| at.position),
    };
    CacheConsistentReport {
        positions: trial.positions(),
        runs: runs.iter().map(told).collect(),
        difference,
        allowed: trial.bound.absolute,
    }
}

impl fmt::Display for CachedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&runs::name(&self.lengths, self.after_another))
    }
}

impl Stopped {
    /// The step fails where it should not: loud, so no silent bug, and no proof.
    fn not_run(self, run: &Run) -> Failure {
        let Self { offset, len, failure } = self;
        let failure = failure
            .fact("call", format!("{} at offset {offset}", crate::verdict::count(len, "token")))
            .fact("run", run.to_string());
        match len {
            1 => failure,
            _ => failure.help(
                "where the step is only ever given one token at a time, say `single_tokens = true`",
            ),
        }
    }
}
