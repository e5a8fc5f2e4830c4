//! Does the training succeed when weights that cannot learn are drawn anew?
//!
//! Cost: one training, only where a weight is constant or has equal rows. Confirms or rules out
//! [`Cause::WeightsConstant`] and [`Cause::WeightsDuplicated`].

use candle_core::{DType, Tensor, Var};

use super::{
    Outcome,
    lab::{Lab, Stop},
};
use crate::{Cause, Finding, Result, Seed, measure::values::to_f64_vec};

pub(super) fn run(lab: &Lab<'_, '_, '_>) -> Result<Outcome> {
    let mut suspects: Vec<(&str, &Var, Cause)> = Vec::new();
    for (name, var, before) in lab.case.before.values() {
        if let Some(cause) = cannot_learn(before)? {
            suspects.push((name, var, cause));
        }
    }
    let Some((first, _, cause)) = suspects.first().copied() else { return Ok(Outcome::Nothing) };
    lab.case.before.restore()?;
    for (name, var, _) in &suspects {
        // Kaiming's scale for the fan-in, whatever follows: near enough to learn from.
        let fan_in: usize = var.dims()[1..].iter().product();
        let drawn =
            Seed::new(0).normal(name, var.shape(), DType::F64, &candle_core::Device::Cpu)?;
        let drawn = (drawn * (1.0 / fan_in.max(1) as f64).sqrt())?;
        var.set(&drawn.to_dtype(var.dtype())?.to_device(var.device())?)?;
    }
    let rerun = lab.rerun_from_here(lab.case.learner, lab.case.batch, None, Stop::AtTheGoal);
    lab.case.before.restore()?;
    let Some(rerun) = rerun? else { return Ok(Outcome::Nothing) };
    let what = match cause {
        Cause::WeightsConstant => "every entry is equal",
        _ => "its rows are equal",
    };
    Ok(match lab.is_cured(&rerun) {
        true => Outcome::Confirmed(
            Finding::confirmed(cause, format!("{what}; drawn at random, {}", rerun.way()))
                .at(first),
        ),
        false => Outcome::RuledOut(
            cause,
            format!("{first} drawn at random, it still goes {}", rerun.way()),
        ),
    })
}

fn cannot_learn(weight: &Tensor) -> Result<Option<Cause>> {
    if weight.rank() < 2 || weight.elem_count() < 4 || weight.dim(0)? < 2 {
        return Ok(None);
    }
    let values = to_f64_vec(weight)?;
    if values.iter().all(|v| *v == values[0]) {
        return Ok(Some(Cause::WeightsConstant));
    }
    let width = values.len() / weight.dim(0)?;
    let mut rows = values.chunks(width);
    let first = rows.next();
    let equal = width > 1 && rows.all(|row| Some(row) == first);
    Ok(equal.then_some(Cause::WeightsDuplicated))
}
