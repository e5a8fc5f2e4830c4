//! Does the loss notice another target?
//!
//! Cost: two evaluations. Confirms [`Cause::LossIgnoresTarget`].

use super::{Outcome, lab::Lab};
use crate::{
    Batch, Cause, Finding, Result,
    measure::{
        rows::{misleading_rotation, rotate},
        values::same_bits,
    },
};

pub(super) fn run(lab: &Lab<'_, '_, '_>) -> Result<Outcome> {
    let batch = lab.case.batch;
    let Some(target) = batch.target().filter(|target| target.rank() > 0) else {
        return Ok(Outcome::Nothing);
    };
    let Some((by, _)) = misleading_rotation(target)? else { return Ok(Outcome::Nothing) };
    let swapped = Batch::of_members(batch.input().to_vec(), rotate(target, by)?);
    lab.case.before.restore()?;
    let own = lab.case.learner.evaluate(batch, false)?.loss;
    let other = lab.case.learner.evaluate(&swapped, false)?.loss;
    Ok(match same_bits(&own, &other)? {
        true => Outcome::Confirmed(Finding::confirmed(
            Cause::LossIgnoresTarget,
            "with every row given the target of another, the loss is the same to the last bit",
        )),
        false => Outcome::Nothing,
    })
}
