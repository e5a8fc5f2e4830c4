//! Does the training succeed on the negated loss?
//!
//! Cost: one training. Confirms or rules out [`Cause::LossSign`].

use super::{
    Outcome,
    lab::{Lab, Rerun, Stop},
};
use crate::{Cause, Finding, Result, verdict::number};

/// A loss that fell below zero by this many times its first size has no floor.
const BOTTOMLESS: f64 = 10.0;

pub(super) fn run(lab: &Lab<'_, '_, '_>) -> Result<Outcome> {
    let case = lab.case;
    let negated = case.learner.map_loss(|loss| loss.neg());
    let Some(rerun) = lab.rerun(&negated, case.batch, None, Stop::AfterAllSteps)? else {
        return Ok(Outcome::Nothing);
    };
    if case.goal.target.is_finite() {
        // The user's own loss, while the steps follow its negative.
        let own = Rerun { last: -rerun.last, losses: rerun.losses.iter().map(|l| -l).collect() };
        return Ok(match lab.is_cured(&own) {
            true => confirmed(
                &own,
                "the sign is lost between the loss and the step: look at the learning rate's sign, and at what is done to the gradient",
            ),
            false => Outcome::RuledOut(
                Cause::LossSign,
                format!("with the loss negated it still goes {}", own.way()),
            ),
        });
    }
    // A loss that starts below zero: its negative must go to a floor at zero, where the loss itself has none. A
    // likelihood or a similarity fails one or the other, and its sign is right.
    let first = case.training.first();
    let last = case.training.last();
    let bottomless = last < BOTTOMLESS * first.min(-1.0);
    let bounded = rerun.losses.iter().all(|loss| *loss >= 0.0);
    if bottomless && bounded && lab.is_cured(&rerun) {
        return Ok(confirmed(&rerun, Cause::LossSign.advice()));
    }
    Ok(Outcome::Possible(Finding::possible(
        Cause::LossSign,
        format!(
            "most losses of the field are never negative; this one starts at {} and goes to {}",
            number(first),
            number(last),
        ),
    )))
}

fn confirmed(rerun: &Rerun, advice: &str) -> Outcome {
    let evidence = format!("with the loss negated, {}", rerun.way());
    Outcome::Confirmed(Finding::confirmed(Cause::LossSign, evidence).advice_is(advice))
}
