//! What a training loop's own code makes of the micro-batches.

use candle_core::backprop::GradStore;

use super::{
    Cut, percent,
    split::{Split, numbers},
    weighting::Weighting,
};
use crate::{
    Batch, Cause, Failure, Finding, Result,
    check::function::guarded,
    measure::micro_batches::{Gradient, Micro},
    verdict::number,
};

pub(super) type Accumulate<'a> = dyn FnMut(&[Batch]) -> candle_core::Result<GradStore> + 'a;

/// The failure of an accumulation that does not give the gradient of the batch.
pub(super) fn judged(
    accumulate: &mut Accumulate<'_>,
    micro: &Micro<'_, '_>,
    cut: &Cut,
    weighting: Option<&Weighting>,
) -> Result<Option<Failure>> {
    let mut gradient = |parts: &[Batch]| -> Result<Gradient> {
        micro.restore()?;
        let grads = guarded("the accumulation", || {
            accumulate(parts).map_err(|e| Failure::from_candle("the accumulation", e))
        })?;
        Gradient::of(micro.learner, &grads)
    };
    for (at, split) in cut.splits.iter().enumerate() {
        let sum = gradient(&split.parts)?;
        if !sum.is_finite() {
            return Ok(Some(not_finite(split)));
        }
        if at == 0 {
            let again = gradient(&split.parts)?;
            if let Some(failure) = stale(cut, split, &sum, &again) {
                return Ok(Some(failure));
            }
        }
        let expected = split.fitted(&cut.whole, &cut.whole.gradient);
        let weights = match weighting {
            Some(weighting) if !matches!(weighting, Weighting::OfTheLoss) => {
                Some(weighting.of(&split.parts)?)
            }
            _ => expected,
        };
        let sizes = weights.clone().unwrap_or_else(|| vec![1.0; split.parts.len()]);
        let off = split.off(&cut.whole, &sum, &sizes, &cut.of);
        if !off.holds() {
            return Ok(Some(differs(cut, split, &sum, weights, weighting, off)));
        }
    }
    Ok(None)
}

/// What is not finite is not compared with anything.
fn not_finite(split: &Split) -> Failure {
    Failure::violated(format!(
        "what the training loop accumulates in {} is not finite",
        split.name(),
    ))
    .finding(Finding::confirmed(
        Cause::NotFinite,
        "NaN or infinite values in the sum, where every part has a finite gradient",
    ))
}

/// A second accumulation of the same parts, from the same weights, must give the same.
fn stale(cut: &Cut, split: &Split, first: &Gradient, second: &Gradient) -> Option<Failure> {
    let parts = vec![1.0; split.parts.len()];
    let added = Gradient::weighted(&[second, first], &[1.0, -1.0]);
    let apart = cut.of.iter().map(|v| added.norm(*v) / first.norm(*v).max(f64::MIN_POSITIVE));
    let apart = apart.fold(0.0, f64::max);
    let allowed = |v: &usize| cut.whole.tolerance(*v, &split.gradients(), &parts);
    if cut.of.iter().all(|v| added.norm(*v) <= allowed(v)) {
        return None;
    }
    let failure = Failure::violated(format!(
        "the second accumulation of the same {} gives another gradient than the first: {} off",
        split.name(),
        percent(apart),
    ));
    // What came on top is the batch's gradient once more, or all that was there.
    let is_whole = cut.of.iter().all(|v| added.distance(&cut.whole.gradient, *v) <= allowed(v));
    let is_first = cut.of.iter().all(|v| added.distance(first, *v) <= allowed(v));
    Some(match is_whole || is_first {
        true => failure.finding(Finding::confirmed(
            Cause::GradientsStale,
            "the second is the first, and the gradient of the same parts once more: nothing was cleared in between",
        )),
        false => failure.finding(Finding::confirmed(
            Cause::AccumulationDiffers,
            "from the same weights and the same parts, so the first call left something behind, or draws at random",
        )),
    })
}

fn differs(
    cut: &Cut,
    split: &Split,
    sum: &Gradient,
    weights: Option<Vec<f64>>,
    weighting: Option<&Weighting>,
    off: super::split::Off,
) -> Failure {
    let variable = &cut.whole.names[off.variable];
    let mut failure = Failure::violated(format!(
        "what the training loop accumulates is not the gradient of the batch: `{variable}` is {} off in {}",
        percent(off.share),
        split.name(),
    ));
    let counted = split.fitted(&cut.whole, sum).filter(|counted| {
        let fitted = Gradient::weighted(&split.gradients(), counted);
        cut.of.iter().all(|v| {
            fitted.distance(sum, *v) <= cut.whole.tolerance(*v, &split.gradients(), counted)
        })
    });
    if let Some(counted) = &counted {
        failure = failure.fact("weights added", numbers(&tidied(counted)));
    }
    if let Some(weights) = &weights {
        let how = weighting.map(|w| format!(", {w}")).unwrap_or_default();
        failure = failure.fact("weights due", format!("{}{how}", numbers(&tidied(weights))));
    }
    failure = failure.fact("rounding", format!("allows {}", percent(off.allowed)));
    let evidence = match (&counted, &weights) {
        (Some(counted), Some(due)) => said_of(&tidied(counted), &tidied(due)),
        _ => "no weights of the parts make this sum: something else is in it".to_owned(),
    };
    failure.finding(Finding::confirmed(Cause::AccumulationDiffers, evidence))
}

/// Weights that were fitted hold rounding: a thousandth is none of them.
fn tidied(weights: &[f64]) -> Vec<f64> {
    weights.iter().map(|w| (w * 1000.0).round() / 1000.0 + 0.0).collect()
}

fn said_of(counted: &[f64], due: &[f64]) -> String {
    let parts = counted.len() as f64;
    let near = |a: f64, b: f64| (a - b).abs() <= 0.01 * b.abs().max(0.1);
    let zeros = counted.iter().filter(|w| near(**w, 0.0)).count();
    let ratio = counted[0] / due[0];
    if counted.iter().zip(due).all(|(a, b)| near(*a, ratio * b)) {
        return match near(ratio, parts) {
            true => format!(
                "every part counts {} times what it should: the sum is not divided by the number of parts",
                number(parts),
            ),
            false => format!("every part counts {} times what it should", number(ratio)),
        };
    }
    if zeros > 0 {
        return match zeros + 1 == counted.len() {
            true => {
                "one part is all that is in it: each gradient takes the place of the one before"
                    .to_owned()
            }
            false => "some parts are not in it".to_owned(),
        };
    }
    match counted.iter().all(|w| near(*w, counted[0])) {
        true => "every part counts the same, whatever it holds: a mean of means".to_owned(),
        false => "the parts are added with other weights than the loss gives them".to_owned(),
    }
}
