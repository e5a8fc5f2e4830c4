//! Does the loss notice another target?
//!
//! Cost: two evaluations. Confirms [`Cause::LossIgnoresTarget`].

use super::{Outcome, lab::Lab};
use crate::{
    Batch, Cause, Finding, Result, Seed,
    measure::{
        rows::{misleading_rotation, rotate},
        scan::is_finite,
        values::{extent, same_bits, to_f64_vec},
    },
};

pub(super) fn run(lab: &Lab<'_, '_, '_>) -> Result<Outcome> {
    let batch = lab.case.batch;
    let Some(target) = batch.target().filter(|target| target.rank() > 0) else {
        return Ok(Outcome::Nothing);
    };
    let Some((by, _)) = misleading_rotation(target)? else { return Ok(Outcome::Nothing) };
    // Where all outputs are equal, a loss cannot tell one target from another, and is right not to. The outputs are
    // spread both ways, and stay in [0, 1] where they are: a loss may clamp what lies outside.
    let apart = lab.case.learner.map_output(|output| {
        let (low, high) = extent(&to_f64_vec(output)?).unwrap_or((0.0, 0.0));
        let unit = low >= 0.0 && high <= 1.0;
        let (range, kept) = if unit { (0.05..0.95, 0.5) } else { (-0.5..0.5, 1.0) };
        let (shape, dtype, device) = (output.shape(), output.dtype(), output.device());
        let spread = Seed::new(0).uniform("apart", range, shape, dtype, device)?;
        (output * kept)? + (spread * if unit { 0.5 } else { 1.0 })?
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
