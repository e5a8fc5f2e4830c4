//! A training for comparison with another: the best of the learning rates that are no one's choice.

use crate::{
    Batch, Cause, Finding, Learner, Result, Snapshot,
    check::{
        arguments,
        training::{attempt::Attempt, overfits_batch::OTHER_RATES},
    },
    diagnose::{self, Case, Goal},
    measure::{blind_loss::of_best_constant, values::scalar},
    verdict::{count, number},
};

/// How a training went.
#[derive(Clone, Debug)]
pub(super) struct Trained {
    /// The loss before each step, and after the last.
    pub(super) losses: Vec<f64>,
    /// The loss at the end, in evaluation mode where that is lower.
    pub(super) last: f64,
    pub(super) rate: f64,
}

impl Trained {
    pub(super) fn first(&self) -> f64 {
        self.losses[0]
    }

    /// `1.39 -> 0.0123 in 40 steps`.
    pub(super) fn way(&self) -> String {
        let steps = count(self.losses.len() - 1, "step");
        format!("{} -> {} in {steps}", number(self.first()), number(self.last))
    }
}

/// The learner's own optimizer as it is; else the default one at its rate, and at the others.
pub(super) fn rates(learner: &Learner<'_>) -> Vec<Option<f64>> {
    match learner.has_own_optimizer() {
        true => vec![None],
        false => std::iter::once(None).chain(OTHER_RATES.map(Some)).collect(),
    }
}

/// Trains from the values of `before`, until the goal or the end of the steps.
pub(super) fn train(
    learner: &Learner<'_>,
    batch: &Batch,
    steps: usize,
    target: f64,
    rate: Option<f64>,
    before: &Snapshot,
) -> Result<Trained> {
    before.restore()?;
    let first = learner.evaluate(batch, true)?;
    let goal = Goal::below(scalar(&first.loss)?, target);
    let attempt = Attempt::run(learner, batch, steps, goal, first, rate)?;
    let training = attempt.training();
    Ok(Trained {
        losses: training.losses.clone(),
        last: training.last(),
        rate: training.learning_rate,
    })
}

/// The best training over all rates; none after one that reaches the target.
pub(super) fn best(
    learner: &Learner<'_>,
    batch: &Batch,
    steps: usize,
    target: f64,
    before: &Snapshot,
) -> Result<Trained> {
    let mut best: Option<Trained> = None;
    for rate in rates(learner) {
        let trained = train(learner, batch, steps, target, rate, before)?;
        best = Some(better(best, trained));
        if best.as_ref().is_some_and(|best| best.last <= target) {
            break;
        }
    }
    match best {
        Some(best) => Ok(best),
        None => train(learner, batch, steps, target, None, before),
    }
}

/// The one that ends lower; a NaN is no end.
pub(super) fn better(best: Option<Trained>, trained: Trained) -> Trained {
    match best {
        Some(best) if !(trained.last < best.last || best.last.is_nan()) => best,
        _ => trained,
    }
}

/// The first loss, and the one below which nothing is left to fit: 1 % of it, or of the best constant prediction's.
///
/// A loss below zero has no such floor.
pub(super) fn floor(learner: &Learner<'_>, batch: &Batch) -> Result<(f64, f64)> {
    let first = learner.evaluate(batch, true)?;
    arguments::evaluation(batch, &first)?;
    let initial = scalar(&first.loss)?;
    if !(initial > 0.0 && initial.is_finite()) {
        return Ok((initial, f64::NEG_INFINITY));
    }
    let baseline = match (&first.output, batch.target()) {
        (Some(output), Some(target)) => of_best_constant(output, target, initial)?,
        _ => None,
    };
    Ok((initial, Goal::default_for(initial, baseline).target))
}

/// Whether a training that ended at `ours` is better by the margin than one that ended at `theirs`.
///
/// By the loss itself, where it has its floor at zero; or by what training takes off it, where an offset (a penalty, smoothed
/// labels) or a far start hides that. The second asks for a hundredth of the loss, too: where nothing is learned at all,
/// any share of it is rounding.
pub(super) fn beats(ours: f64, theirs: f64, initial: f64, margin: f64) -> bool {
    let gain = theirs - ours;
    let of_loss = ours >= 0.0 && ours < (1.0 - margin) * theirs;
    let of_gain = gain > margin * (initial - ours) && gain > 0.01 * theirs.abs();
    gain > 0.0 && (of_loss || of_gain)
}

/// The case of a training that should have ended lower: for the diagnosis.
pub(super) fn diagnosed<T>(
    learner: &Learner<'_>,
    batch: &Batch,
    steps: usize,
    target: f64,
    before: &Snapshot,
    rate: f64,
    look: impl FnOnce(&Case<'_, '_>) -> Result<T>,
) -> Result<T> {
    before.restore()?;
    let first = learner.evaluate(batch, true)?;
    let goal = Goal::below(scalar(&first.loss)?, target);
    let rate = (!learner.has_own_optimizer()).then_some(rate);
    let attempt = Attempt::run(learner, batch, steps, goal, first, rate)?;
    let case = attempt.case(learner, batch, goal, before)?;
    case.other_rates_failed.set(!learner.has_own_optimizer());
    case.note_ending()?;
    look(&case)
}

/// What was found, and what was ruled out.
pub(super) type Why = (Vec<Finding>, Vec<(Cause, String)>);

/// What is wrong in any case, and why the loss did not get where it should; and what was ruled out.
pub(super) fn why_not_fitted(case: &Case<'_, '_>) -> Result<Why> {
    let wrong = diagnose::wrong_in_any_case(case)?;
    let explained = wrong.iter().any(Finding::is_confirmed);
    let why = diagnose::why_not_fitted(case, explained)?;
    Ok((wrong.into_iter().chain(why.findings).collect(), why.ruled_out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_is_measured_by_the_loss_or_by_what_was_taken_off_it() {
        assert!(beats(0.01, 1.39, 1.8, 0.1));
        assert!(!beats(1.35, 1.39, 1.8, 0.1));
        assert!(!beats(1.39, 1.39, 1.8, 0.1));
        // An offset of 50.
        assert!(beats(50.01, 51.39, 51.8, 0.1));
        // A likelihood below zero.
        assert!(beats(-3.0, -1.0, 2.0, 0.1));
        assert!(!beats(-1.01, -1.0, 2.0, 0.1));
        // Nothing learned at all.
        assert!(!beats(2.2999, 2.3, 2.3001, 0.1));
        assert!(!beats(f64::NAN, 2.3, 2.3, 0.1));
    }
}
