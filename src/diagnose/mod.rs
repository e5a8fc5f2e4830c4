//! From a training to its causes. One question a file; what a file proves it says as *confirmed*, the rest as
//! *possible*.

mod data;
pub(crate) mod engine;
mod experiments;
pub(crate) mod graph_end;
mod loss_misuse;
pub(crate) mod loss_variant;
pub(crate) mod mixing;
mod not_finite;
mod output;
mod suspects;
mod trajectory;
mod untrained;

use std::cell::{Cell, OnceCell};

use candle_core::Tensor;

use crate::{
    Batch, Finding, Learner, Result, Snapshot,
    learner::Evaluation,
    measure::{
        training::{Training, moved_since},
        travel,
    },
    verdict::{count, number},
};

pub(crate) use experiments::{Shown, standardised};
pub(crate) use trajectory::Goal;
pub use trajectory::Trajectory;

/// A training that ended, with everything a question may look at. The variables still have the values it ended with.
pub(crate) struct Case<'c, 'a> {
    pub(crate) learner: &'c Learner<'a>,
    pub(crate) batch: &'c Batch,
    pub(crate) training: &'c Training,
    /// How many steps it might take.
    pub(crate) steps: usize,
    pub(crate) goal: Goal,
    pub(crate) trajectory: Trajectory,
    /// Output and loss after the last step, in evaluation mode; `None` where they are not finite.
    pub(crate) ending: Option<&'c Evaluation>,
    /// The variables' values before the training.
    pub(crate) before: &'c Snapshot,
    /// The variables that the training changed.
    pub(crate) moved: Vec<String>,
    /// How far it carried them, in units of their own norm; noted for failed trainings alone.
    travel: OnceCell<f64>,
    /// Whether the default optimizer was tried at its other learning rates, in vain.
    pub(crate) other_rates_failed: Cell<bool>,
}

impl<'c, 'a> Case<'c, 'a> {
    pub(crate) fn new(
        learner: &'c Learner<'a>,
        batch: &'c Batch,
        training: &'c Training,
        steps: usize,
        goal: Goal,
        ending: Option<&'c Evaluation>,
        before: &'c Snapshot,
    ) -> Result<Self> {
        Ok(Self {
            learner,
            batch,
            training,
            steps,
            goal,
            trajectory: Trajectory::of(&training.losses, training.last(), goal),
            ending,
            before,
            moved: moved_since(before)?,
            travel: OnceCell::new(),
            other_rates_failed: Cell::new(false),
        })
    }

    /// `2.31 -> 0.004 in 118 steps`.
    pub(crate) fn way(&self) -> String {
        let steps = count(self.training.steps(), "step");
        format!("{} -> {} in {steps}", number(self.training.first()), number(self.training.last()))
    }

    /// Notes what the variables' last values tell, before a question or an experiment moves them.
    pub(crate) fn note_ending(&self) -> Result<()> {
        let travel = travel::since(self.before)?;
        self.travel.get_or_init(|| travel);
        Ok(())
    }

    fn last_output(&self) -> Option<&Tensor> {
        self.ending?.output.as_ref()
    }
}

/// What holds whether or not the loss reached its goal: a loss that computes something else than it is given for, and
/// variables that took no part.
pub(crate) fn wrong_in_any_case(case: &Case<'_, '_>) -> Result<Vec<Finding>> {
    // The next question moves variables: this one first.
    let mut findings = not_finite::hidden(case)?;
    findings.extend(loss_misuse::findings(case)?);
    findings.extend(untrained::findings(case)?);
    Ok(findings)
}

/// Why the loss did not reach its goal, beyond [`wrong_in_any_case`]: what the ending shows, then, where that leaves
/// the question open, what cures the training. A suspicion that an experiment ruled out is dropped.
pub(crate) fn why_not_fitted(case: &Case<'_, '_>, explained: bool) -> Result<Shown> {
    let has_goal = case.goal.target.is_finite();
    let mut shown = Shown { findings: not_finite::findings(case)?, ..Shown::default() };
    if has_goal {
        shown.findings.extend(data::findings(case)?);
    }
    // Seen, but symptoms: what made the gradients vanish, or the output never vary, is still to be found.
    let mut symptoms = Vec::new();
    if has_goal {
        symptoms.extend(suspects::vanished(case));
        symptoms.extend(suspects::far_start(case));
        symptoms.extend(output::findings(case)?);
    }
    if !explained && !shown.findings.iter().any(Finding::is_confirmed) {
        let experiments = experiments::run(case)?;
        shown.findings.extend(experiments.findings);
        shown.ruled_out = experiments.ruled_out;
    }
    // What an experiment left possible is vaguer than what the curve suggests.
    let (confirmed, vague): (Vec<Finding>, Vec<Finding>) =
        shown.findings.into_iter().partition(Finding::is_confirmed);
    shown.findings = confirmed;
    shown.findings.extend(symptoms);
    if has_goal {
        shown.findings.extend(suspects::findings(case)?);
    }
    shown.findings.extend(vague);
    let ruled_out = |f: &Finding| shown.ruled_out.iter().any(|(cause, _)| *cause == f.cause());
    shown.findings.retain(|finding| finding.is_confirmed() || !ruled_out(finding));
    Ok(shown)
}

/// Whether the ending itself shows that no other learning rate could help: the loss computes something else than it is
/// given for, or no gradient arrives anywhere. Moves no variable.
pub(crate) fn is_hopeless(case: &Case<'_, '_>) -> Result<bool> {
    let misused = loss_misuse::findings(case)?.iter().any(Finding::is_confirmed);
    Ok(misused || case.training.gradients.iter().all(|gradient| !gradient.arrived))
}

/// Variables that nothing depends on: no reason to fail a fit that succeeded, but worth saying.
pub(crate) fn unused(case: &Case<'_, '_>) -> Result<Vec<String>> {
    untrained::unused(case)
}
