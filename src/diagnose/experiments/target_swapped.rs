//! Does the loss notice another target?
//!
//! Cost: two evaluations. Confirms [`Cause::LossIgnoresTarget`].

use super::{Outcome, lab::Lab};
use crate::{
    Batch, Cause, Finding, Result, Seed,
    measure::{
        rows::{misleading_rotation, rotate},
        scan::is_finite,
        values::same_bits,
    },
};

pub(super) fn run(lab: &Lab<'_, '_, '_>) -> Result<Outcome> {
    let batch = lab.case.batch;
    let Some(target) = batch.target().filter(|target| target.rank() > 0) else {
        return Ok(Outcome::Nothing);
    };
    let Some((by, _)) = misleading_rotation(target)? else { return Ok(Outcome::Nothing) };
    // Where all outputs are equal, a loss cannot tell one target from another, and is right not to.
    let apart = lab.case.learner.map_output(|output| {
        let spread = Seed::new(0).uniform(
            "apart",
            0.05..0.5,
            output.shape(),
            output.dtype(),
            output.device(),
        )?;
        output + spread
    });
    let swapped = Batch::of_members(batch.input().to_vec(), rotate(target, by)?);
    lab.case.before.restore()?;
    let own = apart.evaluate(batch, false)?.loss;
    let other = apart.evaluate(&swapped, false)?.loss;
    Ok(match is_finite(&own)? && same_bits(&own, &other)? {
        true => Outcome::Confirmed(Finding::confirmed(
            Cause::LossIgnoresTarget,
            "with every row given the target of another, the loss is the same to the last bit",
        )),
        false => Outcome::Nothing,
    })
}
