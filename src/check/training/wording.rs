//! What a training that failed says of itself.

use crate::{
    Cause, Failure, Finding,
    diagnose::{Case, Trajectory},
    verdict::{count, number, sparkline},
};

pub(super) fn not_fitted(case: &Case<'_, '_>) -> String {
    if !case.goal.target.is_finite() && case.training.broken.is_none() {
        return format!("the loss starts below zero: {}", case.way());
    }
    if let Some(broken) = &case.training.broken
        && case.trajectory == Trajectory::NotFinite
    {
        let loss = number(case.training.losses[broken.step]);
        return match broken.step {
            0 => format!("the loss is {loss} before the first step"),
            step => format!("the loss is {loss} after {}", count(step, "step")),
        };
    }
    let what = match case.trajectory {
        Trajectory::Converged => "the loss falls without a floor",
        Trajectory::Slow => "the loss still falls when the steps run out",
        Trajectory::Plateau => "the loss hardly moves",
        Trajectory::FloorAboveZero => "the loss stops above its target",
        Trajectory::Oscillating => "the loss oscillates",
        Trajectory::Rising => "the loss rises",
        Trajectory::Exploding => "the loss explodes",
        Trajectory::NotFinite => "the loss is not finite",
    };
    let target = match case.goal.target.is_finite() {
        true => format!(" (target {})", number(case.goal.target)),
        false => String::new(),
    };
    format!("{what}: {}{target}", case.way())
}

/// How wide the curve is drawn: with its label and its range it fits 80 columns.
const CURVE: usize = 40;

pub(super) fn curve(losses: &[f64]) -> String {
    let finite = || losses.iter().copied().filter(|loss| loss.is_finite());
    let (low, high) =
        (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let line = sparkline(losses, CURVE);
    match low <= high {
        true => format!("{line}   {} .. {}", number(low), number(high)),
        false => line,
    }
}

/// A share of the first loss is a target for losses whose floor is zero, and for no others.
pub(super) fn below_zero(case: &Case<'_, '_>) -> Failure {
    Failure::vacuous(format!(
        "the loss falls below zero, so {} is not its floor, and to reach it proves nothing: {}",
        number(case.goal.target),
        case.way(),
    ))
    .finding(Finding::possible(
        Cause::RegularizationSign,
        "a penalty that is subtracted pulls a loss below zero; a likelihood or an ELBO gets there by right",
    ))
    .help("name the loss that a fitted batch has with `loss_below`, or mend the sign of the penalty")
}

pub(super) fn no_target(initial: f64) -> Failure {
    Failure::bad_argument(
        "loss_below",
        format_args!("not given, and the loss starts below zero, at {}", number(initial)),
        "the loss that a fitted batch has, which no rule can tell for a loss without a floor at zero",
    )
}
