//! The size of the steps: beside the weights, beside one another, and beside the learning rate that is declared.

use super::{
    driver::{Driver, Gradients, pooled},
    still::names,
    walk::Walk,
};
use crate::{
    Cause, Finding,
    measure::vectors::{dot, length},
    verdict::{listed, number},
};

/// f32 holds steps down to 6e-8 of a value: weights that move less hardly change at all. AdamW at 1e-3 makes steps of
/// 1e-2 of the weights, SGD at 1e-4 of 1e-5 (measured on small networks).
pub(super) const LEAST: f64 = 1e-7;

/// The weights are replaced, not improved: twice their size, step after step. SGD at 1.0 makes steps of 0.6 of them, AdamW
/// at 0.1 of 1.0, and both train (measured).
const MOST: f64 = 2.0;

/// The loss at its lowest after the first steps, beside the loss before them. AdamW at 0.1 took a loss of 2.6 to 12.6 in
/// one step, and on to zero (measured): the lowest of several is judged, and three times is much.
const LOSS_GREW: f64 = 3.0;

/// Finds steps that are orders of magnitude off.
pub(super) fn judge(walk: &Walk, left_out: &mut Vec<String>) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(evidence) = too_large(walk) {
        found.push(Finding::confirmed(Cause::LearningRateHigh, evidence));
    }
    if let Some((step, variables)) = &walk.broken {
        let variables: Vec<&str> = variables.iter().map(String::as_str).collect();
        let evidence = format!("NaN or infinite after {}", crate::verdict::count(*step, "step"));
        found.push(Finding::confirmed(Cause::NotFinite, evidence).at(listed(&variables)));
    }
    let largest = walk.ratios.iter().copied().fold(0.0, f64::max);
    if largest > 0.0 && largest < LEAST {
        if is_growing(&walk.lengths) {
            left_out.push(format!(
                "the size of the steps, {} of the weights at most: it grows from step to step, as in a warm-up",
                number(largest),
            ));
        } else {
            let evidence = format!(
                "the largest of {} steps changes the weights by {} of their size",
                walk.ratios.len(),
                number(largest),
            );
            found.push(Finding::confirmed(Cause::LearningRateLow, evidence));
        }
    } else if let Some(period) = restarts(&walk.lengths) {
        let evidence = format!(
            "the steps grow as 1 to {period}, and then begin again at 1: the warm-up never ends",
        );
        found.push(
            Finding::confirmed(Cause::LearningRateLow, evidence)
                .advice_is("count the steps of the whole training, not of the epoch"),
        );
    }
    found
}

fn too_large(walk: &Walk) -> Option<String> {
    let finite = walk.ratios.iter().copied().filter(|ratio| ratio.is_finite());
    let mut ratios: Vec<f64> = finite.collect();
    ratios.sort_by(f64::total_cmp);
    let median = ratios.get(ratios.len() / 2).copied().unwrap_or(0.0);
    if median > MOST {
        return Some(format!("a step changes the weights by {} times their size", number(median)));
    }
    let (before, after) = walk.losses.split_first()?;
    let lowest = after.iter().copied().fold(f64::INFINITY, f64::min);
    let grew = *before > 0.0 && !after.is_empty() && (lowest > LOSS_GREW * before);
    grew.then(|| {
        format!(
            "the loss is {} before the first step, and {} at its lowest after {} steps",
            number(*before),
            number(lowest),
            after.len(),
        )
    })
}

/// Whether the steps grow all the way, and not by little.
fn is_growing(lengths: &[f64]) -> bool {
    let (Some(first), Some(last)) = (lengths.first(), lengths.last()) else { return false };
    *last > 2.0 * first && lengths.windows(2).all(|pair| pair[1] > pair[0])
}

/// How near a step's length must be to the multiple of the first that a linear warm-up makes it. Gradients change in a few
/// steps, but not by that much.
const NEAR: f64 = 0.25;

/// The period of a linear warm-up that starts again, seen to start at least twice.
fn restarts(lengths: &[f64]) -> Option<usize> {
    (3..=lengths.len().saturating_sub(1) / 2).find(|period| {
        let unit = lengths[0];
        let fits = |(at, length): (usize, &f64)| {
            let times = (at % period + 1) as f64;
            (length / unit - times).abs() <= NEAR * times
        };
        unit > 0.0 && lengths.iter().enumerate().all(fits)
    })
}

/// A step whose every entry has one length is the first of an Adam, or a sign: the length is the learning rate.
fn length_of_sign(update: &[f64]) -> Option<f64> {
    let mut sizes: Vec<f64> = update.iter().map(|v| v.abs()).filter(|v| *v > 0.0).collect();
    sizes.sort_by(f64::total_cmp);
    let median = *sizes.get(sizes.len() / 2)?;
    let near = sizes.iter().filter(|v| (*v - median).abs() <= 0.01 * median).count();
    (10 * near >= 8 * sizes.len()).then_some(median)
}

/// Two rates that agree to this much are one.
const SAME_RATE: f64 = 0.03;

/// A step this much shorter than one at the declared rate is no matter of clipping: that leaves a norm of 1, or 0.01.
const SHORT: f64 = 1e-3;

/// How far each variable's first step went, as a multiple of the declared learning rate.
///
/// A step of an Adam that has just begun, or of a sign, has the length of the rate in every entry; one of plain descent is
/// the rate times the gradient, where that is known.
pub(super) fn beside_rate(
    driver: &Driver<'_>,
    walk: &Walk,
    gradients: Option<&Gradients>,
    rate: f64,
    left_out: &mut Vec<String>,
) -> Vec<Finding> {
    let mut multiples: Vec<(usize, f64)> = Vec::new();
    let mut descends = false;
    for (at, watched) in driver.trained() {
        let update = &walk.first.by[at];
        if !walk.first.moved[at] || !watched.is_fine() {
            continue;
        }
        // Behind the rounding of the variable itself.
        let floor = watched.epsilon() * watched.start.iter().map(|v| v.abs()).fold(0.0, f64::max);
        let gradient = gradients.and_then(|g| g.by[at].as_deref());
        if let Some(slope) = gradient.and_then(|g| plain_rate(update, g)) {
            descends = true;
            if length(update) > 50.0 * floor * (update.len() as f64).sqrt() {
                multiples.push((at, slope / rate));
            }
        } else if let Some(length) = length_of_sign(update).filter(|length| *length > 50.0 * floor)
        {
            multiples.push((at, length / rate));
        }
    }
    if multiples.is_empty() {
        left_out.push(
            "the declared learning rate: the first step is neither plain descent nor Adam's"
                .to_owned(),
        );
        return Vec::new();
    }
    let near = |value: f64, wanted: f64| (value / wanted - 1.0).abs() <= SAME_RATE;
    let as_declared = multiples.iter().filter(|(_, m)| near(*m, 1.0)).count();
    let doubled: Vec<usize> = multiples
        .iter()
        .filter(|(_, m)| m.round() >= 2.0 && m.round() <= 4.0 && near(*m, m.round()))
        .map(|(at, _)| *at)
        .collect();
    let clipped = match gradients {
        Some(g) if descends => 1.0 / pooled(g.by.iter().flatten()).max(1.0),
        _ => 1.0,
    };
    let (least, most) = multiples
        .iter()
        .fold((f64::INFINITY, 0.0f64), |(low, high), (_, m)| (low.min(*m), high.max(*m)));
    let mut found = Vec::new();
    if !doubled.is_empty() && as_declared > 0 {
        let evidence = format!(
            "moves by {} times the declared learning rate of {}, others by once: it is owned by two optimizers, or steps twice",
            number(most.round()),
            number(rate),
        );
        found.push(
            Finding::confirmed(Cause::UpdateRatio, evidence)
                .at(names(driver, doubled))
                .advice_is("give each variable to one optimizer"),
        );
    } else if least > 10.0 {
        let evidence = format!(
            "the first step is {} times one at the declared learning rate of {}",
            number(least),
            number(rate),
        );
        found.push(Finding::confirmed(Cause::LearningRateHigh, evidence));
    } else if most < SHORT * clipped && !is_growing(&walk.lengths) {
        let evidence = format!(
            "the first step is {} of one at the declared learning rate of {}",
            number(most),
            number(rate),
        );
        found.push(Finding::confirmed(Cause::UpdateRatio, evidence).advice_is(
            "look for a clipping to a tiny norm, a scale that is applied twice, or a warm-up that never ends",
        ));
    }
    found
}

/// The rate of a plain descent step: the factor between gradient and step, where they are parallel.
pub(super) fn plain_rate(update: &[f64], gradient: &[f64]) -> Option<f64> {
    let (across, lengths) = (dot(update, gradient), length(update) * length(gradient));
    (lengths > 0.0 && across < -0.9999 * lengths).then(|| -across / dot(gradient, gradient))
}
