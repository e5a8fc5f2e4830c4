//! Is the gradient the slope of the loss?
//!
//! Cost: one backward pass and a handful of evaluations. Confirms [`Cause::GradientWrong`] where the loss rises on every
//! step against its gradient, however short, and falls on every step along it.

use candle_core::Tensor;

use super::{Outcome, lab::Lab};
use crate::{
    Cause, Finding, Result,
    diagnose::Trajectory,
    measure::values::{norm, scalar},
    verdict::number,
};

/// Step lengths, as shares of the variables' own norm. A step too long overshoots and one too short is lost in rounding;
/// a gradient of the right sign lowers the loss at one of them at least.
const LENGTHS: [f64; 5] = [1e-1, 3e-2, 1e-2, 3e-3, 1e-3];

pub(super) fn run(lab: &Lab<'_, '_, '_>) -> Result<Outcome> {
    let case = lab.case;
    if !matches!(case.trajectory, Trajectory::Rising | Trajectory::Exploding) {
        return Ok(Outcome::Nothing);
    }
    case.before.restore()?;
    let loss = case.learner.evaluate(case.batch, true)?.loss;
    let (grads, base) = (loss.backward()?, scalar(&loss)?);
    let mut parts: Vec<(&candle_core::Var, Tensor, &Tensor)> = Vec::new();
    let (mut slope, mut size) = (0.0f64, 0.0f64);
    for (name, var, before) in case.before.values() {
        let trains = case.learner.trainable().any(|(trainable, _)| trainable == name);
        if let Some(grad) = grads.get(var.as_tensor()).filter(|_| trains) {
            slope += norm(grad)?.powi(2);
            size += norm(before)?.powi(2);
            parts.push((var, grad.clone(), before));
        }
    }
    let (slope, size) = (slope.sqrt(), size.sqrt());
    if !(slope > 0.0 && slope.is_finite() && size > 0.0) {
        return Ok(Outcome::Nothing);
    }
    let moved = |length: f64| -> Result<f64> {
        for (var, grad, before) in &parts {
            var.set(&(*before - (grad * (length * size / slope))?)?)?;
        }
        let loss = scalar(&case.learner.evaluate(case.batch, true)?.loss)?;
        case.before.restore()?;
        Ok(loss)
    };
    let (mut against, mut along) = (Vec::new(), Vec::new());
    for length in LENGTHS {
        against.push(moved(length)? - base);
        along.push(moved(-length)? - base);
    }
    let wrong =
        against.iter().all(|change| *change > 0.0) && along.iter().all(|change| *change < 0.0);
    Ok(match wrong {
        true => Outcome::Confirmed(Finding::confirmed(
            Cause::GradientWrong,
            format!(
                "a step of 1 % against the gradient raises the loss by {}, one along it lowers it by {}",
                number(against[2]),
                number(-along[2]),
            ),
        )),
        false => Outcome::Nothing,
    })
}
