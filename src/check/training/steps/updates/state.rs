//! What a step remembers: gradients it should have dropped, and moments it should have kept.
//!
//! Every test here is exact but for rounding, and a step that draws anything at random cannot pass one by chance.

use candle_core::{DType, Device};

use super::{
    driver::{Driver, Update, Watched, pooled},
    still::names,
    walk::Walk,
};
use crate::{Cause, Finding, Result, Seed, measure::values::to_f64_vec, verdict::number};

/// Values elsewhere: each a share of its own, of one sign with it, so that what must be positive stays so. Where all are
/// zero they stay so.
pub(super) fn moved(watched: &Watched, draw: u64) -> Vec<f64> {
    let seed = Seed::new(draw).split("elsewhere");
    let factors = seed
        .uniform(&watched.name, 0.3..1.7, watched.start.len(), DType::F64, &Device::Cpu)
        .and_then(|t| to_f64_vec(&t));
    match factors {
        Ok(factors) => watched.start.iter().zip(factors).map(|(v, f)| v * f).collect(),
        Err(_) => watched.start.clone(),
    }
}

/// Other weights: all that train, moved.
pub(super) fn elsewhere(driver: &Driver<'_>, draw: u64) -> Result<Vec<(usize, Vec<f64>)>> {
    Ok(driver.trained().map(|(at, watched)| (at, moved(watched, draw))).collect())
}

/// Steps that are equal to this much are equal; a momentum of 0.99 differs by 1e-2.
const EQUAL: f64 = 3e-3;

/// Gradients that are added up and never cleared, or that belong to the weights before.
///
/// Five steps, two from the starting weights, two from others, one from the first again. Where gradients are only ever
/// added up, a step is longer than the one before by what its own weights give: those increments are equal in pairs.
/// Where gradients are a step late, a step is the one that the weights before would make.
pub(super) fn stale(
    driver: &mut Driver<'_>,
    left_out: &mut Vec<String>,
) -> Result<Option<Finding>> {
    let there = elsewhere(driver, 1)?;
    let steps = [
        driver.update_at(&[])?,
        driver.update_at(&[])?,
        driver.update_at(&there)?,
        driver.update_at(&there)?,
        driver.update_at(&[])?,
    ];
    let fine: Vec<usize> =
        driver.trained().filter(|(_, w)| w.is_fine()).map(|(at, _)| at).collect();
    let flat = |update: &Update| -> Vec<f64> {
        fine.iter().flat_map(|at| update.by[*at].iter().copied()).collect()
    };
    let flat: Vec<Vec<f64>> = steps.iter().map(flat).collect();
    let minus =
        |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a - b).collect() };
    let apart = |a: &[f64], b: &[f64]| pooled([&minus(a, b)]);
    // Each step is rounded to the last bit of the values it is added to: half a bit each, and four of them differ.
    let rounding: f64 = (fine.iter())
        .map(|at| driver.watched[*at].epsilon() * pooled([&driver.watched[*at].start]))
        .map(|r| r * r)
        .sum::<f64>()
        .sqrt();
    let grown: Vec<Vec<f64>> = flat.windows(2).map(|pair| minus(&pair[1], &pair[0])).collect();
    let length = |v: &Vec<f64>| pooled([v]);
    let provable = |size: f64| size > 0.0 && 2.0 * rounding <= EQUAL * size;
    let lengths: Vec<f64> = flat.iter().map(length).collect();
    let longest = lengths.iter().copied().fold(0.0, f64::max);
    if !longest.is_finite() || !provable(longest) {
        left_out.push(
            "stale gradients: the steps are too short beside the rounding of the weights"
                .to_owned(),
        );
        return Ok(None);
    }
    let equal = |a: &Vec<f64>, b: &Vec<f64>| {
        let size = length(a).min(length(b));
        provable(size) && apart(a, b) <= EQUAL * size
    };
    let differ = |a: &Vec<f64>, b: &Vec<f64>| apart(a, b) > 10.0 * EQUAL * length(a).max(length(b));
    if equal(&grown[1], &grown[2]) && equal(&grown[0], &grown[3]) && differ(&grown[0], &grown[1]) {
        let evidence = format!(
            "every step is the one before and a new gradient: from the same weights steps of length {}, then {}",
            number(lengths[0]),
            number(lengths[1]),
        );
        return Ok(Some(Finding::confirmed(Cause::GradientsStale, evidence).advice_is(
            "clear the gradients after each step: every `backward()` of candle's gives a new `GradStore`",
        )));
    }
    let is_sign = |v: &Vec<f64>| {
        let sizes = || v.iter().map(|v| v.abs()).filter(|v| *v > 0.0);
        let most = sizes().fold(0.0, f64::max);
        10 * sizes().filter(|v| (most - v).abs() < 0.02 * most).count() >= 9 * sizes().count()
    };
    // A sign need not change with the weights.
    if is_sign(&flat[1]) || is_sign(&flat[2]) {
        return Ok(None);
    }
    let late = equal(&flat[2], &flat[1]) && equal(&flat[4], &flat[3]) && differ(&flat[1], &flat[3]);
    let once = flat.windows(2).all(|pair| equal(&pair[0], &pair[1]));
    let evidence = match () {
        () if late => {
            "each step is the one that the weights before it would make: its gradients are a step late"
        }
        () if once => {
            "other weights make the very same step: its gradients were computed once, for other weights"
        }
        () => return Ok(None),
    };
    Ok(Some(
        Finding::confirmed(Cause::GradientsStale, evidence).advice_is(
            "compute loss and gradients anew in every step, from the weights as they are",
        ),
    ))
}

/// So many entries of one length are no chance.
const ENOUGH: usize = 16;

/// So many variables are tried.
const TRIED: usize = 4;

/// An Adam that begins anew at every step: whatever came before, a step is the same to the bit, and all its entries have the
/// length of the learning rate, but for what Adam's epsilon takes off.
///
/// A variable is set to zero for it, where no decay and no rounding hides the length. A sign of the gradient has one length
/// to the bit, a clipped one mostly, and plain descent has as many as its gradient.
pub(super) fn reset(driver: &mut Driver<'_>, walk: &Walk) -> Result<Option<Finding>> {
    let mut candidates: Vec<(usize, usize)> = (driver.trained())
        .filter(|(at, w)| w.is_fine() && walk.moved[*at] && w.start.len() >= ENOUGH)
        .map(|(at, w)| (at, w.start.len()))
        .collect();
    candidates.sort_by_key(|(at, len)| (std::cmp::Reverse(*len), *at));
    let there = elsewhere(driver, 1)?;
    let mut shown: Vec<(usize, f64)> = Vec::new();
    for (at, len) in candidates.into_iter().take(TRIED) {
        let zeros = [(at, vec![0.0; len])];
        let first = driver.update_at(&zeros)?;
        let Some(length) = first_of_adam(&first.by[at]) else { continue };
        driver.update_at(&there)?;
        let again = driver.update_at(&zeros)?;
        let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits();
        let all = first.by.iter().flatten().zip(again.by.iter().flatten());
        let mut all = all.map(same);
        if !all.all(|same| same) {
            return Ok(None);
        }
        shown.push((at, length));
        if shown.len() == 2 {
            break;
        }
    }
    let [(a, length), rest @ ..] = shown.as_slice() else { return Ok(None) };
    // One variable could have entries of one length by its symmetry.
    if !rest.iter().any(|(_, other)| (other / length - 1.0).abs() < 1e-2) {
        return Ok(None);
    }
    let evidence = format!(
        "every step is an Adam's first: each entry moves by {}, whatever its gradient, and the steps before change not one bit",
        number(*length),
    );
    let at: Vec<usize> = std::iter::once(*a).chain(rest.iter().map(|(at, _)| *at)).collect();
    Ok(Some(
        Finding::confirmed(Cause::OptimizerStateReset, evidence).at(names(driver, at)).advice_is(
            "build the optimizer once, before the loop, and outside of the closure of this step",
        ),
    ))
}

/// The length of most entries, where it is one but for an epsilon. A sign, or a clipping by value, has it to the bit.
fn first_of_adam(update: &[f64]) -> Option<f64> {
    let sizes: Vec<f64> = update.iter().map(|v| v.abs()).filter(|v| *v > 0.0).collect();
    let most = sizes.iter().copied().fold(0.0, f64::max);
    let near = sizes.iter().filter(|v| most - **v <= 1e-3 * most).count();
    let to_the_bit = sizes.iter().filter(|v| v.to_bits() == most.to_bits()).count();
    let is_one_length = sizes.len() >= ENOUGH && 10 * near >= 8 * sizes.len();
    (is_one_length && 10 * to_the_bit < 6 * near).then_some(most)
}
