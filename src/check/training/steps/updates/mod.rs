//! The user's own training step.

mod decay;
mod direction;
mod driver;
mod headline;
mod sizes;
mod state;
mod still;
mod told;
mod walk;

use std::{cell::RefCell, fmt, panic::Location, rc::Rc};

use candle_core::Tensor;

use crate::{Cause, Failure, Finding, Result, Snapshot, Variables, check::call, verdict::count};

use driver::{Driver, Gradients, Loss, Step};
use headline::{headline, told_once};
pub use told::{VariableUpdate, VariableVerdict};
use walk::Walk;

/// The user's own training step moves every variable that is not frozen, no frozen one, by a sane share of its size.
///
/// The step is a closure that owns what a training loop owns: model, data, optimizer, schedule. It is called twenty to sixty
/// times, from the variables' own values and from others, and every variable then gets its value back bit for bit. The
/// optimizer's state, a schedule's counter and a data loader's position are the closure's own and cannot be put back:
/// make them for the test, and outside of the closure, as a training loop does.
///
/// # What must hold
///
/// - Every variable of a float dtype that is not [`frozen`](Self::frozen) and no running statistic changes by a bit or more
///   within the first [`steps`](Self::steps). One that does not is set to zero, where no step can be lost in rounding:
///   what moves there only takes steps that are too short for its format.
/// - No frozen variable changes by a bit; running statistics change by the forward pass alone.
/// - The weights change by a share of their size between 1e-7 and 2 (1e-3 is the rule of thumb of A. Karpathy's CS231n notes; both ends are
///   orders of magnitude off). Steps that still grow, as in a warm-up, are not judged to be too short.
/// - A step does not contain the gradients of earlier ones, and is no Adam's first step every time.
/// - Nothing shrinks by more than 0.4 % a step by itself. Vectors (gains of norms, biases) shrink by no more than 0.02 %,
///   twice what candle's AdamW does unless told otherwise at a rate of 1e-2; those that are not [`decayed`](Self::decayed),
///   where that is said, not at all.
///
/// With [`loss`](Self::loss), the same loss as the step's, also: the steps go down its gradient; a variable that does not
/// move is told from one without a gradient; penalties on the squares of the weights have the right sign, do not dominate,
/// and do not stand beside a decay in the optimizer. With [`learning_rate`](Self::learning_rate) also: no variable moves
/// twice, and no step is orders of magnitude from that rate.
///
/// Dropout and batches that differ from call to call do no harm: what needs a step that repeats itself holds to the last
/// digits, which random steps do not. The report's [`left_out`](StepUpdatesReport::left_out) lists what could not be judged.
/// Gradients accumulated over several calls are waited for, and a first learning rate of 0 is no fault.
///
/// # Errors
///
/// [`Violated`](crate::FailureKind::Violated) with a table of all variables; `NotRun` for variables or settings that cannot
/// be used, or where a closure returns an error or panics.
///
/// # Examples
///
/// ```
/// use candle_nn::AdamW;
/// use candling::{check::StepUpdates, prelude::*};
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let (l1, l2) = (candle_nn::linear(4, 8, vb.pp("l1"))?, candle_nn::linear(8, 3, vb.pp("l2"))?);
/// let x = Seed::new(1).normal("x", (6, 4), DType::F32, &Device::Cpu)?;
/// let y = Seed::new(1).tokens("y", 3, 6, &Device::Cpu)?;
/// let loss = || loss::cross_entropy(&l2.forward(&l1.forward(&x)?.relu()?)?, &y);
///
/// let mut optimizer = AdamW::new_lr(vars.all_vars(), 1e-3)?;
/// let report = StepUpdates::new().check(&vars, || optimizer.backward_step(&loss()?))?;
/// assert!(report.repeatable && report.variables.iter().all(|variable| variable.update > 0.0));
///
/// // The optimizer was given the variables of the head alone.
/// let mut optimizer = AdamW::new_lr(vec![vars.all_vars()[0].clone()], 1e-3)?;
/// let failure =
///     StepUpdates::new().loss(loss).check(&vars, || optimizer.backward_step(&loss()?)).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::OptimizerMissesVariable));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct StepUpdates<'a> {
    steps: usize,
    frozen: Vec<String>,
    /// Vectors that may decay, where the caller says which.
    decayed: Option<Vec<String>>,
    learning_rate: Option<f64>,
    loss: Option<Rc<RefCell<Box<Loss<'a>>>>>,
    allowed: Vec<Cause>,
}

/// What a passed [`StepUpdates`] measured. `Display` is the table of all variables.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepUpdatesReport {
    /// Every variable, sorted by name.
    pub variables: Vec<VariableUpdate>,
    /// How often the step was called.
    pub calls: usize,
    /// Calls from one change of the variables to the next: more than 1 where gradients are accumulated.
    pub calls_per_update: usize,
    /// The norm of each step in a row over all weights, as a share of their size.
    pub ratios: Vec<f64>,
    /// Whether two steps from the same values have one direction: nothing is drawn at random, and the data are the same.
    pub repeatable: bool,
    /// What could not be judged, and why.
    pub left_out: Vec<String>,
}

impl fmt::Display for StepUpdatesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&told::table(&self.variables))
    }
}

impl fmt::Debug for StepUpdates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepUpdates")
            .field("steps", &self.steps)
            .field("frozen", &self.frozen)
            .field("decayed", &self.decayed)
            .field("learning_rate", &self.learning_rate)
            .field("allowed", &self.allowed)
            .finish_non_exhaustive()
    }
}

impl Default for StepUpdates<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// So many calls may pass before one changes something: gradients accumulated over more are rare.
const PATIENCE: usize = 64;

impl<'a> StepUpdates<'a> {
    /// Ten steps, nothing frozen, decay on vectors as an optimizer has it by default.
    pub fn new() -> Self {
        Self {
            steps: 10,
            frozen: Vec::new(),
            decayed: None,
            learning_rate: None,
            loss: None,
            allowed: Vec::new(),
        }
    }

    /// How many steps in a row are looked at, each of as many calls as it takes to change something. A warm-up that starts
    /// again with every epoch shows within twice the epoch's steps. Default 10.
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }

    /// Names, or prefixes of names, of variables that must not train. Default: none.
    pub fn frozen<S: Into<String>>(mut self, prefixes: impl IntoIterator<Item = S>) -> Self {
        self.frozen.extend(prefixes.into_iter().map(Into::into));
        self
    }

    /// Names, or prefixes of names, of the vectors (gains of norms, biases) that weight decay may shrink: no other may, at
    /// all. `decayed::<&str>([])` is none, `decayed([""])` is all. Default: any may, by up to 0.02 % a step.
    pub fn decayed<S: Into<String>>(mut self, prefixes: impl IntoIterator<Item = S>) -> Self {
        let decayed = self.decayed.get_or_insert_default();
        decayed.extend(prefixes.into_iter().map(Into::into));
        self
    }

    /// The learning rate that the step is meant to have, for all variables: leave it out where groups have rates of their
    /// own. Default: not judged.
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.learning_rate = Some(learning_rate);
        self
    }

    /// Evaluates the loss of the step without taking it, on the same data, in the same mode, penalties included.
    /// Default: none, and what needs gradients is left out.
    pub fn loss(mut self, loss: impl FnMut() -> candle_core::Result<Tensor> + 'a) -> Self {
        self.loss = Some(Rc::new(RefCell::new(Box::new(loss))));
        self
    }

    /// Does not fail for this cause: it is intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Calls `step` twenty to sixty times and restores `vars`.
    ///
    /// # Errors
    ///
    /// See [`StepUpdates`].
    #[track_caller]
    pub fn check<V: Variables + ?Sized>(
        &self,
        vars: &V,
        mut step: impl FnMut() -> candle_core::Result<()>,
    ) -> Result<StepUpdatesReport> {
        let location = Location::caller();
        call::run("step_updates", location, || self.run(Snapshot::take(vars)?, &mut step))
    }

    fn run(&self, start: Snapshot, step: &mut Step<'_>) -> Result<StepUpdatesReport> {
        self.validate(&start)?;
        let guard = start.guard();
        let mut borrowed = match &self.loss {
            Some(loss) => Some(loss.try_borrow_mut().map_err(|_| {
                Failure::not_run("the loss closure calls the assertion it belongs to")
            })?),
            None => None,
        };
        let loss = borrowed.as_mut().map(|loss| &mut ***loss as &mut Loss<'_>);
        let frozen = |name: &str| begins(&self.frozen, name);
        let mut driver = Driver::new(step, loss, guard.snapshot(), frozen, PATIENCE)?;
        if driver.trained().next().is_none() {
            return Err(Failure::not_run(format!(
                "none of the {} may train: all are frozen, integers or running statistics",
                count(driver.watched.len(), "variable"),
            )));
        }
        not_finite_before(&driver)?;

        driver.restore()?;
        let gradients = driver.gradients()?;
        driver.restore()?;
        let walk = Walk::take(&mut driver, self.steps)?;
        let mut left_out = Vec::new();
        let mut findings = Vec::new();
        if let Some(walk) = &walk {
            findings.extend(sizes::judge(walk, &mut left_out));
            findings.extend(still::frozen_moved(&driver, walk));
        }
        let still = still::judge(&mut driver, walk.as_ref(), gradients.as_ref())?;
        findings.extend(still.findings);
        if let Some(walk) = &walk {
            findings.extend(self.experiments(
                &mut driver,
                walk,
                gradients.as_ref(),
                &mut left_out,
            )?);
        }
        driver.restore()?;
        if !driver.has_loss() {
            left_out.push(
                "the direction of the steps, and penalties in the loss: no `loss` is given"
                    .to_owned(),
            );
        }
        let findings = told_once(call::not_allowed(findings, &self.allowed));
        let copies = still.copies.len();
        let idle = [still.idle, still.lost, still.copies].concat();
        let variables = told::rows(&driver, walk.as_ref(), &idle);
        if !findings.is_empty() {
            return Err(self.failed(&variables, walk.as_ref(), findings));
        }
        let Some(walk) = walk else {
            if copies > 0 {
                return Err(Failure::vacuous(format!(
                    "no call of {} changes a variable: they are copies of values kept elsewhere, and the steps are less than their last bit",
                    driver.calls,
                ))
                .help("give the masters as `vars`"));
            }
            return Err(Failure::vacuous(format!(
                "no call of {} changes a variable, and their gradients are zero",
                driver.calls,
            ))
            .help("give the step a batch that is not fitted already"));
        };
        Ok(StepUpdatesReport {
            variables,
            calls: driver.calls,
            calls_per_update: walk.calls_per_update,
            repeatable: walk.repeats(&driver),
            ratios: walk.ratios,
            left_out,
        })
    }

    /// What is asked from chosen weights. The questions that disturb the optimizer most come last.
    fn experiments(
        &self,
        driver: &mut Driver<'_>,
        walk: &Walk,
        gradients: Option<&Gradients>,
        left_out: &mut Vec<String>,
    ) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        if let Some(gradients) = gradients {
            found.extend(still::statistics_moved(driver, walk, gradients)?);
            found.extend(direction::climbs(driver, walk, gradients));
        }
        if let Some(rate) = self.learning_rate {
            found.extend(sizes::beside_rate(driver, walk, gradients, rate, left_out));
        }
        // An optimizer that has seen NaN answers nothing any more.
        if walk.broken.is_some() {
            left_out.push("what the optimizer remembers: its variables are not finite".to_owned());
            return Ok(found);
        }
        if let Some(gradients) = gradients {
            let largest = walk.ratios.iter().copied().fold(0.0, f64::max);
            found.splice(0..0, direction::clipped_to_nothing(driver, gradients, largest)?);
        }
        found.extend(state::stale(driver, left_out)?);
        found.extend(state::reset(driver, walk)?);
        let shrinking = decay::Shrinking { declared: self.decayed.as_deref() };
        found.extend(shrinking.judge(driver, walk, gradients, left_out)?);
        Ok(found)
    }

    fn failed(
        &self,
        variables: &[VariableUpdate],
        walk: Option<&Walk>,
        findings: Vec<Finding>,
    ) -> Failure {
        let mut failure = Failure::violated(headline(variables, walk, &findings))
            .fact("variables", told::table(variables));
        if let Some(walk) = walk.filter(|walk| !walk.losses.is_empty()) {
            failure = failure.fact("loss", crate::check::training::wording::curve(&walk.losses));
        }
        failure.with_findings(findings)
    }

    fn validate(&self, start: &Snapshot) -> Result<()> {
        if self.steps == 0 {
            return Err(Failure::bad_argument("steps", 0, "1 or more"));
        }
        if let Some(rate) = self.learning_rate.filter(|rate| !rate.is_finite() || *rate <= 0.0) {
            return Err(Failure::bad_argument("learning_rate", rate, "a finite number above 0"));
        }
        let names: Vec<&str> = start.values().map(|(name, ..)| name).collect();
        if names.is_empty() {
            return Err(Failure::not_run("there are no variables to train")
                .finding(Finding::possible(
                    Cause::VariableUntracked,
                    "a `VarMap` is empty until the model is built from it",
                ))
                .help("build the model first, then pass its `VarMap`"));
        }
        for (option, prefixes) in [
            ("frozen", self.frozen.as_slice()),
            ("decayed", self.decayed.as_deref().unwrap_or(&[])),
        ] {
            let without =
                prefixes.iter().find(|p| !names.iter().any(|n| n.starts_with(p.as_str())));
            if let Some(prefix) = without {
                return Err(Failure::bad_argument(
                    option,
                    format_args!("{prefix:?}, which begins no variable's name"),
                    format_args!("the beginning of one of {}", names.join(", ")),
                ));
            }
        }
        Ok(())
    }
}

fn begins(prefixes: &[String], name: &str) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
}

fn not_finite_before(driver: &Driver<'_>) -> Result<()> {
    let bad = driver.watched.iter().find(|w| w.start.iter().any(|v| !v.is_finite()));
    match bad {
        None => Ok(()),
        Some(watched) => Err(Failure::not_run(format!(
            "variable `{}` is not finite before the first step",
            watched.name,
        ))
        .finding(
            Finding::confirmed(Cause::NotFinite, "NaN or infinite before the first step")
                .at(watched.name.clone()),
        )),
    }
}
