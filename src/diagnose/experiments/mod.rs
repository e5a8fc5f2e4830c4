//! One thing changed, the training run again: what cures it is the cause. One experiment a file.
//!
//! The cheapest and likeliest come first, by the shape of the curve and by what the batch and the output show; the first
//! cure ends the search. All together cost at most [`lab::RUNS`] failed trainings, and some evaluations.

mod activation_removed;
mod biases_zeroed;
mod dropout_off;
mod fewer_rows;
mod gradient_compared;
mod input_rescaled;
mod lab;
mod learning_rate;
mod loss_negated;
mod optimizer_probed;
mod target_swapped;
mod weights_redrawn;

use super::{Case, Trajectory};
use crate::{Cause, Finding, Result};

pub(crate) use input_rescaled::standardised;
use lab::Lab;

/// What an experiment showed.
pub(super) enum Outcome {
    /// The change cured the training, or a measurement left no doubt.
    Confirmed(Finding),
    /// It fits, and so may something else.
    Possible(Finding),
    /// The change did not cure it.
    RuledOut(Cause, String),
    /// Nothing to change here, or nothing learned.
    Nothing,
}

type Experiment = fn(&Lab<'_, '_, '_>) -> Result<Outcome>;

/// What the experiments of one failed training showed.
#[derive(Default)]
pub(crate) struct Shown {
    pub(crate) findings: Vec<Finding>,
    pub(crate) ruled_out: Vec<(Cause, String)>,
}

pub(super) fn run(case: &Case<'_, '_>) -> Result<Shown> {
    let lab = Lab::new(case);
    let mut shown = Shown::default();
    for experiment in plan(case) {
        match experiment(&lab) {
            Ok(Outcome::Confirmed(finding)) => {
                shown.findings.push(finding);
                break;
            }
            Ok(Outcome::Possible(finding)) => shown.findings.push(finding),
            Ok(Outcome::RuledOut(cause, evidence)) => shown.ruled_out.push((cause, evidence)),
            // A closure that refuses a changed batch or a changed output has shown nothing about the failure.
            Ok(Outcome::Nothing) | Err(_) => {}
        }
    }
    case.before.restore()?;
    Ok(shown)
}

fn plan(case: &Case<'_, '_>) -> Vec<Experiment> {
    if !case.goal.target.is_finite() {
        return vec![loss_negated::run];
    }
    // Measurements without a training come first, then changes that a fact asks for.
    let mut plan: Vec<Experiment> = vec![
        target_swapped::run,
        optimizer_probed::run,
        gradient_compared::run,
        weights_redrawn::run,
        biases_zeroed::run,
        input_rescaled::run,
        activation_removed::run,
        dropout_off::run,
    ];
    plan.extend::<&[Experiment]>(match case.trajectory {
        Trajectory::Rising | Trajectory::Exploding => &[loss_negated::run, learning_rate::lower],
        Trajectory::Oscillating | Trajectory::NotFinite => &[learning_rate::lower],
        Trajectory::Slow => &[learning_rate::higher, fewer_rows::run],
        _ => &[learning_rate::lower, learning_rate::higher, fewer_rows::run],
    });
    plan
}
