//! Which variables took no part in the training, and why?
//!
//! Cost: two evaluations a variable without a gradient, and one step for all that have one and never moved.

use super::{
    Case,
    graph_end::{self, Seen, State},
    suspects::VANISHED,
};
use crate::{
    Cause, Finding, Result,
    learner::DEFAULT_LEARNING_RATE,
    measure::{
        effect::{self, Still},
        training::moved_since,
        values::norm,
    },
    verdict::{count, listed, number},
};

/// Steps this many times as large move whatever a step can move: the smallest relative step of a half-precision
/// variable is 1/256 (bf16), and the usual learning rates are 1e-5 and up.
const LARGER: f64 = 1e3;

/// The relative step that a bf16 variable cannot lose, with room for an optimizer that clips or averages.
const VISIBLE: f64 = 1.0;

pub(super) fn findings(case: &Case<'_, '_>) -> Result<Vec<Finding>> {
    let mut found = frozen_moved(case);
    if case.training.broken.as_ref().is_some_and(|broken| broken.step == 0) {
        return Ok(found);
    }
    found.extend(without_gradient(case)?);
    found.extend(never_moved(case)?);
    Ok(found)
}

pub(super) fn unused(case: &Case<'_, '_>) -> Result<Vec<String>> {
    let mut unused = Vec::new();
    for (name, var) in case.learner.trainable().filter(|(name, _)| !arrived(case, name)) {
        let effect = effect::of_variable(case.learner, case.batch, name, var)?;
        if effect.is_some_and(|effect| !effect.any()) {
            unused.push(name.to_owned());
        }
    }
    Ok(unused)
}

fn arrived(case: &Case<'_, '_>, name: &str) -> bool {
    case.training.gradients.iter().any(|gradient| gradient.name == name && gradient.arrived)
}

fn frozen_moved(case: &Case<'_, '_>) -> Vec<Finding> {
    let moved: Vec<&str> = (case.moved.iter().map(String::as_str))
        .filter(|name| case.learner.is_frozen(name) && !crate::learner::is_running_statistic(name))
        .collect();
    match moved.len() {
        0 => Vec::new(),
        n => vec![
            Finding::confirmed(
                Cause::FrozenVariableMoved,
                format!("{} declared frozen changed", count(n, "variable")),
            )
            .at(listed(&moved)),
        ],
    }
}

fn without_gradient(case: &Case<'_, '_>) -> Result<Vec<Finding>> {
    if case.training.steps() == 0 {
        return Ok(Vec::new());
    }
    let without: Vec<_> =
        case.learner.trainable().filter(|(name, _)| !arrived(case, name)).collect();
    let all = case.training.gradients.len();
    if without.is_empty() {
        return Ok(Vec::new());
    }
    if without.len() == all && case.training.tracked.output && !case.training.tracked.loss {
        return Ok(vec![Finding::confirmed(
            Cause::LossDetached,
            "the output carries a graph and the loss does not: no variable gets a gradient",
        )]);
    }
    let still = Still::new(case.learner, case.batch, false)?;
    let (mut cut, mut unused, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    let mut largest = 0.0f64;
    for (name, var) in without {
        match &still {
            Some(still) => {
                let effect = still.moving(name, var)?;
                largest = largest.max(effect.on_loss);
                if effect.any() { cut.push(name) } else { unused.push(name) }
            }
            None => unknown.push(name),
        }
    }
    let of_all = |part: usize| format!("{part} of {}", count(all, "variable"));
    let mut found = Vec::new();
    if !cut.is_empty() {
        let seen: Vec<Seen<'_>> = (case.learner.trainable())
            .map(|(name, var)| Seen {
                name,
                var,
                state: match (cut.contains(&name), arrived(case, name)) {
                    (true, _) => State::Cut,
                    (_, true) => State::Flows,
                    _ => State::Aside,
                },
            })
            .collect();
        for end in graph_end::ends(&seen, still.as_ref())? {
            found.push(end.finding(all, largest));
        }
    }
    if unused.len() == all {
        found.push(Finding::confirmed(
            Cause::VariableUntracked,
            "moving any of the learner's variables changes nothing: the model computes with other tensors",
        ));
    }
    if !unknown.is_empty() {
        let evidence = format!(
            "no gradient arrives at {}; two evaluations differ, so whether they matter cannot be told",
            of_all(unknown.len()),
        );
        found.push(Finding::possible(Cause::GradientCut, evidence).at(listed(&unknown)));
    }
    Ok(found)
}

/// Variables with a gradient that no step moved: outside the optimizer, or moved by less than their last bit.
fn never_moved(case: &Case<'_, '_>) -> Result<Vec<Finding>> {
    let still: Vec<&str> = (case.training.gradients.iter())
        .filter(|gradient| gradient.first_norm.is_some_and(|norm| norm > 0.0))
        .map(|gradient| gradient.name.as_str())
        .filter(|name| !case.moved.iter().any(|moved| moved == name))
        .collect();
    if still.is_empty() || case.training.steps() == 0 || case.training.broken.is_some() {
        return Ok(Vec::new());
    }
    let (lost, still) = without_size(case, still);
    // One variable may have next to no gradient by right (an attention's key bias, a bias before a norm); half of them
    // may not.
    let vanished = (2 * lost.len() >= case.training.gradients.len()).then(|| {
        let evidence = format!(
            "the gradient of {} is {} of the largest or less: it arrives, and no step moves them",
            count(lost.len(), "variable"),
            number(VANISHED),
        );
        Finding::confirmed(Cause::GradientVanishing, evidence).at(listed(&lost))
    });
    let mut found: Vec<Finding> = vanished.into_iter().collect();
    if still.is_empty() {
        return Ok(found);
    }
    let rate = case.training.learning_rate;
    let larger = larger_rate(case, rate, &still)?;
    let Some(moved) = moved_by_one_step(case, larger)? else {
        let evidence = format!(
            "{} never moved, and the optimizer takes no other learning rate",
            count(still.len(), "variable"),
        );
        found.push(Finding::possible(Cause::OptimizerMissesVariable, evidence).at(listed(&still)));
        return Ok(found);
    };
    let (slow, missed): (Vec<&str>, Vec<&str>) =
        still.into_iter().partition(|name| moved.iter().any(|m| m == name));
    if !missed.is_empty() {
        let evidence = format!(
            "a gradient arrives at {}, but no step moves them, not even at a learning rate of {}",
            count(missed.len(), "variable"),
            number(larger),
        );
        found
            .push(Finding::confirmed(Cause::OptimizerMissesVariable, evidence).at(listed(&missed)));
    }
    if !slow.is_empty() {
        let evidence = format!(
            "the learning rate {} moves {} by less than the last bit; {} does move it",
            number(rate),
            count(slow.len(), "variable"),
            number(larger),
        );
        // A step lost in the format is the format's doing only where the rate is a usual one.
        let coarse = rate.abs() >= 1e-5 && slow.iter().any(|name| is_half(case, name));
        let cause = if coarse { Cause::PrecisionLoss } else { Cause::LearningRateLow };
        found.push(Finding::confirmed(cause, evidence).at(listed(&slow)));
    }
    Ok(found)
}

/// The variables whose gradient is next to nothing beside the largest, and the others.
fn without_size<'n>(case: &Case<'_, '_>, still: Vec<&'n str>) -> (Vec<&'n str>, Vec<&'n str>) {
    let norm_of = |name: &str| {
        let gradient = case.training.gradients.iter().find(|gradient| gradient.name == name);
        gradient.and_then(|gradient| gradient.first_norm).unwrap_or(0.0)
    };
    let largest = case.training.gradients.iter().map(|g| norm_of(&g.name)).fold(0.0, f64::max);
    still.into_iter().partition(|name| norm_of(name) <= VANISHED * largest)
}

/// A rate at which a plain gradient step could not be lost in rounding, and no adaptive one either.
fn larger_rate(case: &Case<'_, '_>, rate: f64, still: &[&str]) -> Result<f64> {
    let mut larger = (LARGER * rate.abs()).max(DEFAULT_LEARNING_RATE);
    let norms = case.training.gradients.iter();
    for gradient in norms.filter(|gradient| still.contains(&gradient.name.as_str())) {
        let var = case.learner.variables().iter().find(|(name, _)| *name == gradient.name);
        if let (Some((_, var)), Some(first)) = (var, gradient.first_norm)
            && first.is_finite()
        {
            larger = larger.max(VISIBLE * norm(var.as_tensor())? / first);
        }
    }
    Ok(larger)
}

fn is_half(case: &Case<'_, '_>, name: &str) -> bool {
    (case.learner.variables().iter()).any(|(n, var)| n == name && var.dtype().size_in_bytes() <= 2)
}

/// The variables that one step of a fresh optimizer at this learning rate moves, from the values before the training.
/// `None` where the optimizer does not take the learning rate.
fn moved_by_one_step(case: &Case<'_, '_>, learning_rate: f64) -> Result<Option<Vec<String>>> {
    case.before.restore()?;
    let mut optimizer = case.learner.make_optimizer()?;
    optimizer.set_learning_rate(learning_rate);
    if optimizer.learning_rate() != learning_rate {
        return Ok(None);
    }
    let loss = case.learner.evaluate(case.batch, true)?.loss;
    optimizer.step(&loss.backward()?)?;
    let moved = moved_since(case.before)?;
    case.before.restore()?;
    Ok(Some(moved))
}
