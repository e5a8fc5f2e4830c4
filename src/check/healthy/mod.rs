//! Everything that applies.

mod functions;
mod start;
mod together;
mod values;

use std::panic::Location;

use super::{
    GradientsCorrect, GradientsFlow, LossDecreases, OverfitsBatch, OverfitsBatchReport, UnitsAlive,
    call,
};
use crate::{Batch, Cause, Failure, FailureKind, Learner, Result};
use functions::Functions;
use together::together;
use values::{finite, labels};

/// Everything that applies to a learner and one batch of it, in one report.
///
/// | check | applies to | what must hold |
/// |---|---|---|
/// | `finite` | every learner | no NaN or infinity in input, targets, variables and output |
/// | `labels` | `classes` given, integer targets | every label in `0..classes` |
/// | `initialized` | variables | no weight is constant but zero, a copy, or shared: see [`Initialized`](super::Initialized) |
/// | `deterministic` | a forward closure | see [`Deterministic`](super::Deterministic) |
/// | `batch_independent` | a forward closure, two rows or more | see [`BatchIndependent`](super::BatchIndependent) |
/// | `uses_input` | a forward closure of one float tensor | see [`UsesInput`](super::UsesInput) |
/// | `causal` | asked for by `causal = true` | see [`Causal`](super::Causal) |
/// | `train_eval_modes` | a learner that knows modes | see [`TrainEvalModes`](super::TrainEvalModes) |
/// | `initial_loss` | a loss that is a cross-entropy or a squared error by its value | not too high: see [`InitialLoss`](super::InitialLoss) |
/// | `gradients_flow` | a loss and variables | see [`GradientsFlow`] |
/// | `gradients_correct` | f32, f64, or a learner from [`Learner::build`] | see [`GradientsCorrect`] |
/// | `units_alive` | layers that can be seen from the output | see [`UnitsAlive`] |
/// | `loss_decreases` | a loss and variables | see [`LossDecreases`] |
/// | `overfits_batch` | a loss and variables | see [`OverfitsBatch`] |
///
/// The forward closure is judged in evaluation mode. Where the learner does not know modes ([`Learner::with_modes`] does), its
/// closure may be one of training: random draws are no failure then, nor are rows mixed by a model with running statistics.
/// The learner may be trained already: that its loss is low and its weights have grown is no failure here, and weights of zero
/// are left to `gradients_flow`, which tells a gate that opens from a layer that stays shut.
///
/// All checks run, whether or not one fails; the failure lists each with its verdict, and all findings together. Two
/// failures make what follows them meaningless, and it is left out then: slopes where a gradient is cut, and whatever
/// trains or differentiates where the function keeps state between calls.
///
/// # Errors
///
/// [`Violated`](FailureKind::Violated) where any check was; else `Vacuous`, else `NotRun`, in this order.
///
/// # Examples
///
/// ```
/// use candling::{check::Healthy, prelude::*, synthetic};
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let l1 = candle_nn::linear(2, 32, vb.pp("l1"))?;
/// let l2 = candle_nn::linear(32, 2, vb.pp("l2"))?;
/// let (x, y) = synthetic::spirals(Seed::new(1), 2, 4)?;
///
/// let good = Learner::new(&vars, |x| l2.forward(&l1.forward(x)?.relu()?), loss::cross_entropy);
/// Healthy::new().classes(2).check(&good, (&x, &y))?;
///
/// let detached = Learner::new(&vars, |x| l2.forward(&l1.forward(x)?.detach()), loss::cross_entropy);
/// let failure = Healthy::new().check(&detached, (&x, &y)).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::GradientCut));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct Healthy {
    classes: Option<usize>,
    causal: bool,
    loss_below: Option<f64>,
    steps: Option<usize>,
    skipped: Vec<String>,
    allowed: Vec<Cause>,
}

/// What a passed [`Healthy`] measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HealthyReport {
    /// The checks that ran, in order.
    pub ran: Vec<&'static str>,
    /// What the training measured; `None` where it was skipped or does not apply.
    pub overfits_batch: Option<OverfitsBatchReport>,
}

/// Every check there is, in the order it runs.
const CHECKS: [&str; 14] = [
    "finite",
    "labels",
    "initialized",
    "deterministic",
    "batch_independent",
    "uses_input",
    "causal",
    "train_eval_modes",
    "initial_loss",
    "gradients_flow",
    "gradients_correct",
    "units_alive",
    "loss_decreases",
    "overfits_batch",
];

/// Where the checks begin that need a loss.
const FIRST_ON_LOSS: usize = 8;

impl Default for Healthy {
    fn default() -> Self {
        Self::new()
    }
}

impl Healthy {
    /// Every check that applies.
    pub fn new() -> Self {
        Self {
            classes: None,
            causal: false,
            loss_below: None,
            steps: None,
            skipped: Vec::new(),
            allowed: Vec::new(),
        }
    }

    /// How many classes the targets have: labels must lie in `0..classes`. Default: not judged.
    pub fn classes(mut self, classes: usize) -> Self {
        self.classes = Some(classes);
        self
    }

    /// Whether an output at one position must not depend on later ones: see [`Causal`](super::Causal). Positions are
    /// dimension 1 of input and output. Default: not judged.
    pub fn causal(mut self, causal: bool) -> Self {
        self.causal = causal;
        self
    }

    /// The loss a fitted batch has: see [`OverfitsBatch::loss_below`]. Default: 1 % of the first loss.
    pub fn loss_below(mut self, loss: f64) -> Self {
        self.loss_below = Some(loss);
        self
    }

    /// How many steps the training may take: see [`OverfitsBatch::steps`]. Default 300.
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = Some(steps);
        self
    }

    /// Checks to leave out, by the names in the table of [`Healthy`].
    pub fn skip<S: Into<String>>(mut self, checks: impl IntoIterator<Item = S>) -> Self {
        self.skipped.extend(checks.into_iter().map(Into::into));
        self
    }

    /// Does not fail for this cause: it is intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Runs every check that applies to `learner` and `batch`; every variable keeps its value.
    ///
    /// # Errors
    ///
    /// See [`Healthy`].
    #[track_caller]
    pub fn check(&self, learner: &Learner<'_>, batch: impl Into<Batch>) -> Result<HealthyReport> {
        let (batch, location) = (batch.into(), Location::caller());
        call::run("healthy", location, || self.run(learner, &batch))
    }

    fn run(&self, learner: &Learner<'_>, batch: &Batch) -> Result<HealthyReport> {
        self.validate()?;
        let mut outcomes = Vec::new();
        if self.runs("finite") {
            outcomes.push(("finite", finite(learner, batch)));
        }
        if let Some(classes) = self.classes.filter(|_| self.runs("labels")) {
            outcomes.push(("labels", labels(batch, classes)));
        }
        if self.runs("initialized") {
            let outcome = start::initialized(learner, &self.allowed)?;
            outcomes.extend(outcome.map(|outcome| ("initialized", outcome)));
        }
        if !learner.owns_data() {
            outcomes.extend(self.functions(learner, batch)?);
        }
        let mut fit = None;
        let mut left_out = Vec::new();
        // Such a function is another one at every step, and may carry the graph of all earlier calls along.
        let keeps_state = found(&outcomes, "deterministic", Cause::StateKept);
        if keeps_state {
            let names = CHECKS[FIRST_ON_LOSS..].iter().filter(|name| self.runs(name));
            let names = names.filter(|_| learner.has_loss());
            left_out.extend(names.map(|name| (*name, "not run: state is kept between calls")));
        } else {
            if self.runs("initial_loss") {
                let outcome = start::initial_loss(learner, batch, &self.allowed)?;
                outcomes.extend(outcome.map(|outcome| ("initial_loss", outcome)));
            }
            self.gradients(learner, batch, &mut outcomes, &mut left_out);
        }
        if self.runs("overfits_batch") && learner.has_loss() && !keeps_state {
            let mut options = OverfitsBatch::new();
            if let Some(loss) = self.loss_below {
                options = options.loss_below(loss);
            }
            if let Some(steps) = self.steps {
                options = options.steps(steps);
            }
            options = self.allowed.iter().fold(options, |options, cause| options.allow(*cause));
            let outcome = options.check(learner, batch).map(|report| fit = Some(report));
            outcomes.push(("overfits_batch", outcome));
        }
        let ran: Vec<&str> = outcomes.iter().map(|(name, _)| *name).collect();
        if ran.is_empty() {
            return Err(Failure::vacuous("every check that applies is skipped"));
        }
        match outcomes.iter().any(|(_, outcome)| outcome.is_err()) {
            true => Err(together(outcomes, left_out)),
            false => Ok(HealthyReport { ran, overfits_batch: fit }),
        }
    }

    /// The checks on the forward closure that apply.
    fn functions(
        &self,
        learner: &Learner<'_>,
        batch: &Batch,
    ) -> Result<Vec<(&'static str, Result<()>)>> {
        let functions = Functions::new(learner, batch.input(), &self.allowed)?;
        let mut outcomes = Vec::new();
        let mut where_it_applies = |name: &'static str, outcome: Option<Result<()>>| {
            outcomes.extend(outcome.map(|outcome| (name, outcome)));
        };
        if self.runs("deterministic") {
            where_it_applies("deterministic", functions.deterministic());
        }
        if self.runs("batch_independent") {
            where_it_applies("batch_independent", functions.batch_independent());
        }
        if self.runs("uses_input") {
            where_it_applies("uses_input", functions.uses_input());
        }
        if self.causal && self.runs("causal") {
            where_it_applies("causal", Some(functions.causal()));
        }
        if self.runs("train_eval_modes") {
            where_it_applies("train_eval_modes", functions.train_eval_modes());
        }
        Ok(outcomes)
    }

    /// The checks on gradients that apply: slopes cannot be measured in half precision, and a graph that ends before
    /// every layer shows none. Behind a cut every gradient is wrong, which is no second bug.
    fn gradients(
        &self,
        learner: &Learner<'_>,
        batch: &Batch,
        outcomes: &mut Vec<(&'static str, Result<()>)>,
        left_out: &mut Vec<(&'static str, &'static str)>,
    ) {
        if !learner.has_loss() {
            return;
        }
        let allowed = &self.allowed;
        if self.runs("gradients_flow") {
            let options = allowed.iter().fold(GradientsFlow::new(), |o, cause| o.allow(*cause));
            outcomes.push(("gradients_flow", options.check(learner, batch).map(drop)));
        }
        let cut = found(outcomes, "gradients_flow", Cause::GradientCut);
        let mut where_it_applies = |name: &'static str, outcome: Result<()>| {
            let applies = |f: &Failure| f.kind() == FailureKind::Violated;
            if outcome.as_ref().err().is_none_or(applies) {
                outcomes.push((name, outcome));
            }
        };
        if self.runs("gradients_correct") && cut {
            left_out.push(("gradients_correct", "not run: a gradient is cut"));
        } else if self.runs("gradients_correct") {
            let options = allowed.iter().fold(GradientsCorrect::new(), |o, cause| o.allow(*cause));
            where_it_applies("gradients_correct", options.check(learner, batch).map(drop));
        }
        if self.runs("units_alive") {
            let options = allowed.iter().fold(UnitsAlive::new(), |o, cause| o.allow(*cause));
            where_it_applies("units_alive", options.check(learner, batch).map(drop));
        }
        if self.runs("loss_decreases") {
            let options = allowed.iter().fold(LossDecreases::new(), |o, cause| o.allow(*cause));
            where_it_applies("loss_decreases", options.check(learner, batch).map(drop));
        }
    }

    fn runs(&self, check: &str) -> bool {
        !self.skipped.iter().any(|skipped| skipped == check)
    }

    fn validate(&self) -> Result<()> {
        if let Some(unknown) = self.skipped.iter().find(|name| !CHECKS.contains(&name.as_str())) {
            let was = format!("{unknown:?}");
            return Err(Failure::bad_argument("skip", was, CHECKS.join(", ")));
        }
        match self.classes {
            Some(0) => Err(Failure::bad_argument("classes", 0, "1 or more")),
            _ => Ok(()),
        }
    }
}

/// Whether a check proved a cause.
fn found(outcomes: &[(&'static str, Result<()>)], check: &str, cause: Cause) -> bool {
    let failures = outcomes.iter().filter(|(name, _)| *name == check);
    let mut findings = failures.filter_map(|(_, o)| o.as_ref().err()).flat_map(Failure::findings);
    findings.any(|finding| finding.cause() == cause && finding.is_confirmed())
}
