//! Variables that no step moved: outside the optimizer, without a gradient, or moved by less than their last bit.

use super::{
    driver::{Driver, Gradients, Role, Update},
    walk::{Walk, weights},
};
use crate::{
    Cause, Finding, Result,
    measure::vectors::{dot, length, root_mean_square},
    verdict::{count, listed, number},
};

/// So many variables that stand still are looked at one by one; a model in which all do has one story to tell.
const LOOKED_AT: usize = 12;

/// f32 keeps seven digits: a step of this share of a value is a step in it.
const VISIBLE_IN_F32: f64 = 1.0 / (1 << 24) as f64;

/// A swallowed step that is this much shorter than the others' may be rounding: the key bias of an attention has a
/// gradient that is nothing else.
const OF_THE_OTHERS: f64 = 1e-2;

/// Below this share of the largest a gradient may be rounding.
const NEXT_TO_NOTHING: f64 = 1e-6;

/// What was found of the variables that stood still.
#[derive(Default)]
pub(super) struct Still {
    pub(super) findings: Vec<Finding>,
    /// They would move if the format had room for the step, and no fault is in that.
    pub(super) lost: Vec<String>,
    /// They are written from values kept elsewhere, as half-precision weights are from their masters in f32: what the
    /// masters moved is less than a last bit of theirs so far.
    pub(super) copies: Vec<String>,
    /// Their gradient is zero, as the loss closure has it.
    pub(super) idle: Vec<String>,
}

/// `walk` is `None` where nothing moved at all.
pub(super) fn judge(
    driver: &mut Driver<'_>,
    walk: Option<&Walk>,
    gradients: Option<&Gradients>,
) -> Result<Still> {
    let mut still = Still::default();
    let stood: Vec<usize> = driver
        .trained()
        .map(|(at, _)| at)
        .filter(|at| walk.is_none_or(|w| !w.moved[*at]))
        .collect();
    if stood.is_empty() {
        return Ok(still);
    }
    if walk.is_none() {
        driver.patience = driver.patience.min(FEW_CALLS);
    }
    let usual = walk.map_or(0.0, |walk| typical(driver, walk));
    let (mut missed, mut coarse, mut slow) = (Vec::new(), Vec::new(), Vec::new());
    // Gates that begin at zero are open after the first steps.
    let end: Vec<(usize, Vec<f64>)> = match walk.filter(|walk| walk.broken.is_none()) {
        Some(walk) => driver.trained().map(|(at, _)| (at, walk.end[at].clone())).collect(),
        None => Vec::new(),
    };
    for at in stood.iter().copied().take(LOOKED_AT) {
        match step_from_zero(driver, at, &end)? {
            None => missed.push(at),
            Some(step) if is_copy(&driver.watched[at].start, &step) => {
                still.copies.push(driver.watched[at].name.clone());
            }
            Some(step) => {
                let watched = &driver.watched[at];
                let step = root_mean_square(&step);
                let size = root_mean_square(&watched.start);
                let in_half = watched.var.dtype().size_in_bytes() <= 2;
                match () {
                    () if step < OF_THE_OTHERS * usual => still.lost.push(watched.name.clone()),
                    () if in_half && step >= VISIBLE_IN_F32 * size => coarse.push((at, step)),
                    () => slow.push((at, step)),
                }
            }
        }
    }
    if stood.len() <= LOOKED_AT && !missed.is_empty() && missed.len() < driver.trained().count() {
        let elsewhere = moved_elsewhere(driver)?;
        missed.retain(|at| !elsewhere[*at]);
    }
    if gradients.is_none() && walk.is_some() {
        let by_right = zero_by_right(driver, &missed, walk);
        still.idle.extend(by_right.iter().map(|at| driver.watched[*at].name.clone()));
        missed.retain(|at| !by_right.contains(at));
    }
    let beyond = stood.iter().copied().skip(LOOKED_AT);
    let none_told = slow.is_empty() && coarse.is_empty() && still.copies.is_empty();
    missed.extend(beyond.filter(|_| none_told));

    if let Some((_, step)) = coarse.first() {
        let evidence = format!(
            "the format swallows every step: from its own values it never moves, from zero by {} a step",
            number(*step),
        );
        still.findings.push(
            Finding::confirmed(Cause::PrecisionLoss, evidence)
                .at(names(driver, coarse.iter().map(|c| c.0))),
        );
    }
    let of_weights = weights(driver);
    if slow.iter().any(|(at, _)| of_weights.contains(at)) && none_moved(&of_weights, walk) {
        let evidence = format!(
            "steps of {} are less than the last bit of the weights: from zero they do move them",
            number(slow.iter().map(|(_, step)| *step).fold(0.0, f64::max)),
        );
        still.findings.push(
            Finding::confirmed(Cause::LearningRateLow, evidence)
                .at(names(driver, slow.iter().map(|c| c.0))),
        );
    } else {
        still.lost.extend(slow.iter().map(|(at, _)| driver.watched[*at].name.clone()));
    }
    driver.stand_at(&end)?;
    let later = if missed.is_empty() { None } else { driver.gradients()? };
    driver.restore()?;
    let told = tell_missed(driver, &missed, later.as_ref(), gradients)?;
    still.findings.extend(told.0);
    still.idle.extend(told.1);
    Ok(still)
}

/// Biases at zero, a few among many, whose layers train: one before a norm, or of an attention's keys, has a gradient of
/// zero, and nobody leaves single biases out of an optimizer.
fn zero_by_right(driver: &Driver<'_>, missed: &[usize], walk: Option<&Walk>) -> Vec<usize> {
    let layer = |name: &str| name.rsplit_once('.').map(|(layer, _)| layer.to_owned());
    let moves = |at: usize| walk.is_some_and(|walk| walk.moved[at]);
    let trains = |of: &str| {
        let own = layer(of);
        own.is_some() && driver.trained().any(|(at, w)| layer(&w.name) == own && moves(at))
    };
    let vectors = driver.trained().filter(|(_, w)| !w.is_weight()).count();
    let by_right: Vec<usize> = (missed.iter().copied())
        .filter(|at| {
            let watched = &driver.watched[*at];
            !watched.is_weight() && watched.start.iter().all(|v| *v == 0.0) && trains(&watched.name)
        })
        .collect();
    if 2 * by_right.len() < vectors { by_right } else { Vec::new() }
}

/// Calls after which a step from zero counts as none, where nothing else moves.
const FEW_CALLS: usize = 4;

fn none_moved(weights: &[usize], walk: Option<&Walk>) -> bool {
    walk.is_none_or(|walk| weights.iter().all(|at| !walk.moved[*at]))
}

/// The typical size of the change of one value.
fn typical(driver: &Driver<'_>, walk: &Walk) -> f64 {
    let mut sizes: Vec<f64> = (driver.trained())
        .filter(|(at, _)| walk.moved[*at])
        .map(|(at, w)| walk.largest[at] / (w.start.len().max(1) as f64).sqrt())
        .collect();
    sizes.sort_by(f64::total_cmp);
    sizes.get(sizes.len() / 2).copied().unwrap_or(0.0)
}

/// Whether a step from zero leads straight back to where the variable was: it is not trained but copied from another. A
/// gradient knows nothing of where a variable was before it was set to zero.
fn is_copy(start: &[f64], step: &[f64]) -> bool {
    let back = length(step) / length(start);
    (0.5..=2.0).contains(&back) && dot(step, start) > 0.9 * length(step) * length(start)
}

/// How the step moves the variable when it is zero, where no step is lost in rounding.
fn step_from_zero(
    driver: &mut Driver<'_>,
    at: usize,
    end: &[(usize, Vec<f64>)],
) -> Result<Option<Vec<f64>>> {
    if driver.watched[at].start.iter().all(|v| *v == 0.0) {
        return Ok(None);
    }
    let zeros = vec![0.0; driver.watched[at].start.len()];
    let others = end.iter().filter(|(other, _)| *other != at).cloned();
    let there: Vec<(usize, Vec<f64>)> = others.chain([(at, zeros)]).collect();
    let Update { mut by, moved } = driver.update_at(&there)?;
    Ok(moved[at].then(|| by.swap_remove(at)))
}

/// Which variables move from other weights: what is only idle here (an expert no row is sent to) does.
fn moved_elsewhere(driver: &mut Driver<'_>) -> Result<Vec<bool>> {
    let mut any = vec![false; driver.watched.len()];
    for draw in 0..2 {
        let there = super::state::elsewhere(driver, draw)?;
        let update = driver.update_at(&there)?;
        any.iter_mut().zip(&update.moved).for_each(|(any, moved)| *any |= *moved);
    }
    Ok(any)
}

/// Whether a gradient arrives at what never moves, if the loss closure tells.
fn tell_missed(
    driver: &mut Driver<'_>,
    missed: &[usize],
    later: Option<&Gradients>,
    at_start: Option<&Gradients>,
) -> Result<(Vec<Finding>, Vec<String>)> {
    if missed.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let (Some(gradients), Some(at_start)) = (later, at_start) else {
        let evidence = format!(
            "not one bit of {} changes, not from zero either: outside the optimizer, or without a gradient",
            of_all(driver, missed.len()),
        );
        let finding = Finding::possible(Cause::OptimizerMissesVariable, evidence)
            .at(names(driver, missed.iter().copied()))
            .advice_is("build the optimizer after the model, from `varmap.all_vars()`; `loss = || ..` tells whether a gradient arrives, `frozen = [..]` declares what must not train");
        return Ok((vec![finding], Vec::new()));
    };
    let size = |at: usize| gradients.by[at].as_ref().map(|g| length(g));
    let largest = driver.trained().filter_map(|(at, _)| size(at)).fold(0.0, f64::max);
    let (mut owned_not, mut without, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    for at in missed.iter().copied() {
        match size(at) {
            Some(norm) if norm > NEXT_TO_NOTHING * largest => owned_not.push(at),
            Some(_) => idle.push(driver.watched[at].name.clone()),
            None => without.push(at),
        }
    }
    let mut findings = Vec::new();
    if !owned_not.is_empty() {
        let evidence = format!(
            "a gradient arrives at {}, and no step changes a bit of them, not from zero either",
            of_all(driver, owned_not.len()),
        );
        findings.push(
            Finding::confirmed(Cause::OptimizerMissesVariable, evidence)
                .at(names(driver, owned_not.iter().copied())),
        );
    }
    let (mut cut, mut unused) = (Vec::new(), Vec::new());
    for at in without {
        match shapes_the_loss(driver, at, at_start.loss)? {
            true => cut.push(at),
            false => unused.push(at),
        }
    }
    if !cut.is_empty() {
        let evidence = format!(
            "no gradient arrives at {}, and moving them changes the loss",
            of_all(driver, cut.len()),
        );
        findings.push(
            Finding::confirmed(Cause::GradientCut, evidence).at(names(driver, cut.iter().copied())),
        );
    }
    if !unused.is_empty() {
        let evidence = format!(
            "no gradient arrives at {}, and moving them does not change the loss",
            of_all(driver, unused.len()),
        );
        findings.push(
            Finding::confirmed(Cause::VariableUnused, evidence)
                .at(names(driver, unused.iter().copied())),
        );
    }
    Ok((findings, idle))
}

fn shapes_the_loss(driver: &mut Driver<'_>, at: usize, loss: f64) -> Result<bool> {
    let there = super::state::moved(&driver.watched[at], 0);
    driver.stand_at(&[(at, there)])?;
    let moved = driver.gradients()?;
    driver.restore()?;
    Ok(moved.is_some_and(|moved| moved.loss.to_bits() != loss.to_bits()))
}

fn of_all(driver: &Driver<'_>, part: usize) -> String {
    format!("{part} of {}", count(driver.trained().count(), "variable"))
}

pub(super) fn names(driver: &Driver<'_>, at: impl IntoIterator<Item = usize>) -> String {
    let names: Vec<&str> = at.into_iter().map(|at| driver.watched[at].name.as_str()).collect();
    listed(&names)
}

/// Declared frozen, and changed: exact.
pub(super) fn frozen_moved(driver: &Driver<'_>, walk: &Walk) -> Option<Finding> {
    let moved: Vec<usize> = (driver.watched.iter().enumerate())
        .filter(|(at, w)| w.role == Role::Frozen && walk.moved[*at])
        .map(|(at, _)| at)
        .collect();
    let farthest = moved.iter().map(|at| walk.farthest[*at]).fold(0.0, f64::max);
    (!moved.is_empty()).then(|| {
        let evidence = format!(
            "{} declared frozen changed, by up to {} in one step",
            count(moved.len(), "variable"),
            number(farthest),
        );
        Finding::confirmed(Cause::FrozenVariableMoved, evidence).at(names(driver, moved))
    })
}

/// A running statistic that the optimizer moves: a gradient arrives at it, and the step changes it other than the forward
/// pass alone does.
pub(super) fn statistics_moved(
    driver: &mut Driver<'_>,
    walk: &Walk,
    gradients: &Gradients,
) -> Result<Option<Finding>> {
    let suspects: Vec<usize> = (driver.watched.iter().enumerate())
        .filter(|(at, w)| w.role == Role::Statistic && gradients.by[*at].is_some())
        .map(|(at, _)| at)
        .collect();
    if suspects.is_empty() {
        return Ok(None);
    }
    driver.restore()?;
    driver.gradients()?;
    let forward = driver.values()?;
    driver.restore()?;
    let by_optimizer = |at: &usize| {
        let watched = &driver.watched[*at];
        let alone = forward[*at].iter().zip(&watched.start).map(|(a, b)| a - b);
        walk.first.moved[*at]
            && alone.zip(&walk.first.by[*at]).any(|(a, b)| a.to_bits() != b.to_bits())
    };
    let moved: Vec<usize> = suspects.into_iter().filter(by_optimizer).collect();
    Ok((!moved.is_empty()).then(|| {
        let evidence = format!(
            "a gradient arrives at {} and the optimizer takes it: the step changes them, the forward pass alone does not so",
            count(moved.len(), "running statistic"),
        );
        Finding::confirmed(Cause::FrozenVariableMoved, evidence)
            .at(names(driver, moved))
            .advice_is("`detach()` running statistics where the forward pass reads them, and leave them out of the optimizer's list")
    }))
}
