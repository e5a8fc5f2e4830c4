use std::panic::Location;

use super::{blind, why};
use crate::{
    Batch, Cause, Failure, Finding, Learner, Result, Snapshot,
    check::{
        arguments, call,
        function::guarded,
        training::learning::trained::{beats, better, floor, rates, train},
    },
    verdict::number,
};

/// A learner learns from its input: trained on the batch it beats itself, trained without what the input says.
///
/// A network can lower its loss without looking: biases learn how often each class comes up, and how large the targets
/// are. A training whose loss falls is therefore no proof that anything reads the input. This check trains twice from the
/// same weights, once on the batch and once on the batch with its input made constant, restores every variable, and
/// compares.
///
/// # What must hold
///
/// The loss with the input ends lower than without by the [`margin`](Self::margin): of the loss, or, where an offset hides
/// that, of what training takes off it. Without the input means: floats are zeros, tokens all one id of the batch, masks
/// let everything through; where a model cannot stand that (a norm of zeros), every row holds the first row's input.
/// Positions stay, so a language model may learn there what each position usually holds. Both trainings have the learner's
/// own optimizer, or the default one at 0.01, then 0.001 and 0.1 where that is not enough.
///
/// # Errors
///
/// [`Violated`](crate::FailureKind::Violated) with both losses; where not one bit of the loss differs between the two
/// trainings, the input reaches nothing, and the failure says so. `Vacuous` for a batch of one row, or whose inputs or
/// targets are all equal; `NotRun` for a learner from [`Learner::from_loss`], whose input cannot be changed, a setting that
/// cannot be used, or a closure that returns an error.
///
/// *Source:* the input-independent baseline of A. Karpathy, [*A recipe for training neural
/// networks*](https://karpathy.github.io/2019/04/25/recipe/) (2019).
///
/// # Examples
///
/// ```
/// use candling::{check::LearnsFromInput, prelude::*, synthetic};
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let l1 = candle_nn::linear(2, 32, vb.pp("l1"))?;
/// let l2 = candle_nn::linear(32, 2, vb.pp("l2"))?;
/// let (x, y) = synthetic::spirals(Seed::new(1), 2, 4)?;
///
/// let learner = Learner::new(&vars, |x| l2.forward(&l1.forward(x)?.relu()?), loss::cross_entropy);
/// let report = LearnsFromInput::new().check(&learner, (&x, &y))?;
/// assert!(report.loss < 0.1 * report.loss_without);
///
/// // A mask that was meant for the padding, and is 0 everywhere.
/// let mask = x.zeros_like()?;
/// let masked = Learner::new(&vars, |x| l2.forward(&l1.forward(&(x * &mask)?)?.relu()?), loss::cross_entropy);
/// let failure = LearnsFromInput::new().check(&masked, (&x, &y)).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::InputIgnored));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct LearnsFromInput {
    steps: usize,
    margin: f64,
    allowed: Vec<Cause>,
}

/// What a passed [`LearnsFromInput`] measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LearnsFromInputReport {
    /// The loss before training.
    pub initial_loss: f64,
    /// The loss at the end of the training with the input.
    pub loss: f64,
    /// The loss at the end of the training without.
    pub loss_without: f64,
    /// The loss before each step with the input, and after the last.
    pub losses: Vec<f64>,
    /// The same without.
    pub losses_without: Vec<f64>,
    /// What was done to the input: `every input zeroed`.
    pub without: String,
    /// What was found and allowed.
    pub allowed: Vec<Finding>,
}

impl Default for LearnsFromInput {
    fn default() -> Self {
        Self::new()
    }
}

impl LearnsFromInput {
    /// 300 steps, and a tenth lower with the input than without.
    pub fn new() -> Self {
        Self { steps: 300, margin: 0.1, allowed: Vec::new() }
    }

    /// How many optimizer steps each training may take. Default 300.
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }

    /// By what share the loss must be lower with the input, in (0, 1). Default 0.1: a network that reads its input
    /// memorises a batch, and leaves little of the loss; one that does not differs from its blind twin by rounding.
    pub fn margin(mut self, share: f64) -> Self {
        self.margin = share;
        self
    }

    /// Does not fail for this cause: it is intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Trains `learner` on `batch`, `(&x, &y)`, with its input and without, and restores it.
    ///
    /// # Errors
    ///
    /// See [`LearnsFromInput`].
    #[track_caller]
    pub fn check(
        &self,
        learner: &Learner<'_>,
        batch: impl Into<Batch>,
    ) -> Result<LearnsFromInputReport> {
        let (batch, location) = (batch.into(), Location::caller());
        call::run("learns_from_input", location, || self.run(learner, &batch))
    }

    fn run(&self, learner: &Learner<'_>, batch: &Batch) -> Result<LearnsFromInputReport> {
        self.validate(learner, batch)?;
        let guard = Snapshot::take(learner.variables())?.guard();
        let before = guard.snapshot();
        let (initial, floor) = floor(learner, batch)?;
        if initial == 0.0 {
            return Err(Failure::vacuous(
                "the loss is 0 before the first step: nothing is left to learn",
            ));
        }
        if !initial.is_finite() {
            let evidence = format!("the loss is {}", number(initial));
            return Err(Failure::not_run(format!("{evidence} before the first step"))
                .finding(Finding::confirmed(Cause::NotFinite, evidence))
                .help("`assert_overfits_batch!` names the origin"));
        }
        before.restore()?;
        blind::is_to_be_told_apart(learner, batch)?;
        let blind = blind::blind(learner, batch, before)?;

        let (mut with, mut without) = (None, None);
        for rate in rates(learner) {
            let sighted = train(learner, batch, self.steps, floor, rate, before)?;
            // Clearly lower than this, and the input was no help.
            let enough = match sighted.last > 0.0 {
                true => 0.99 * sighted.last,
                false => f64::NEG_INFINITY,
            };
            let unsighted = guarded("the training without the input", || {
                train(learner, &blind.batch, self.steps, enough, rate, before)
            })?;
            let (sighted, unsighted) = (better(with, sighted), better(without, unsighted));
            if beats(sighted.last, unsighted.last, initial, self.margin) {
                return Ok(LearnsFromInputReport {
                    initial_loss: initial,
                    loss: sighted.last,
                    loss_without: unsighted.last,
                    losses: sighted.losses,
                    losses_without: unsighted.losses,
                    without: blind.how,
                    allowed: Vec::new(),
                });
            }
            (with, without) = (Some(sighted), Some(unsighted));
        }
        let (Some(with), Some(without)) = (with, without) else {
            return Err(Failure::not_run("no training was run"));
        };
        let compared = why::Compared { learner, batch, before, with: &with, without: &without };
        let failure = compared.failure(&blind, self.steps, self.margin)?;
        let findings = failure.findings().to_vec();
        if !call::not_allowed(findings.clone(), &self.allowed).is_empty() {
            return Err(failure);
        }
        Ok(LearnsFromInputReport {
            initial_loss: initial,
            loss: with.last,
            loss_without: without.last,
            losses: with.losses,
            losses_without: without.losses,
            without: blind.how,
            allowed: findings,
        })
    }

    fn validate(&self, learner: &Learner<'_>, batch: &Batch) -> Result<()> {
        if self.steps == 0 {
            return Err(Failure::bad_argument("steps", 0, "1 or more"));
        }
        if !(self.margin > 0.0 && self.margin < 1.0) {
            return Err(Failure::bad_argument("margin", number(self.margin), "a share in (0, 1)"));
        }
        if learner.owns_data() {
            return Err(Failure::bad_argument(
                "learner",
                "one from `Learner::from_loss`, whose closure owns its data: its input cannot be changed",
                "a learner with a forward and a loss closure",
            ));
        }
        arguments::learner(learner)?;
        arguments::batch(learner, batch)
    }
}
