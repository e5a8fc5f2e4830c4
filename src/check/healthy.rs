use std::panic::Location;

use candle_core::Tensor;

use super::{
    GradientsCorrect, GradientsFlow, OverfitsBatch, OverfitsBatchReport, UnitsAlive, call,
};
use crate::{
    Batch, Cause, Failure, FailureKind, Finding, Learner, Result,
    measure::scan::is_finite,
    measure::values::to_f64_vec,
    verdict::{count, number},
};

/// Everything that applies to a learner and one batch of it, in one report.
///
/// | check | applies to | what must hold |
/// |---|---|---|
/// | `finite` | every learner | no NaN or infinity in input, targets, variables and output |
/// | `labels` | `classes` given, integer targets | every label in `0..classes` |
/// | `gradients_flow` | a loss and variables | see [`GradientsFlow`] |
/// | `gradients_correct` | f32, f64, or a learner from [`Learner::build`] | see [`GradientsCorrect`] |
/// | `units_alive` | layers that can be seen from the output | see [`UnitsAlive`] |
/// | `overfits_batch` | a loss and variables | see [`OverfitsBatch`] |
///
/// All checks run, whether or not one fails; the failure lists each with its verdict, and all findings together.
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
const CHECKS: [&str; 6] =
    ["finite", "labels", "gradients_flow", "gradients_correct", "units_alive", "overfits_batch"];

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
        outcomes.extend(self.gradients(learner, batch));
        let mut fit = None;
        if self.runs("overfits_batch") && learner.has_loss() {
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
            true => Err(together(outcomes)),
            false => Ok(HealthyReport { ran, overfits_batch: fit }),
        }
    }

    /// The checks on gradients that apply: slopes cannot be measured in half precision, and a graph that ends before
    /// every layer shows none.
    fn gradients(&self, learner: &Learner<'_>, batch: &Batch) -> Vec<(&'static str, Result<()>)> {
        let mut outcomes = Vec::new();
        if !learner.has_loss() {
            return outcomes;
        }
        let allowed = &self.allowed;
        if self.runs("gradients_flow") {
            let options = allowed.iter().fold(GradientsFlow::new(), |o, cause| o.allow(*cause));
            outcomes.push(("gradients_flow", options.check(learner, batch).map(drop)));
        }
        let mut where_it_applies = |name: &'static str, outcome: Result<()>| {
            let applies = |f: &Failure| f.kind() == FailureKind::Violated;
            if outcome.as_ref().err().is_none_or(applies) {
                outcomes.push((name, outcome));
            }
        };
        if self.runs("gradients_correct") {
            let options = allowed.iter().fold(GradientsCorrect::new(), |o, cause| o.allow(*cause));
            where_it_applies("gradients_correct", options.check(learner, batch).map(drop));
        }
        if self.runs("units_alive") {
            let options = allowed.iter().fold(UnitsAlive::new(), |o, cause| o.allow(*cause));
            where_it_applies("units_alive", options.check(learner, batch).map(drop));
        }
        outcomes
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

/// One failure of several: a line for each check, then all their findings.
fn together(outcomes: Vec<(&'static str, Result<()>)>) -> Failure {
    let all = outcomes.len();
    let failures: Vec<&Failure> = outcomes.iter().filter_map(|(_, o)| o.as_ref().err()).collect();
    let headline = format!("{} of {} failed", failures.len(), count(all, "check"));
    let is = |kind: FailureKind| failures.iter().any(|failure| failure.kind() == kind);
    let mut failure = if is(FailureKind::Violated) {
        Failure::violated(headline)
    } else if is(FailureKind::Vacuous) {
        Failure::vacuous(headline)
    } else {
        Failure::not_run(headline)
    };
    for (name, outcome) in &outcomes {
        let verdict = match outcome {
            Ok(()) => "passed".to_owned(),
            Err(failed) => failed.headline().to_owned(),
        };
        failure = failure.fact(*name, verdict);
    }
    for failed in failures {
        // What two checks prove is said once, by the one that was made for it.
        let proved: Vec<Cause> =
            failure.findings().iter().filter(|f| f.is_confirmed()).map(Finding::cause).collect();
        let new = failed.findings().iter().filter(|finding| !proved.contains(&finding.cause()));
        failure = failure.facts_of(failed).with_findings(new.cloned().collect::<Vec<_>>());
    }
    failure
}

fn finite(learner: &Learner<'_>, batch: &Batch) -> Result<()> {
    let members = batch.input().iter().enumerate();
    for (i, tensor) in members {
        require_finite(tensor, &format!("input {i}"))?;
    }
    if let Some(target) = batch.target() {
        require_finite(target, "the targets")?;
    }
    for (name, var) in learner.variables() {
        require_finite(var.as_tensor(), &format!("variable {name}"))?;
    }
    if !learner.owns_data() {
        require_finite(&learner.output(batch.input(), false)?, "the output")?;
    }
    Ok(())
}

fn require_finite(tensor: &Tensor, what: &str) -> Result<()> {
    if is_finite(tensor)? {
        return Ok(());
    }
    let bad = to_f64_vec(tensor)?.iter().filter(|v| !v.is_finite()).count();
    let evidence = format!("{bad} of {} NaN or infinite", count(tensor.elem_count(), "value"));
    Err(Failure::violated(format!("{what} is not finite"))
        .finding(Finding::confirmed(Cause::NotFinite, evidence).at(what)))
}

fn labels(batch: &Batch, classes: usize) -> Result<()> {
    let Some(target) = batch.target().filter(|target| !target.dtype().is_float()) else {
        return Err(Failure::bad_argument(
            "classes",
            format_args!("{classes}, for targets that are no integers"),
            "integer targets",
        ));
    };
    let values = to_f64_vec(target)?;
    let outside = |label: &&f64| !(0.0..classes as f64).contains(*label);
    let Some(place) = values.iter().position(|label| outside(&label)) else {
        return Ok(());
    };
    let bad = values.iter().filter(outside).count();
    let evidence = format!(
        "{} of {} lie outside 0..{classes}; the first is {}",
        bad,
        count(values.len(), "label"),
        number(values[place]),
    );
    Err(Failure::violated("a label is no class").finding(
        Finding::confirmed(Cause::LabelOutOfRange, evidence).at(format!("target {place}")),
    ))
}
