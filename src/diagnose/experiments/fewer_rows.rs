//! Does the training succeed on two rows of the batch?
//!
//! Cost: one training. A model that fits two rows and not all may be too small for them:
//! [`Cause::CapacityTooSmall`], possible, since only a wider model could confirm it.

use candle_core::Tensor;

use super::{
    Outcome,
    lab::{Lab, Stop},
};
use crate::{Batch, Cause, Finding, Result};

pub(super) fn run(lab: &Lab<'_, '_, '_>) -> Result<Outcome> {
    let batch = lab.case.batch;
    let (Some(rows), Some(target)) = (batch.rows(), batch.target()) else {
        return Ok(Outcome::Nothing);
    };
    if rows < 3 || target.dims().first() != Some(&rows) {
        return Ok(Outcome::Nothing);
    }
    let two = |t: &Tensor| t.narrow(0, 0, 2);
    let input = batch.input().iter().map(two).collect::<candle_core::Result<Vec<_>>>()?;
    let fewer = Batch::of_members(input, two(target)?);
    let Some(rerun) = lab.rerun(lab.case.learner, &fewer, None, Stop::AtTheGoal)? else {
        return Ok(Outcome::Nothing);
    };
    let evidence = format!("two rows alone go {}", rerun.way());
    Ok(match lab.is_cured(&rerun) {
        true => Outcome::Possible(Finding::possible(
            Cause::CapacityTooSmall,
            format!("{evidence}, all {rows} do not"),
        )),
        // Two rows that do not fit either say nothing about how many would.
        false => Outcome::Nothing,
    })
}
