//! What the shape of the curve and the size of the gradients make likely.
//!
//! Cost: none. Nothing here is confirmed: a shape fits several causes.

use super::{Case, Trajectory};
use crate::{
    Cause, Finding, Result,
    measure::training::Gradient,
    verdict::{count, number},
};

/// A gradient this much smaller than the largest does not train within a batch's few hundred steps.
pub(super) const VANISHED: f64 = 1e-6;

pub(super) fn findings(case: &Case<'_, '_>) -> Result<Vec<Finding>> {
    // The rate of candling's own optimizer is not under test, and others have been tried.
    if !case.learner.has_own_optimizer() {
        return Ok(misled(case).into_iter().collect());
    }
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
    // Weights alone: the gradient of a weight grows with the input's scale, that of a bias beside it does not.
    let is_weight =
        |name: &str| case.learner.trainable().any(|(n, var)| n == name && var.rank() > 1);
    let weights: Vec<&Gradient> =
        case.training.gradients.iter().filter(|gradient| is_weight(&gradient.name)).collect();
    let norms = || weights.iter().filter_map(|g| Some((g.first_norm?, &g.name)));
    let (largest, all) = (norms().map(|(norm, _)| norm).fold(0.0, f64::max), norms().count());
    if !held_up || all == 0 {
        return None;
    }
    if largest == 0.0 {
        let evidence =
            format!("the first gradient of all {} is exactly zero", count(all, "weight"));
        return Some(Finding::possible(Cause::GradientVanishing, evidence));
    }
    let small = || norms().filter(|(norm, _)| *norm <= VANISHED * largest);
    let (smallest, first) = small().find(|(norm, _)| *norm > 0.0)?;
    // One variable may have none by right (an attention's key bias, a bias before a norm); half of them may not.
    (2 * small().count() >= all).then(|| {
        let evidence = format!(
            "the first gradient of {} of {all} weights is {} of the largest or less; here it is {} beside {}",
            small().count(),
            number(VANISHED),
            number(smallest),
            number(largest),
        );
        Finding::confirmed(Cause::GradientVanishing, evidence).at(first.as_str())
    })
}

/// An untrained net with candle's usual init starts at up to 1.74 times an undecided one's loss.
const FAR: f64 = 10.0;

/// A first loss far above that of the best constant prediction: the training spends its steps on an offset or a scale.
pub(super) fn far_start(case: &Case<'_, '_>) -> Option<Finding> {
    let baseline = case.goal.baseline?;
    let ratio = case.goal.initial / baseline;
    (ratio > FAR).then(|| {
        let evidence = format!(
            "the first loss is {}, {} times the {} of the best constant prediction",
            number(case.goal.initial),
            number(ratio),
            number(baseline),
        );
        Finding::confirmed(Cause::InitialLossHigh, evidence).advice_is(
            "bring the targets to mean 0 and standard deviation 1, or start the last bias at their mean; check the \
             last layer's scale",
        )
    })
}

/// The known floors of a cross-entropy that is fed probabilities, where its formula could not be told.
fn misled(case: &Case<'_, '_>) -> Option<Finding> {
    let classes = case.training.first_output.as_ref()?.dims().last().copied()?;
    let is_class = !case.batch.target()?.dtype().is_float();
    let floor = (std::f64::consts::E + classes as f64 - 1.0).ln() - 1.0;
    let last = case.training.last();
    let held_up = matches!(case.trajectory, Trajectory::Plateau | Trajectory::FloorAboveZero);
    (held_up && is_class && classes > 1 && (last - floor).abs() < 0.01 * floor).then(|| {
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
