use std::panic::Location;

use super::{attempt::Attempt, input_blind, wording};
use crate::check::arguments;
use crate::{
    Batch, Cause, Failure, Finding, Learner, Result, Snapshot,
    check::call,
    diagnose::{self, Case, Goal, Trajectory},
    learner::Evaluation,
    measure::{accuracy::accuracy, blind_loss::of_best_constant, values::scalar},
    verdict::number,
};

/// The loss of one batch goes to its floor, and not from an input-blind shortcut.
///
/// A network that cannot memorise a handful of samples cannot learn: overfitting one batch is the oldest test there is
/// (A. Karpathy, *A recipe for training neural networks*, 2019). This check trains on the batch, in place, restores
/// every variable, and reads how the loss went. What a fit alone would hide fails it too, where it is proved: a variable
/// that shapes the result and gets no gradient, one that the optimizer does not own, a frozen one that moved, a NaN that
/// a ReLU swallows, and a loss that computes something else than its input asks for.
///
/// # What must hold
///
/// Without [`loss_below`](Self::loss_below) the loss must fall to 1 % of its first value within
/// [`steps`](Self::steps), or to 10 % while still falling. Where the loss is recognised as cross-entropy (binary or not)
/// or squared error, the loss of the best constant prediction stands for the first value if it is lower: the entropy of
/// the classes, the variance of the targets. Under the default optimizer a fit at a learning rate of 0.01, 0.001 or 0.1
/// is a fit. The fitted model must then lose that fit when its rows are
/// given to one another's targets, or when its input is zeroed: a fit that survives either is
/// [`Vacuous`](crate::FailureKind::Vacuous), since the batch can be fitted without looking at the input. So is one whose
/// loss falls below zero, where 1 % of the first value is no floor and `loss_below` has to name one.
///
/// # Errors
///
/// [`Violated`](crate::FailureKind::Violated) with what was found; `NotRun` for a batch, a learner or a setting that
/// cannot be used, or where a closure returns an error; `Vacuous` where nothing was proved.
///
/// # Examples
///
/// ```
/// use candling::{check::{OverfitsBatch, Trajectory}, prelude::*, synthetic};
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let l1 = candle_nn::linear(2, 32, vb.pp("l1"))?;
/// let l2 = candle_nn::linear(32, 2, vb.pp("l2"))?;
/// let (x, y) = synthetic::spirals(Seed::new(1), 2, 4)?;
///
/// let good = Learner::new(&vars, |x| l2.forward(&l1.forward(x)?.relu()?), loss::cross_entropy);
/// let report = OverfitsBatch::new().check(&good, (&x, &y))?;
/// assert!(report.final_loss < 0.1 * report.initial_loss);
///
/// // A softmax before a loss that wants logits: nothing crashes, and the loss never gets below 0.3133.
/// let bad = Learner::new(
///     &vars,
///     |x| candle_nn::ops::softmax(&l2.forward(&l1.forward(x)?.relu()?)?, 1),
///     loss::cross_entropy,
/// );
/// let failure = OverfitsBatch::new().check(&bad, (&x, &y)).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::LossOnProbabilities));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct OverfitsBatch {
    steps: usize,
    loss_below: Option<f64>,
    accuracy: Option<f64>,
    allowed: Vec<Cause>,
}

/// What a passed [`OverfitsBatch`] measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OverfitsBatchReport {
    /// The loss before the first step.
    pub initial_loss: f64,
    /// The loss after the last step; in evaluation mode where the learner has modes and that is lower.
    pub final_loss: f64,
    /// The loss the training had to reach.
    pub target: f64,
    /// How many steps were taken.
    pub steps: usize,
    /// The loss before each step, and after the last.
    pub losses: Vec<f64>,
    /// The optimizer's learning rate. The default optimizer starts at 0.01 and tries 0.001 and 0.1 before it gives up.
    pub learning_rate: f64,
    /// How the loss went.
    pub trajectory: Trajectory,
    /// The share of rows whose largest output is their class; `None` where the targets are no classes.
    pub accuracy: Option<f64>,
    /// Trainable variables that nothing depends on, sorted by name.
    pub unused: Vec<String>,
}

impl Default for OverfitsBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl OverfitsBatch {
    /// 300 steps, to 1 % of the first loss, or of the best constant prediction's.
    pub fn new() -> Self {
        Self { steps: 300, loss_below: None, accuracy: None, allowed: Vec::new() }
    }

    /// How many optimizer steps may be taken. The training stops as soon as its target is reached. Default 300.
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }

    /// The loss to reach, in the loss's own unit. Needed where the floor is not zero: label smoothing, a Gaussian
    /// likelihood, an ELBO. Default: 1 % of the first loss, or of the best constant prediction's where that is lower.
    pub fn loss_below(mut self, loss: f64) -> Self {
        self.loss_below = Some(loss);
        self
    }

    /// The share of rows, in (0, 1], that must be classified right at the end. Default: not judged.
    pub fn accuracy(mut self, accuracy: f64) -> Self {
        self.accuracy = Some(accuracy);
        self
    }

    /// Does not fail for this cause: it is intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Trains `learner` on `batch` and restores it.
    ///
    /// `batch` is `(&x, &y)`, or `()` for a learner from [`Learner::from_loss`], for which the look at shuffled and
    /// zeroed inputs is left out.
    ///
    /// # Errors
    ///
    /// See [`OverfitsBatch`].
    #[track_caller]
    pub fn check(
        &self,
        learner: &Learner<'_>,
        batch: impl Into<Batch>,
    ) -> Result<OverfitsBatchReport> {
        let (batch, location) = (batch.into(), Location::caller());
        call::run("overfits_batch", location, || self.run(learner, &batch))
    }

    fn run(&self, learner: &Learner<'_>, batch: &Batch) -> Result<OverfitsBatchReport> {
        self.validate()?;
        arguments::learner(learner)?;
        arguments::batch(learner, batch)?;

        let guard = Snapshot::take(learner.variables())?.guard();
        let first = learner.evaluate(batch, true)?;
        arguments::evaluation(batch, &first)?;
        let initial = scalar(&first.loss)?;
        let baseline = match (&first.output, batch.target()) {
            (Some(output), Some(target)) => of_best_constant(output, target, initial)?,
            _ => None,
        };
        let goal = self.goal(initial, baseline)?;
        // Without a target only the losses' formula can be judged.
        let known = goal.unwrap_or(Goal::below(initial, f64::NEG_INFINITY));
        let before = guard.snapshot();

        let attempt = Attempt::run(learner, batch, self.steps, known, first, None)?;
        let case = attempt.case(learner, batch, known, before)?;
        let retry = goal.is_some() && !learner.has_own_optimizer() && !is_fitted(&case)?;
        if retry && !diagnose::is_hopeless(&case)? {
            if let Some(report) = self.at_other_rates(learner, batch, known, before)? {
                return Ok(report);
            }
            case.other_rates_failed.set(true);
        }
        self.judge(&case, goal.is_some())
    }

    /// The learning rate of candling's own optimizer is not under test: a fit at another one is a fit.
    fn at_other_rates(
        &self,
        learner: &Learner<'_>,
        batch: &Batch,
        goal: Goal,
        before: &Snapshot,
    ) -> Result<Option<OverfitsBatchReport>> {
        let ended = Snapshot::take(learner.variables())?;
        for rate in OTHER_RATES {
            before.restore()?;
            let first = learner.evaluate(batch, true)?;
            let attempt = Attempt::run(learner, batch, self.steps, goal, first, Some(rate))?;
            let case = attempt.case(learner, batch, goal, before)?;
            if is_fitted(&case)? {
                return self.judge(&case, true).map(Some);
            }
        }
        ended.restore()?;
        Ok(None)
    }

    fn judge(&self, case: &Case<'_, '_>, has_goal: bool) -> Result<OverfitsBatchReport> {
        // The questions move variables; the fitted values are needed first.
        let accuracy = match (case.ending, case.batch.target()) {
            (Some(Evaluation { output: Some(output), .. }), Some(target)) => {
                accuracy(output, target)?
            }
            _ => None,
        };
        let training = case.training;
        let fitted = is_fitted(case)?;
        if !fitted {
            case.note_ending()?;
        }
        let blind = match fitted {
            true => input_blind::survives(case)?,
            false => None,
        };
        let unused = match fitted {
            true => diagnose::unused(case)?,
            false => Vec::new(),
        };
        let wrong = call::not_allowed(diagnose::wrong_in_any_case(case)?, &self.allowed);

        if !fitted {
            let explained = wrong.iter().any(Finding::is_confirmed);
            let shown = diagnose::why_not_fitted(case, explained)?;
            let why = call::not_allowed(shown.findings, &self.allowed);
            let findings: Vec<Finding> = wrong.into_iter().chain(why).collect();
            if !has_goal && !findings.iter().any(Finding::is_confirmed) {
                return Err(wording::no_target(training.first()).with_findings(findings));
            }
            let mut failure = self.failed(case, wording::not_fitted(case), accuracy, findings);
            for (cause, evidence) in shown.ruled_out {
                failure = failure.ruled_out(cause, evidence);
            }
            return Err(failure);
        }
        let wrong: Vec<Finding> = wrong.into_iter().filter(fails_a_fit).collect();
        if !wrong.is_empty() {
            let sentence = format!("the loss falls, but not as it should: {}", case.way());
            return Err(self.failed(case, sentence, accuracy, wrong));
        }
        if let Some(blind) = blind.filter(|_| !self.allowed.contains(&Cause::InputNotLearned)) {
            return Err(blind);
        }
        if training.last() < 0.0 && !case.goal.strict {
            return Err(wording::below_zero(case));
        }
        if let Some(least) = self.accuracy {
            self.judge_accuracy(case, accuracy, least)?;
        }
        Ok(OverfitsBatchReport {
            initial_loss: training.first(),
            final_loss: training.last(),
            target: case.goal.target,
            steps: training.steps(),
            losses: training.losses.clone(),
            learning_rate: training.learning_rate,
            trajectory: case.trajectory,
            accuracy,
            unused,
        })
    }

    fn validate(&self) -> Result<()> {
        if self.steps == 0 {
            return Err(Failure::bad_argument("steps", 0, "1 or more"));
        }
        if let Some(loss) = self.loss_below.filter(|loss| !loss.is_finite()) {
            return Err(Failure::bad_argument("loss_below", loss, "a finite number"));
        }
        match self.accuracy {
            Some(share) if !(share > 0.0 && share <= 1.0) => {
                Err(Failure::bad_argument("accuracy", share, "a share in (0, 1]"))
            }
            _ => Ok(()),
        }
    }

    /// `None` where no target follows from a first loss below zero.
    fn goal(&self, initial: f64, baseline: Option<f64>) -> Result<Option<Goal>> {
        match self.loss_below {
            Some(target) if initial <= target => Err(Failure::vacuous(format!(
                "the loss is {} before the first step, at its target of {} already",
                number(initial),
                number(target),
            ))),
            Some(target) => Ok(Some(Goal::below(initial, target))),
            None if initial == 0.0 => {
                Err(Failure::vacuous("the loss is 0 before the first step: nothing is left to fit"))
            }
            None if initial < 0.0 => Ok(None),
            // A loss that is not finite has no target either, but the training tells where it broke.
            None => Ok(Some(Goal::default_for(initial, baseline))),
        }
    }

    fn judge_accuracy(&self, case: &Case<'_, '_>, accuracy: Option<f64>, least: f64) -> Result<()> {
        let Some(share) = accuracy else {
            return Err(Failure::bad_argument(
                "accuracy",
                "asked for where the targets are no classes of the output's last dimension",
                "integer targets, one for each row of outputs",
            ));
        };
        if share >= least {
            return Ok(());
        }
        let sentence = format!(
            "the loss reached its target, the accuracy did not: {} of {} asked for",
            number(share),
            number(least),
        );
        Err(self.failed(case, sentence, accuracy, Vec::new()))
    }

    fn failed(
        &self,
        case: &Case<'_, '_>,
        sentence: String,
        accuracy: Option<f64>,
        findings: impl IntoIterator<Item = Finding>,
    ) -> Failure {
        let mut failure =
            Failure::violated(sentence).fact("loss", wording::curve(&case.training.losses));
        if case.goal.target.is_finite() || case.training.broken.is_some() {
            failure = failure.fact("shape", case.trajectory.to_string());
        }
        if let Some(share) = accuracy {
            failure = failure.fact("accuracy", number(share));
        }
        if !case.learner.has_own_optimizer() {
            let others = if case.other_rates_failed.get() { OTHERS_FAILED } else { "" };
            failure = failure.fact("optimizer", format!("{DEFAULT_OPTIMIZER}{others}"));
        }
        if env!("CANDLING_OPT_LEVEL") == "0" {
            failure = failure.fact(
                "slow?",
                "candling was built without optimisation; README \"Faster tests\" has the lines that help",
            );
        }
        let failure = failure.with_findings(findings);
        match (case.trajectory, failure.findings().iter().any(Finding::is_confirmed)) {
            (Trajectory::FloorAboveZero | Trajectory::Oscillating, false) => failure.help(
                "where the loss has a floor above zero by right (label smoothing, soft targets, a penalty), name it with \
                 `loss_below`",
            ),
            (Trajectory::Slow, false) => failure.help("allow more `steps`, or take larger ones"),
            _ => failure,
        }
    }
}

/// What candling's own optimizer is tried at where its usual rate does not fit the batch.
pub(super) const OTHER_RATES: [f64; 2] = [1e-3, 1e-1];

pub(super) const DEFAULT_OPTIMIZER: &str = "the default: AdamW, at a learning rate of 0.01";

/// Added where the other rates were tried; a loss that is misused, or carries no gradient, is past that help.
const OTHERS_FAILED: &str = ", then 0.001 and 0.1";

/// Whether a finding fails a training whose loss got where it had to: one that is proved, and is no mere reason for a
/// slow start. A batch may be fitted before the smallest steps show.
fn fails_a_fit(finding: &Finding) -> bool {
    let of_pace = [Cause::LearningRateLow, Cause::PrecisionLoss, Cause::GradientVanishing]
        .contains(&finding.cause());
    finding.is_confirmed() && !of_pace
}

fn is_fitted(case: &Case<'_, '_>) -> Result<bool> {
    let fitted = |noisy| case.trajectory.is_fitted(case.training.last(), case.goal, noisy);
    // Whether the loss is noisy costs two evaluations: only where it matters.
    Ok(fitted(false) || (fitted(true) && is_noisy(case)?))
}

/// Whether two evaluations in training mode differ: dropout, or another draw inside the model.
fn is_noisy(case: &Case<'_, '_>) -> Result<bool> {
    let once = scalar(&case.learner.evaluate(case.batch, true)?.loss)?;
    let again = scalar(&case.learner.evaluate(case.batch, true)?.loss)?;
    Ok(once != again)
}
