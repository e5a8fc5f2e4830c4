//! Labels that do not count, and labels that are none.

use candle_core::Tensor;

use super::{
    Seen,
    closure::Loss,
    form::Accepted,
    probes::{Aim, Probe, Probes},
};
use crate::{
    Cause, Finding, Result,
    measure::values::to_f64_vec,
    verdict::{count, told_apart},
};

/// Ignored labels count for nothing: not for the value, bit for bit, and not for the gradient.
pub(super) fn judge(
    loss: &mut Loss<'_>,
    probes: &Probes<'_>,
    accepted: &Accepted,
    seen: &mut Vec<Seen>,
) -> Result<()> {
    let reference = &accepted.reference;
    if reference.ignored.is_none() && reference.shift == 0 {
        return Ok(());
    }
    let probe = probes.probe(Aim::Random, probes.rows)?;
    let point = &probe.point;
    let width = point.width;
    let labels = point.prediction.len() / width;
    let counts = |label: usize| {
        let at = (label % point.positions) as i64 + reference.shift;
        (0..point.positions as i64).contains(&at)
            && point.counts(reference.ignored, label - label % point.positions + at as usize)
    };
    let idle: Vec<usize> = (0..labels).filter(|label| !counts(*label)).collect();
    if idle.is_empty() {
        return Ok(());
    }
    let mut moved = point.prediction.clone();
    for label in &idle {
        moved[label * width..(label + 1) * width].iter_mut().for_each(|v| *v = 1.0 - 2.0 * *v);
    }
    let shape = probe.prediction.shape();
    let moved = Tensor::from_vec(moved, shape, probe.prediction.device())?;
    let moved = moved.to_dtype(probe.prediction.dtype())?;
    let before = loss.value(&probe.prediction, &probe.target)?;
    let after = loss.value(&moved, &probe.target)?;
    if before.to_bits() != after.to_bits() {
        let (before, after) = told_apart(before, after);
        let evidence = format!(
            "other predictions at {} that do not count move the loss, {before} -> {after}",
            count(idle.len(), "label"),
        );
        seen.push(padding(evidence));
        return Ok(());
    }
    let Some(gradient) = loss.gradient(&probe.prediction, &probe.target)? else {
        return Ok(());
    };
    let moving =
        |label: &&usize| gradient[**label * width..(**label + 1) * width].iter().any(|g| *g != 0.0);
    let moving = idle.iter().filter(moving).count();
    if moving > 0 {
        let evidence = format!(
            "{moving} of {} that do not count get a gradient that is not 0",
            count(idle.len(), "label"),
        );
        seen.push(padding(evidence));
    }
    Ok(())
}

fn padding(evidence: String) -> Seen {
    Seen::new(
        "labels that should be ignored count in the loss",
        Finding::confirmed(Cause::PaddingLeak, evidence)
            .advice_is("mask the padded positions in the loss"),
    )
}

/// Whether a label beyond the last class is taken: a fact for the report, since nothing is wrong until such a label comes.
pub(super) fn takes_labels_outside(
    loss: &mut Loss<'_>,
    probes: &Probes<'_>,
) -> Result<Option<bool>> {
    if !probes.are_labels() || !probes.kind.is_of_classes() {
        return Ok(None);
    }
    let Probe { prediction, target, .. } = probes.probe(Aim::Random, probes.rows)?;
    let mut labels = to_f64_vec(&target)?;
    labels[0] = probes.contract.classes as f64;
    let target =
        Tensor::from_vec(labels, target.shape(), target.device())?.to_dtype(target.dtype())?;
    Ok(Some(loss.value(&prediction, &target).is_ok_and(f64::is_finite)))
}
