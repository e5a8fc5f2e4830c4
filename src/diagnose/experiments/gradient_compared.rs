//! Is each variable's gradient the slope of the loss?
//!
//! Cost: one backward pass, and ten evaluations a variable for at most [`MOST`] of them. Confirms
//! [`Cause::GradientWrong`] for a variable where the loss rises on every step against the gradient, however short, and
//! falls on every step along it.

use candle_core::{Tensor, Var};

use super::{Outcome, lab::Lab};
use crate::{
    Cause, Finding, Result,
    diagnose::Trajectory,
    measure::{
        noise::epsilon,
        values::{norm, scalar},
    },
    verdict::number,
};

/// Step lengths, as shares of the variable's own norm. A step too long overshoots and one too short is lost in rounding;
/// a gradient of the right sign lowers the loss at one of them at least.
const LENGTHS: [f64; 5] = [1e-1, 3e-2, 1e-2, 3e-3, 1e-3];

/// Steps behind a rounding or a sign change nothing until they are long enough; so many of five must show.
const TELLING: usize = 3;

/// A change of the loss below so many units in its last place is rounding.
const ROUNDINGS: f64 = 16.0;

/// More variables than these are looked at from the largest gradient down.
const MOST: usize = 16;

pub(super) fn run(lab: &Lab<'_, '_, '_>) -> Result<Outcome> {
    let case = lab.case;
    if case.trajectory == Trajectory::NotFinite {
        return Ok(Outcome::Nothing);
    }
    case.before.restore()?;
    let loss = case.learner.evaluate(case.batch, true)?.loss;
    let again = scalar(&case.learner.evaluate(case.batch, true)?.loss)?;
    let (grads, base) = (loss.backward()?, scalar(&loss)?);
    if again != base {
        return Ok(Outcome::Nothing);
    }
    let mut slopes: Vec<(f64, &str, &Var, &Tensor)> = Vec::new();
    for (name, var) in case.learner.trainable() {
        if let Some(grad) = grads.get(var.as_tensor()) {
            slopes.push((norm(grad)?, name, var, grad));
        }
    }
    slopes.retain(|(slope, ..)| *slope > 0.0 && slope.is_finite());
    slopes.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
    let rounding = ROUNDINGS * epsilon(loss.dtype()).unwrap_or(0.0) * base.abs();
    for (slope, name, var, grad) in slopes.into_iter().take(MOST) {
        let own = var.as_tensor().copy()?;
        let size = norm(&own)?.max(slope.min(1.0) * 1e-2);
        let moved = |share: f64| -> Result<f64> {
            var.set(&(&own - (grad * (share * size / slope))?)?)?;
            let loss = case.learner.evaluate(case.batch, true);
            var.set(&own)?;
            Ok(scalar(&loss?.loss)? - base)
        };
        let mut against = Vec::new();
        let mut along = Vec::new();
        for length in LENGTHS {
            against.push(moved(length)?);
            along.push(moved(-length)?);
        }
        if rises(&against, rounding)
            && rises(&along.iter().map(|c| -c).collect::<Vec<_>>(), rounding)
        {
            let evidence = format!(
                "a step of {} % of its size against its gradient raises the loss by {}, one along it lowers it by {}",
                number(100.0 * LENGTHS[0]),
                number(against[0]),
                number(-along[0]),
            );
            return Ok(Outcome::Confirmed(
                Finding::confirmed(Cause::GradientWrong, evidence).at(name),
            ));
        }
    }
    Ok(Outcome::Nothing)
}

/// Whether no step lowers the loss, and most raise it beyond rounding.
fn rises(changes: &[f64], rounding: f64) -> bool {
    changes.iter().all(|change| *change >= -rounding)
        && changes.iter().filter(|change| **change > rounding).count() >= TELLING
}
