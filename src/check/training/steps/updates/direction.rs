//! Which way the steps go, beside the gradient of the loss.

use super::{
    driver::{Driver, Gradients, Update, pooled},
    walk::Walk,
};
use crate::{
    Cause, Finding, Result,
    check::training::steps::CLIMBS,
    measure::vectors::{self, dot},
    verdict::number,
};

/// A step up the gradient: both of the first two, and the loss rises along them.
pub(super) fn climbs(
    driver: &mut Driver<'_>,
    walk: &Walk,
    gradients: &Gradients,
) -> Option<Finding> {
    let up = |update: &Update| share_uphill(driver, update, gradients);
    let (first, second) = (up(&walk.first)?, up(&walk.second)?);
    if first < CLIMBS || second < CLIMBS {
        return None;
    }
    let slope: f64 = (driver.trained())
        .filter_map(|(at, _)| gradients.by[at].as_ref().map(|g| dot(g, &walk.first.by[at])))
        .sum();
    let evidence = format!(
        "the step goes along the gradient of the loss, not against it: {} % of it, and the loss rises by {} at first order",
        number((1000.0 * first).round() / 10.0),
        number(slope),
    );
    Some(Finding::confirmed(Cause::LossSign, evidence).advice_is(
        "make the learning rate positive, subtract the step, and minimise the loss rather than its negative",
    ))
}

fn share_uphill(driver: &Driver<'_>, update: &Update, gradients: &Gradients) -> Option<f64> {
    let pairs = driver.trained().filter_map(|(at, _)| {
        let gradient = gradients.by[at].as_ref()?;
        Some(update.by[at].iter().copied().zip(gradient.iter().copied()))
    });
    vectors::share_uphill(pairs.flatten())
}

/// A step that has one and the same tiny length at two gradients of different length: a clipping by norm.
pub(super) fn clipped_to_nothing(
    driver: &mut Driver<'_>,
    gradients: &Gradients,
    largest_ratio: f64,
) -> Result<Option<Finding>> {
    /// Only steps that hardly move anything are suspect: clipping itself is no bug.
    const SUSPECT: f64 = 1e-6;
    if largest_ratio >= SUSPECT {
        return Ok(None);
    }
    let here = driver.update_at(&[])?;
    let there = super::state::elsewhere(driver, 0)?;
    driver.stand_at(&there)?;
    let other = driver.gradients()?;
    let update = driver.update_at(&there)?;
    let Some(other) = other else { return Ok(None) };
    let length = |update: &Update| pooled(driver.trained().map(|(at, _)| &update.by[at]));
    let (a, b) = (length(&here), length(&update));
    let (g, h) = (pooled(gradients.by.iter().flatten()), pooled(other.by.iter().flatten()));
    // Steps this short are rounded to the last bits of the weights.
    let same = a > 0.0 && (a / b - 1.0).abs() < 0.1;
    let differ = (g / h - 1.0).abs() > 0.3;
    Ok((same && differ).then(|| {
        let evidence = format!(
            "gradients of norm {} and {} make steps of one length, {}: they are clipped to a tiny norm",
            number(g),
            number(h),
            number(a),
        );
        Finding::confirmed(Cause::UpdateRatio, evidence)
            .advice_is("clip gradients to a norm of 1 or so: that leaves usual ones alone")
    }))
}
