//! Does the training succeed when the output's last activation is undone before the loss?
//!
//! Cost: one training, only where the output stays in the range of a softmax, sigmoid or tanh. Confirms
//! [`Cause::LossOnProbabilities`] where the targets are classes or probabilities, [`Cause::OutputBounded`] where they lie
//! outside what the output reaches, and [`Cause::UnitsSaturated`] where they lie inside; rules them out otherwise.

use candle_core::Tensor;

use super::{
    Outcome,
    lab::{Lab, Stop},
};
use crate::{
    Cause, Finding, Result,
    measure::{
        formula::{Kind, matching, read_rows},
        values::{extent, to_f64_vec},
    },
};

/// Outputs are kept this far from the ends, where the inverse is infinite. The smallest step that f32 takes below 1.
const MARGIN: f64 = 1e-7;

/// Targets this share of their own range beyond the outputs are out of reach, not merely at the end of it.
const OUTSIDE: f64 = 0.1;

#[derive(Clone, Copy, PartialEq)]
enum Activation {
    Softmax,
    Sigmoid,
    Tanh,
}

pub(super) fn run(lab: &Lab<'_, '_, '_>) -> Result<Outcome> {
    let case = lab.case;
    let (Some(first), Some(last)) = (&case.training.first_output, case.last_output()) else {
        return Ok(Outcome::Nothing);
    };
    let (Some(activation), Some(target)) = (activation_of(first, last)?, case.batch.target())
    else {
        return Ok(Outcome::Nothing);
    };
    let undone = case.learner.map_output(move |output| undo(output, activation));
    let Some(rerun) = lab.rerun(&undone, case.batch, None, Stop::AtTheGoal)? else {
        return Ok(Outcome::Nothing);
    };
    let name = match activation {
        Activation::Softmax => "softmax",
        Activation::Sigmoid => "sigmoid",
        Activation::Tanh => "tanh",
    };
    let cause = what_it_does(lab, first, last, target)?;
    Ok(match lab.is_cured(&rerun) {
        true => Outcome::Confirmed(Finding::confirmed(
            cause,
            format!("with the output's {name} undone before the loss, {}", rerun.way()),
        )),
        false => Outcome::RuledOut(
            cause,
            format!("with the output's {name} undone it still goes {}", rerun.way()),
        ),
    })
}

/// A loss on logits is fed probabilities; a squared error, or any other of real targets, is held up by the range of the
/// activation where the targets lie outside what the output reaches, and by its flat ends where they lie inside.
fn what_it_does(
    lab: &Lab<'_, '_, '_>,
    first: &Tensor,
    last: &Tensor,
    target: &Tensor,
) -> Result<Cause> {
    if !target.dtype().is_float() {
        return Ok(Cause::LossOnProbabilities);
    }
    let targets = to_f64_vec(target)?;
    let reached: Vec<f64> = to_f64_vec(first)?.into_iter().chain(to_f64_vec(last)?).collect();
    let (Some((least, most)), Some((low, high))) = (extent(&targets), extent(&reached)) else {
        return Ok(Cause::OutputBounded);
    };
    let formulas = matching(first, target, lab.case.training.first())?;
    let squared = formulas.iter().any(|formula| formula.kind == Kind::MeanSquaredError);
    let shares = least >= 0.0 && most <= 1.0;
    Ok(if shares && !squared {
        Cause::LossOnProbabilities
    } else if (low - least).max(most - high) > OUTSIDE * (most - least) {
        Cause::OutputBounded
    } else {
        Cause::UnitsSaturated
    })
}

fn activation_of(first: &Tensor, last: &Tensor) -> Result<Option<Activation>> {
    let (Some(before), Some(after)) = (read_rows(first)?, read_rows(last)?) else {
        return Ok(None);
    };
    if before.are_probabilities && after.are_probabilities {
        return Ok(Some(Activation::Softmax));
    }
    if before.in_unit_interval && after.in_unit_interval {
        return Ok(Some(Activation::Sigmoid));
    }
    let both: Vec<f64> = to_f64_vec(first)?.into_iter().chain(to_f64_vec(last)?).collect();
    let within = extent(&both).is_some_and(|(low, high)| low >= -1.0 && high <= 1.0);
    Ok(within.then_some(Activation::Tanh))
}

/// The activation's inverse: the logits that a softmax's logarithm is, up to what a loss on logits ignores.
fn undo(output: &Tensor, activation: Activation) -> candle_core::Result<Tensor> {
    match activation {
        Activation::Softmax => output.clamp(MARGIN * MARGIN, 1.0)?.log(),
        Activation::Sigmoid => {
            let inside = output.clamp(MARGIN, 1.0 - MARGIN)?;
            inside.log()? - inside.affine(-1.0, 1.0)?.log()?
        }
        Activation::Tanh => {
            let inside = output.clamp(-1.0 + MARGIN, 1.0 - MARGIN)?;
            (inside.affine(1.0, 1.0)?.log()? - inside.affine(-1.0, 1.0)?.log()?)? * 0.5
        }
    }
}
