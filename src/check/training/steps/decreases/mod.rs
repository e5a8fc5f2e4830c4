//! The loss falls against its gradient, and under the learner's own optimizer.

mod descent;
mod trial;

use std::panic::Location;

use crate::{
    Batch, Cause, Failure, Finding, Learner, Result, Snapshot,
    check::{arguments, call, training::wording},
    learner::Evaluation,
    measure::{gradients::Pass, slope::repeatable_mode, values::scalar},
    verdict::{count, listed, number, told_apart},
};

use descent::{Place, Slope, alone, slopes, try_steps};
use trial::{Bench, Look, draws};

/// A small step against the gradient lowers the loss, and so do the first steps of the learner's own optimizer.
///
/// The cheapest test of a training: one backward pass, a few evaluations, and usually one step. It asks the question of
/// the method of steepest descent (A. Cauchy, 1847): the slope of a function along its own negative gradient is negative,
/// whatever the function.
///
/// # What must hold
///
/// - Moved together against their gradients, the variables lower the loss by a tenth or more of what the gradient promises, at
///   one of ten lengths from half their own size down to where the loss's rounding begins. Rounding is measured on this
///   model, by moving every variable by its last bit.
/// - No single variable has a gradient with its sign turned: one against which the loss never falls, and of which the slope
///   is the mirror, within 2 % at two lengths; on a staircase, which has no slope, one that the loss goes up against and
///   down along at three. A kink, where the loss rises both ways, is none, and neither is a flat; nor is a gradient that is
///   another one by design, past a `detach`, as a codebook's.
/// - One of the first [`steps`](Self::steps) of the learner's optimizer, from the present values, brings the loss below what
///   it was, beyond rounding. The first may raise it: AdamW at 0.1 took a loss of 2.6 to 12.6 and then to zero (measured).
///
/// A loss is judged by its own gradient: one with the wrong sign falls as well as any other. What a wrong sign shows as
/// here is one behind the loss: a learning rate below zero, an optimizer that adds, a backward pass or a straight-through
/// estimator with a minus.
///
/// Where training mode is random (dropout), losses are compared in evaluation mode; a learner without modes that is random
/// is judged by the mean of sixteen evaluations, and by its optimizer alone. Every variable gets its value back.
///
/// # Errors
///
/// [`Violated`](crate::FailureKind::Violated) with the losses; `Vacuous` where the loss is at its floor, and its gradient
/// zero; `NotRun` for a batch, a learner or a setting that cannot be used, or where a closure returns an error.
///
/// # Examples
///
/// ```
/// use candle_nn::SGD;
/// use candling::{check::LossDecreases, prelude::*};
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let (l1, l2) = (candle_nn::linear(4, 8, vb.pp("l1"))?, candle_nn::linear(8, 3, vb.pp("l2"))?);
/// let x = Seed::new(1).normal("x", (6, 4), DType::F32, &Device::Cpu)?;
/// let y = Seed::new(1).tokens("y", 3, 6, &Device::Cpu)?;
/// let learner = Learner::new(&vars, |x| l2.forward(&l1.forward(x)?.relu()?), loss::cross_entropy);
///
/// let good = learner.clone().optimizer(|vars| SGD::new(vars, 0.1));
/// let report = LossDecreases::new().check(&good, (&x, &y))?;
/// assert!(report.losses[1] < report.losses[0]);
///
/// let bad = learner.optimizer(|vars| SGD::new(vars, -0.1));
/// let failure = LossDecreases::new().check(&bad, (&x, &y)).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::LossSign));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct LossDecreases {
    steps: usize,
    allowed: Vec<Cause>,
}

/// What a passed [`LossDecreases`] measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LossDecreasesReport {
    /// The loss before the first step, and after each up to the first that lowered it.
    pub losses: Vec<f64>,
    /// By how much the step against the gradient lowered the loss, as a share of what the gradient promised; `None` where
    /// the loss is random, and no step could be judged.
    pub kept: Option<f64>,
    /// How many variables were moved alone, each against its own gradient.
    pub judged_alone: usize,
    /// The rounding of the loss, or the standard error of its mean where it is random.
    pub noise: f64,
}

impl Default for LossDecreases {
    fn default() -> Self {
        Self::new()
    }
}

impl LossDecreases {
    /// Fifty steps at most; one usually suffices.
    pub fn new() -> Self {
        Self { steps: 50, allowed: Vec::new() }
    }

    /// How many optimizer steps may be taken until one has lowered the loss. Default 50.
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }

    /// Does not fail for this cause: it is intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Moves `learner`'s variables on `batch` and restores them.
    ///
    /// `batch` is `(&x, &y)`, or `()` for a learner from [`Learner::from_loss`].
    ///
    /// # Errors
    ///
    /// See [`LossDecreases`].
    #[track_caller]
    pub fn check(
        &self,
        learner: &Learner<'_>,
        batch: impl Into<Batch>,
    ) -> Result<LossDecreasesReport> {
        let (batch, location) = (batch.into(), Location::caller());
        call::run("loss_decreases", location, || self.run(learner, &batch))
    }

    fn run(&self, learner: &Learner<'_>, batch: &Batch) -> Result<LossDecreasesReport> {
        if self.steps == 0 {
            return Err(Failure::bad_argument("steps", 0, "1 or more"));
        }
        arguments::learner(learner)?;
        arguments::batch(learner, batch)?;
        let guard = Snapshot::take(learner.variables())?.guard();
        let start = guard.snapshot();
        let first = learner.evaluate(batch, true)?;
        arguments::evaluation(batch, &first)?;
        finite(scalar(&first.loss)?)?;
        self.detached(&first)?;
        start.restore()?;
        let mode = repeatable_mode(learner, batch)?;
        start.restore()?;
        match mode {
            Some(train) => {
                let place = Place::new(learner, batch, train)?;
                self.run_at(&place, learner, batch, start)
            }
            None => self.run_at_random(learner, batch, start),
        }
    }

    fn run_at<'l, 'a>(
        &self,
        place: &Place<'l, 'a>,
        learner: &'l Learner<'a>,
        batch: &'l Batch,
        start: &Snapshot,
    ) -> Result<LossDecreasesReport> {
        let pass = place.pass()?;
        self.detached(&pass.evaluation)?;
        let loss = scalar(&pass.evaluation.loss)?;
        finite(loss)?;
        gradients_are_finite(learner, &pass)?;
        let rounding = place.rounding(&pass.evaluation.loss)?;
        let slopes = slopes(learner, &pass)?;
        if slopes.is_empty() {
            return Err(without_slope(&pass, loss));
        }
        let all: Vec<&Slope> = slopes.iter().collect();
        let together = try_steps(place, &all, loss, rounding)?;
        if together.steps.is_empty() && !together.falls {
            return Err(Failure::vacuous(format!(
                "the loss is at its floor: {}, and no step against its gradient would change it beyond its rounding of {}",
                number(loss),
                number(rounding),
            ))
            .help("give it a batch that is not fitted already"));
        }
        let alone = alone(place, &slopes, loss, rounding)?;
        let mut findings = wrong_way(&alone.reversed, &together, slopes.len());
        let lowest = together.falls.then_some(&together).or(alone.falls.as_ref());
        if lowest.is_none() && findings.is_empty() {
            if together.rises_both_ways() {
                return Err(Failure::vacuous(format!(
                    "the loss is at its lowest, in a kink: from {} it rises against its gradient and along it",
                    number(loss),
                )));
            }
            findings.push(Finding::possible(
                Cause::GradientWrong,
                "no step against the gradient keeps a tenth of the fall that it promises",
            ));
        }
        let findings = call::not_allowed(findings, &self.allowed);
        if !findings.is_empty() {
            let headline = match alone.reversed.len() {
                0 => format!(
                    "the loss does not fall against its gradient: from {}, at {} tried",
                    number(loss),
                    count(together.steps.len(), "length"),
                ),
                n => format!("the loss rises against the gradient of {}", count(n, "variable")),
            };
            let mut failure = Failure::violated(headline);
            if lowest.is_none() {
                failure = failure.fact("steps", lengths(&together.steps));
            }
            return Err(failure.with_findings(findings));
        }
        let bench = Bench {
            learner,
            batch,
            start,
            look: Look::Once(place),
            lower: loss - 4.0 * rounding,
            steps: self.steps,
        };
        let losses = self.of_optimizer(&bench, loss)?;
        let kept = lowest.and_then(|t| t.steps.last()).map(|(promise, fall)| fall / promise);
        Ok(LossDecreasesReport { losses, kept, judged_alone: alone.judged, noise: rounding })
    }

    /// A loss that draws at random, and has no other mode: its mean is looked at.
    fn run_at_random(
        &self,
        learner: &Learner<'_>,
        batch: &Batch,
        start: &Snapshot,
    ) -> Result<LossDecreasesReport> {
        let losses = draws(learner, batch)?;
        start.restore()?;
        let n = losses.len() as f64;
        let mean = losses.iter().sum::<f64>() / n;
        let variance = losses.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let error = (variance / n).sqrt();
        // The lowest of many means is below their own mean by some of their errors: a fall is more than that.
        let lower = mean - FALL_IN_ERRORS * error;
        let bench = Bench { learner, batch, start, look: Look::Mean, lower, steps: self.steps };
        let losses = self.of_optimizer(&bench, mean)?;
        Ok(LossDecreasesReport { losses, kept: None, judged_alone: 0, noise: error })
    }

    fn of_optimizer(&self, bench: &Bench<'_, '_, '_>, loss: f64) -> Result<Vec<f64>> {
        let Some(trial) = bench.run(1.0)? else { return Ok(vec![loss]) };
        let losses: Vec<f64> = std::iter::once(loss).chain(trial.losses.iter().copied()).collect();
        if trial.falls {
            return Ok(losses);
        }
        let why = bench.why(&trial)?;
        let findings = call::not_allowed(why.clone(), &self.allowed);
        // What was found and is allowed is why it does not fall.
        if !why.is_empty() && findings.is_empty() {
            return Ok(losses);
        }
        let last = losses[losses.len() - 1];
        let (before, lowest) = match trial.lowest() {
            lowest if lowest == loss => (number(loss), number(loss)),
            lowest => told_apart(loss, lowest),
        };
        let headline = match last.is_finite() {
            true => format!(
                "the optimizer does not lower the loss: {before} before, {lowest} at its lowest in {}",
                count(trial.losses.len(), "step"),
            ),
            false => format!(
                "the optimizer takes the loss from {} to {} in {}",
                number(loss),
                number(last),
                count(trial.losses.len(), "step"),
            ),
        };
        let failure = Failure::violated(headline)
            .fact("loss", wording::curve(&losses))
            .fact("learning rate", number(trial.rate));
        Err(match findings.is_empty() {
            true => failure.help(
                "the loss falls against its gradient: look at what the optimizer makes of it",
            ),
            false => failure.with_findings(findings),
        })
    }

    /// A loss without a graph under an output that has one.
    fn detached(&self, evaluation: &Evaluation) -> Result<()> {
        if evaluation.loss.track_op() {
            return Ok(());
        }
        let tracked = evaluation.output.as_ref().map(candle_core::Tensor::track_op);
        let failure = Failure::violated("the loss has no gradient: no step can lower it");
        Err(match tracked {
            Some(true) => failure.finding(Finding::confirmed(
                Cause::LossDetached,
                "the output carries a graph and the loss does not: no variable gets a gradient",
            )),
            Some(false) => failure.finding(Finding::possible(
                Cause::VariableUntracked,
                "the output carries no graph: the model computes with other tensors, or detaches its result",
            )),
            None => failure
                .finding(Finding::possible(Cause::LossDetached, "the loss carries no graph")),
        })
    }
}

/// In fifty means of sixteen the lowest is 2.3 errors below theirs; the first may be as far above.
const FALL_IN_ERRORS: f64 = 4.0;

fn finite(loss: f64) -> Result<()> {
    if loss.is_finite() {
        return Ok(());
    }
    let evidence = format!("the loss is {} before the first step", number(loss));
    Err(Failure::violated(evidence.clone()).finding(Finding::confirmed(Cause::NotFinite, evidence)))
}

fn gradients_are_finite(learner: &Learner<'_>, pass: &Pass) -> Result<()> {
    let bad: Vec<&str> = (learner.trainable().zip(&pass.arrived))
        .filter(|(_, arrived)| arrived.is_some_and(|arrived| !arrived.finite))
        .map(|((name, _), _)| name)
        .collect();
    match bad.is_empty() {
        true => Ok(()),
        false => Err(Failure::violated("the loss is finite, and its gradient is not").finding(
            Finding::confirmed(Cause::NotFinite, "the gradient holds NaN or an infinity")
                .at(listed(&bad)),
        )),
    }
}

fn without_slope(pass: &Pass, loss: f64) -> Failure {
    if pass.arrived.iter().all(Option::is_none) {
        return Failure::violated("no variable gets a gradient: no step can lower the loss")
            .finding(Finding::possible(
                Cause::VariableUntracked,
                "the loss carries a graph that reaches none of the learner's variables",
            ));
    }
    Failure::vacuous(format!("every gradient is exactly zero, at a loss of {}", number(loss)))
        .help("give it a batch that is not fitted already; `assert_gradients_flow!` tells zeros from cuts")
}

fn wrong_way(wrong: &[String], together: &descent::Tried, all: usize) -> Vec<Finding> {
    if !wrong.is_empty() {
        let names: Vec<&str> = wrong.iter().map(String::as_str).collect();
        let evidence = format!(
            "no step against the gradient lowers the loss, and steps along it do; so for {} of {}",
            wrong.len(),
            count(all, "variable"),
        );
        return vec![
            Finding::confirmed(Cause::GradientWrong, evidence).at(listed(&names)).advice_is(
                "check the sign of a hand-written backward pass, and of a straight-through estimator: `x + (f(x) - x).detach()`",
            ),
        ];
    }
    match together.is_reversed() {
        true => vec![Finding::confirmed(
            Cause::GradientWrong,
            "a step of all variables against their gradients raises the loss, one along them lowers it",
        )],
        false => Vec::new(),
    }
}

/// What was promised and what came of it, the longest step first.
fn lengths(steps: &[(f64, f64)]) -> String {
    let shown = steps.iter().take(6).map(|(promise, fall)| {
        let came = if *fall >= 0.0 { "fell" } else { "rose" };
        format!("{} promised, {came} by {}", number(*promise), number(fall.abs()))
    });
    shown.collect::<Vec<_>>().join("\n")
}
