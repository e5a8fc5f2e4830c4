//! A loss function against the contract it claims to keep.

mod arguments;
mod broadcast;
mod closure;
mod examples;
mod first_call;
mod form;
mod gradient;
mod ignored;
mod laws;
mod probes;
mod stability;
mod value;

use std::panic::Location;

use candle_core::Tensor;

use self::{
    closure::{Closure, Loss},
    probes::Probes,
    value::Values,
};
use crate::{Cause, Contract, Failure, Finding, Result, Seed, check::call, verdict::number};

/// A loss function computes what it claims to: its values, its reduction, its gradient, its bounds.
///
/// The loss is called on predictions and targets made for its [contract](crate::contract): random ones in batches of three
/// sizes, perfect, undecided and wrong ones. Its values are compared with the same loss in plain f64; a loss that gives other
/// values is compared with what each known mistake would give (a softmax too many, a sum for a mean, every row against every
/// other), and the one that explains all values to rounding is named.
///
/// # What must hold
///
/// - The value on random and undecided predictions is the reference's, to rounding and to 1e-4 of it, so that a small constant
///   inside a logarithm passes. Reduction, shift, permutation and the share of each row and class follow from that. For losses of
///   elements the sum over a row's features, averaged over the rows, is as good as the mean of all; half the squared error
///   passes for the squared error; label smoothing may spread over all classes or over the others.
/// - A perfect prediction costs 0, or the entropy that smoothed or soft labels leave, and less than an undecided one; a wrong one
///   costs more.
/// - Value and gradient are finite at logits of -100 and 100, and at probabilities of 0 and 1. candle's own
///   `binary_cross_entropy_with_logit` is not.
/// - The gradient is the reference's slope: of the right sign, reaching every row and every class.
/// - Ignored labels count for nothing: other predictions there leave the value as it is, bit for bit, and their gradient is 0.
/// - `(rows, 1)` against `(rows)` is right or an error, for losses of elements; where
///   [`shape`](Contract::shape) or [`target_shape`](Contract::target_shape) is given, the loss is called with these dims alone.
///
/// # Errors
///
/// [`Violated`](crate::FailureKind::Violated) with what was found: [`Cause::LossOnProbabilities`],
/// [`LossOnLogits`](Cause::LossOnLogits), [`LossSign`](Cause::LossSign), [`LossReduction`](Cause::LossReduction),
/// [`LossBroadcast`](Cause::LossBroadcast), [`LossIgnoresTarget`](Cause::LossIgnoresTarget),
/// [`LossIgnoresRows`](Cause::LossIgnoresRows), [`LossDetached`](Cause::LossDetached), [`LossUnstable`](Cause::LossUnstable),
/// [`PaddingLeak`](Cause::PaddingLeak), [`GradientWrong`](Cause::GradientWrong), or [`ValuesDiffer`](Cause::ValuesDiffer) where
/// it is another loss; `NotRun` for a contract that cannot be tested or a loss that returns an error; `Vacuous` for a contract
/// that promises nothing.
///
/// # Examples
///
/// ```
/// use candling::{check::LossContract, contract, prelude::*};
///
/// let report = LossContract::new().check(loss::cross_entropy, &contract::cross_entropy(10))?;
/// assert!(report.perfect.unwrap() < 1e-6);
/// assert!((report.uniform.unwrap() - 10f64.ln()).abs() < 1e-5);
///
/// let softmaxed = |x: &Tensor, y: &Tensor| loss::cross_entropy(&candle_nn::ops::softmax(x, 1)?, y);
/// let failure = LossContract::new().check(softmaxed, &contract::cross_entropy(10)).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::LossOnProbabilities));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct LossContract {
    seed: Option<Seed>,
    allowed: Vec<Cause>,
}

/// What a passed [`LossContract`] measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LossContractReport {
    /// The loss of a perfect prediction; `None` where the contract knows none.
    pub perfect: Option<f64>,
    /// The loss of a prediction that knows nothing.
    pub uniform: Option<f64>,
    /// The loss of a wrong prediction: of logits of 100 for another class.
    pub wrong: Option<f64>,
    /// How the rows become one number, in words: `averaged over the batch`; `None` without a formula.
    pub reduction: Option<&'static str>,
    /// What the reference is multiplied with: 1, or 0.5 for half the squared error.
    pub scale: f64,
    /// How many predictions were compared with the reference.
    pub probes: usize,
    /// The largest distance from the reference.
    pub max_absolute_difference: f64,
    /// Whether a label of `classes` is taken without an error, as one-hot rows by comparison do; `None` where there are no labels.
    pub takes_labels_outside: Option<bool>,
}

/// One thing that is wrong with the loss, and the sentence that says so.
struct Seen {
    headline: String,
    finding: Finding,
}

impl Seen {
    fn new(headline: impl Into<String>, finding: Finding) -> Self {
        Self { headline: headline.into(), finding }
    }
}

impl LossContract {
    /// Random predictions of seed 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the random predictions and targets come from. Default `Seed::new(0)`.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Does not fail for this cause: it is intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Tests `loss`, called with a prediction and a target, against `contract`.
    ///
    /// # Errors
    ///
    /// See [`LossContract`].
    #[track_caller]
    pub fn check(
        &self,
        mut loss: impl FnMut(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
        contract: &Contract,
    ) -> Result<LossContractReport> {
        call::run("loss_contract", Location::caller(), || self.run(&mut loss, contract))
    }

    fn run(&self, loss: &mut Closure<'_>, contract: &Contract) -> Result<LossContractReport> {
        arguments::contract(contract)?;
        let mut loss = Loss::new(loss);
        let seed = self.seed.unwrap_or(Seed::new(0));
        let mut report = LossContractReport {
            perfect: None,
            uniform: None,
            wrong: None,
            reduction: None,
            scale: contract.scale,
            probes: 0,
            max_absolute_difference: 0.0,
            takes_labels_outside: None,
        };
        let mut seen = Vec::new();
        let mut facts = vec![("contract", contract.described())];
        let probes = Probes::new(contract, seed);
        if let Some(probes) = &probes {
            let values = Values::measure(&mut loss, probes, &mut seen)?;
            facts.extend(values.facts(&loss_called_with(probes)?));
            values.note(&mut report);
            self.judge(&mut loss, probes, &values, &mut seen)?;
            report.takes_labels_outside = ignored::takes_labels_outside(&mut loss, probes)?;
        }
        examples::judge(&mut loss, contract, &mut report, &mut seen)?;
        laws::judge(&mut loss, contract, probes.as_ref(), &mut seen)?;

        seen.retain(|seen| !self.allowed.contains(&seen.finding.cause()));
        // A loss without a gradient trains nothing, whatever its values are.
        seen.sort_by_key(|seen| {
            (!seen.finding.is_confirmed(), seen.finding.cause() != Cause::LossDetached)
        });
        let Some(first) = seen.first() else { return Ok(report) };
        let failure = Failure::violated(first.headline.clone());
        let failure = facts.into_iter().fold(failure, |f, (label, value)| f.fact(label, value));
        Err(failure.with_findings(seen.into_iter().map(|seen| seen.finding)))
    }

    fn judge(
        &self,
        loss: &mut Loss<'_>,
        probes: &Probes<'_>,
        values: &Values,
        seen: &mut Vec<Seen>,
    ) -> Result<()> {
        let detached = gradient::judge(loss, probes, values, seen)?;
        stability::judge(loss, probes, values, detached, seen)?;
        let Some(accepted) = &values.accepted else { return Ok(()) };
        values.judge_order(seen);
        ignored::judge(loss, probes, accepted, seen)?;
        broadcast::judge(loss, probes, accepted, seen)
    }
}

/// What the loss is called with, for the reader.
fn loss_called_with(probes: &Probes<'_>) -> Result<String> {
    let probe = probes.probe(probes::Aim::Random, probes.rows)?;
    Ok(closure::called_with(&probe.prediction, &probe.target))
}

/// `1.46, 0 expected`.
fn beside(value: f64, expected: f64) -> String {
    let expected = if expected.abs() < 1e-9 { 0.0 } else { expected };
    let same = (value - expected).abs() <= 5e-3 * expected.abs() + 1e-9;
    match same {
        true => number(value),
        false => format!("{}, {} expected", number(value), number(expected)),
    }
}
