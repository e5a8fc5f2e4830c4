//! Does the training succeed on an input of mean 0 and standard deviation 1?
//!
//! Cost: one training, only where the input is far from that. Confirms or rules out [`Cause::InputNotScaled`].

use candle_core::Tensor;

use super::{
    Outcome,
    lab::{Lab, Stop},
};
use crate::{Cause, Finding, Result, measure::values::to_f64_vec, verdict::number};

/// Inputs in [0, 1], z-scores and one-hot rows lie well inside; raw pixels, prices, and data divided by 255 twice well
/// outside.
const USUAL_SCALE: std::ops::Range<f64> = 0.05..20.0;

/// The input with every member that is far from a usual scale brought to mean 0 and standard deviation 1.
pub(crate) struct Standardised {
    pub(crate) members: Vec<Tensor>,
    /// Of the first member that was changed.
    pub(crate) mean: f64,
    pub(crate) std: f64,
}

/// `None` where all members have a usual scale, or are integers.
pub(crate) fn standardised(members: &[Tensor]) -> Result<Option<Standardised>> {
    let mut rescaled = Vec::with_capacity(members.len());
    let mut was = None;
    for member in members {
        let Some((mean, std)) = moments(member)? else {
            rescaled.push(member.clone());
            continue;
        };
        let size = (mean * mean + std * std).sqrt();
        if USUAL_SCALE.contains(&size) || std == 0.0 {
            rescaled.push(member.clone());
            continue;
        }
        was.get_or_insert((mean, std));
        rescaled.push(member.affine(1.0 / std, -mean / std)?);
    }
    Ok(was.map(|(mean, std)| Standardised { members: rescaled, mean, std }))
}

pub(super) fn run(lab: &Lab<'_, '_, '_>) -> Result<Outcome> {
    let Some(Standardised { members, mean, std }) = standardised(lab.case.batch.input())? else {
        return Ok(Outcome::Nothing);
    };
    let batch = lab.case.batch.with_input(members);
    let Some(rerun) = lab.rerun(lab.case.learner, &batch, None, Stop::AtTheGoal)? else {
        return Ok(Outcome::Nothing);
    };
    let scale = format!("mean {} and standard deviation {}", number(mean), number(std));
    Ok(match lab.is_cured(&rerun) {
        true => Outcome::Confirmed(Finding::confirmed(
            Cause::InputNotScaled,
            format!("the input has {scale}; brought to 0 and 1, {}", rerun.way()),
        )),
        false => Outcome::RuledOut(
            Cause::InputNotScaled,
            format!("the input has {scale}; brought to 0 and 1, it still goes {}", rerun.way()),
        ),
    })
}

/// Mean and standard deviation over all values; `None` for integers, which are ids.
fn moments(tensor: &Tensor) -> Result<Option<(f64, f64)>> {
    if !tensor.dtype().is_float() {
        return Ok(None);
    }
    let values = to_f64_vec(tensor)?;
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    Ok(Some((mean, variance.sqrt())))
}
