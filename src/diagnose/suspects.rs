//! What the shape of the curve and the size of the gradients make likely.
//!
//! Cost: none. Nothing here is confirmed: a shape fits several causes.

use super::{Case, Trajectory};
use crate::{
    Cause, Finding, Result,
    verdict::{count, number},
};

/// A gradient this much smaller than the largest does not train within a batch's few hundred steps.
pub(super) const VANISHED: f64 = 1e-6;

pub(super) fn findings(case: &Case<'_, '_>) -> Result<Vec<Finding>> {
    let rate = number(case.training.learning_rate);
    let high = |why: &str| {
        Finding::possible(Cause::LearningRateHigh, format!("{why} at a learning rate of {rate}"))
    };
    let mut found = Vec::new();
    match case.trajectory {
        Trajectory::Rising | Trajectory::Exploding => {
            if case.training.learning_rate < 0.0 {
                let climbs = format!("the learning rate {rate} is negative: steps climb the loss");
                let finding = Finding::possible(Cause::LossSign, climbs);
                return Ok(vec![finding.advice_is("make the learning rate positive")]);
            }
            if climbs(&case.training.losses) {
                found.push(Finding::possible(
                    Cause::LossSign,
                    "the loss grows from the first step on",
                ));
            }
            found.push(high("the loss grows"));
        }
        Trajectory::Oscillating => found.push(high("the loss swings")),
        Trajectory::Slow => found.push(Finding::possible(
            Cause::LearningRateLow,
            format!("the loss still falls when the steps run out, at a learning rate of {rate}"),
        )),
        Trajectory::Plateau | Trajectory::FloorAboveZero => {
            found.extend(misled(case));
        }
        Trajectory::NotFinite | Trajectory::Converged => {}
    }
    Ok(found)
}

/// Whether nearly every one of the first steps raised the loss: an overshoot comes down again, a wrong sign does not.
fn climbs(losses: &[f64]) -> bool {
    let start = &losses[..losses.len().min(11)];
    let ups = start.windows(2).filter(|w| w[1] > w[0]).count();
    start.len() > 2 && 10 * ups >= 9 * (start.len() - 1)
}

/// Gradients that shrink to next to nothing on their way back: measured, so confirmed. Gradients that are exactly zero
/// are cut off or dead, not shrunk.
pub(super) fn vanished(case: &Case<'_, '_>) -> Option<Finding> {
    let held_up = matches!(
        case.trajectory,
        Trajectory::Plateau | Trajectory::FloorAboveZero | Trajectory::Slow
    );
    let norms = || case.training.gradients.iter().filter_map(|g| Some((g.first_norm?, &g.name)));
    let (largest, all) = (norms().map(|(norm, _)| norm).fold(0.0, f64::max), norms().count());
    if !held_up || all == 0 {
        return None;
    }
    if largest == 0.0 {
        let evidence =
            format!("the first gradient of all {} is exactly zero", count(all, "variable"));
        return Some(Finding::possible(Cause::GradientVanishing, evidence));
    }
    let small = || norms().filter(|(norm, _)| *norm <= VANISHED * largest);
    let (smallest, first) = small().find(|(norm, _)| *norm > 0.0)?;
    // One variable may have none by right (an attention's key bias, a bias before a norm); half of them may not.
    (2 * small().count() >= all).then(|| {
        let evidence = format!(
            "the first gradient of {} of {all} variables is {} of the largest or less; here it is {} beside {}",
            small().count(),
            number(VANISHED),
            number(smallest),
            number(largest),
        );
        Finding::confirmed(Cause::GradientVanishing, evidence).at(first.as_str())
    })
}

/// The known floors of a cross-entropy that is fed probabilities, where its formula could not be told.
fn misled(case: &Case<'_, '_>) -> Option<Finding> {
    let classes = case.training.first_output.as_ref()?.dims().last().copied()?;
    let is_class = !case.batch.target()?.dtype().is_float();
    let floor = (std::f64::consts::E + classes as f64 - 1.0).ln() - 1.0;
    let last = case.training.last();
    (is_class && classes > 1 && (last - floor).abs() < 0.01 * floor).then(|| {
        Finding::possible(
            Cause::LossOnProbabilities,
            format!(
                "the loss stops at {}; probabilities fed to a cross-entropy over {classes} classes stop at {}",
                number(last),
                number(floor),
            ),
        )
    })
}
