//! Why more capacity was no help.

use super::options::CapacityHelpsReport;
use crate::{
    Batch, Cause, Failure, Finding, Learner, Result, Snapshot,
    check::training::{
        learning::trained::{Trained, diagnosed, why_not_fitted},
        wording::curve,
    },
    diagnose,
    verdict::{count, listed, number},
};

pub(super) struct Compared<'c, 'a> {
    pub(super) large: &'c Learner<'a>,
    pub(super) batch: &'c Batch,
    pub(super) before: &'c Snapshot,
    pub(super) smaller: &'c Trained,
    pub(super) larger: &'c Trained,
    pub(super) report: &'c CapacityHelpsReport,
    pub(super) steps: usize,
    pub(super) target: f64,
}

pub(super) fn failure(compared: Compared<'_, '_>) -> Result<Failure> {
    let Compared { large, batch, before, smaller, larger, report, steps, target } = compared;
    let mut failure = Failure::violated(format!(
        "more capacity is no help: the loss ends at {} with {}, and at {} with {}",
        number(report.large),
        count(report.large_size, "value"),
        number(report.small),
        count(report.small_size, "value"),
    ))
    .fact("small", curve(&smaller.losses))
    .fact("large", curve(&larger.losses));
    if report.small_by_seed.len() > 1 {
        let all =
            |losses: &[f64]| losses.iter().map(|loss| number(*loss)).collect::<Vec<_>>().join(", ");
        failure = failure.fact(
            "by seed",
            format!("{} small; {} large", all(&report.small_by_seed), all(&report.large_by_seed)),
        );
    }
    let rate = larger.rate;
    let (mut findings, ruled_out, unused) =
        diagnosed(large, batch, steps, target, before, rate, |case| {
            let (findings, ruled_out) = why_not_fitted(case)?;
            Ok((findings, ruled_out, diagnose::unused(case)?))
        })?;
    if !unused.is_empty() && !findings.iter().any(|f| f.cause() == Cause::VariableUnused) {
        let names: Vec<&str> = unused.iter().map(String::as_str).collect();
        let evidence = "moving them changes neither the output nor the loss: they are no capacity";
        findings.push(Finding::confirmed(Cause::VariableUnused, evidence).at(listed(&names)));
    }
    before.restore()?;
    let (confirmed, possible): (Vec<_>, Vec<_>) =
        findings.into_iter().partition(Finding::is_confirmed);
    failure = failure.with_findings(confirmed).finding(narrowest(large, batch)?);
    failure = failure.with_findings(possible);
    for (cause, evidence) in ruled_out {
        failure = failure.ruled_out(cause, evidence);
    }
    Ok(failure)
}

/// The narrowest place that everything may have to go through.
fn narrowest(learner: &Learner<'_>, batch: &Batch) -> Result<Finding> {
    let evaluation = learner.evaluate(batch, false)?;
    let width = |t: &candle_core::Tensor| t.dims().last().copied();
    let mut ends: Vec<usize> = evaluation.output.iter().filter_map(width).collect();
    ends.extend(batch.input().iter().filter_map(width));
    let mut narrow: Option<(usize, &str)> = None;
    for (name, var) in learner.trainable() {
        let dims = var.dims();
        // What one layer hands to the next: `[out, in]` of a linear layer, `[out, in, ..]` of a convolution.
        let inner = dims.iter().take(2).copied().filter(|d| dims.len() > 1 && !ends.contains(d));
        if let Some(width) = inner.min()
            && narrow.is_none_or(|(least, _)| width < least)
        {
            narrow = Some((width, name));
        }
    }
    let finding = |evidence: String| Finding::possible(Cause::CapacityTooSmall, evidence);
    Ok(match narrow {
        Some((width, name)) => finding(format!(
            "the narrowest inner layer is {} wide; what is added elsewhere has to pass it",
            match width {
                1 => "1 unit".to_owned(),
                n => format!("{n} units"),
            },
        ))
        .at(format!("`{name}`")),
        None => finding("the limit is not in what was made larger".to_owned()),
    })
}
