//! Does the training succeed in evaluation mode?
//!
//! Cost: one training, only for learners with modes. Without dropout a batch that was held up by it is memorised:
//! [`Cause::DropoutRate`], possible, since batch norm changes with the mode too.

use super::{
    Outcome,
    lab::{Lab, Stop},
};
use crate::{Cause, Finding, Result};

pub(super) fn run(lab: &Lab<'_, '_, '_>) -> Result<Outcome> {
    let case = lab.case;
    if !case.learner.has_modes() {
        return Ok(Outcome::Nothing);
    }
    let quiet = case.learner.always_evaluating();
    let Some(rerun) = lab.rerun(&quiet, case.batch, None, Stop::AtTheGoal)? else {
        return Ok(Outcome::Nothing);
    };
    Ok(match lab.is_cured(&rerun) {
        true => Outcome::Possible(
            Finding::possible(
                Cause::DropoutRate,
                format!("trained in evaluation mode, {}", rerun.way()),
            )
            .advice_is(
                "lower the dropout, or allow more `steps`; check whether p is the share dropped",
            ),
        ),
        false => Outcome::RuledOut(
            Cause::DropoutRate,
            format!("trained in evaluation mode it still goes {}", rerun.way()),
        ),
    })
}
