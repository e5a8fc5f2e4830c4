//! Does the training succeed at another learning rate?
//!
//! Cost: up to three trainings either way, for an optimizer of the learner's own; candling's has been tried at several. Confirms or rules out [`Cause::LearningRateHigh`] and
//! [`Cause::LearningRateLow`].

use super::{
    Outcome,
    lab::{Lab, Stop},
};
use crate::{
    Cause, Finding, Result, diagnose::Trajectory, learner::DEFAULT_LEARNING_RATE, verdict::number,
};

/// A tenth is the step people take by hand; a thousandth is a slip of the unit.
const LOWER: [f64; 3] = [0.1, 0.01, 0.001];

pub(super) fn lower(lab: &Lab<'_, '_, '_>) -> Result<Outcome> {
    let rate = lab.case.training.learning_rate;
    if rate <= 0.0 || !lab.case.learner.has_own_optimizer() {
        return Ok(Outcome::Nothing);
    }
    try_all(lab, Cause::LearningRateHigh, &LOWER.map(|factor| factor * rate))
}

/// A training that carried its variables further than this share of their own size took steps enough.
const FAR: f64 = 0.1;

/// Only where the steps were short: a loss that is held up after long ones is not cured by longer ones.
pub(super) fn higher(lab: &Lab<'_, '_, '_>) -> Result<Outcome> {
    let rate = lab.case.training.learning_rate;
    let held_up = lab.case.trajectory != Trajectory::Slow
        && lab.case.travel.get().is_some_and(|travel| *travel > FAR);
    if rate < 0.0 || held_up || !lab.case.learner.has_own_optimizer() {
        return Ok(Outcome::Nothing);
    }
    let rates = [10.0 * rate, 100.0 * rate, (1000.0 * rate).max(DEFAULT_LEARNING_RATE)];
    let rates: Vec<f64> = rates.into_iter().filter(|higher| *higher > rate).collect();
    try_all(lab, Cause::LearningRateLow, &rates)
}

fn try_all(lab: &Lab<'_, '_, '_>, cause: Cause, rates: &[f64]) -> Result<Outcome> {
    let mut best: Option<(f64, f64)> = None;
    for rate in rates {
        let rerun = lab.rerun(lab.case.learner, lab.case.batch, Some(*rate), Stop::AtTheGoal)?;
        let Some(rerun) = rerun else { break };
        if lab.is_cured(&rerun) {
            let evidence = format!("at a learning rate of {}, {}", number(*rate), rerun.way());
            let advice = format!("use a learning rate near {}", number(*rate));
            return Ok(Outcome::Confirmed(Finding::confirmed(cause, evidence).advice_is(advice)));
        }
        if rerun.last.is_finite() && best.is_none_or(|(_, last)| rerun.last < last) {
            best = Some((*rate, rerun.last));
        }
    }
    Ok(match best {
        Some((rate, last)) => Outcome::RuledOut(
            cause,
            format!("at {} the loss still ends at {}", number(rate), number(last)),
        ),
        None => Outcome::Nothing,
    })
}
