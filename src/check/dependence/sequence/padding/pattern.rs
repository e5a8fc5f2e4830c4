//! From outputs that padding moved to what lets it.

use super::{
    trials::Trial,
    tried::{Question, Tried},
};
use crate::{Cause, Finding, Result, verdict::number};

/// What the padded inputs that differ have in common; nothing where the model takes the padding from its ids.
pub(super) fn findings(trial: &mut Trial<'_, '_>, tried: &[Tried]) -> Result<Vec<Finding>> {
    let bad: Vec<&Tried> = tried.iter().filter(|tried| tried.is_bad()).collect();
    let Some(first) = bad.first() else { return Ok(Vec::new()) };
    let only = |question| bad.iter().all(|tried| tried.question == question);
    let ignored = trial.ignores_mask(first.left)?;
    if ignored && trial.takes_ids() && only(Question::Content) {
        return Ok(Vec::new());
    }
    let mut findings = Vec::new();
    let nan = |tried: &&&Tried| tried.apart.as_ref().is_some_and(|at| at.was.is_nan());
    if let Some(tried) = bad.iter().find(nan)
        && let Some(at) = &tried.apart
    {
        let evidence = format!(
            "NaN, {}: a row of a softmax that is masked everywhere with minus infinity is NaN, and 0 times NaN, too",
            tried.name
        );
        findings.push(
            Finding::confirmed(Cause::NotFinite, evidence)
                .at(trial.place(at))
                .advice_is("mask with -1e9 (in f16 -6e4) instead of minus infinity, or let no row be masked everywhere"),
        );
    }
    if bad.iter().all(|tried| nan(&tried)) {
        return Ok(findings);
    }
    let (evidence, advice) = explained(tried, &bad, ignored);
    let mut finding = Finding::confirmed(Cause::PaddingLeak, evidence);
    if let Some(at) = &first.apart {
        finding = finding.at(trial.place(at));
    }
    if let Some(advice) = advice {
        finding = finding.advice_is(advice);
    }
    findings.push(finding);
    Ok(findings)
}

fn explained(tried: &[Tried], bad: &[&Tried], ignored: bool) -> (String, Option<&'static str>) {
    let good = |question| tried.iter().all(|t| t.question != question || !t.is_bad());
    let only = |question| bad.iter().all(|tried| tried.question == question);
    if ignored {
        return (
            "a mask of ones gives the same, bit for bit: the mask is never read".to_owned(),
            Some(
                "use the mask in attention and pooling; a mask that is built and not added does nothing",
            ),
        );
    }
    if only(Question::OneRow) {
        return (
            "rows in a batch are right, and a row alone is not: the mask is left out for one row"
                .to_owned(),
            Some(
                "look for a shortcut when the batch is 1, or a `squeeze` that drops the dimension of the batch",
            ),
        );
    }
    if only(Question::Mixed) {
        return (
            "rows of one length are right, and rows of different lengths are not: one row's mask or length is used for all"
                .to_owned(),
            Some("give each row its own mask, of dims [batch, 1, 1, time] in attention"),
        );
    }
    if good(Question::Content) {
        if let Some(scale) = counted(bad) {
            return (
                scale,
                Some(
                    "divide the sum by the number of real positions: `mask.sum_keepdim(1)`, not by `time`",
                ),
            );
        }
        if bad.iter().all(|tried| tried.left) && tried.iter().any(|tried| !tried.left) {
            return (
                "padding on the right changes nothing, and on the left it does, whatever it holds: the positions are absolute, or queries and keys are not turned by the same"
                    .to_owned(),
                Some("count positions from the first real one, or apply rotary embeddings to queries and keys alike"),
            );
        }
        return (
            "what the padding holds does not matter, and how much there is does: something counts it, or positions shift"
                .to_owned(),
            Some(
                "look for a mean or a norm over time that divides by its length, for a maximum that sees masked zeros, and for \
                 positions that are not counted from the first real one",
            ),
        );
    }
    let content = bad.iter().filter(|t| t.question == Question::Content).map(|t| t.difference);
    let content = content.fold(0.0, f64::max);
    (
        format!(
            "other values in the padding move real positions by up to {}: they are read",
            number(content)
        ),
        Some(
            "mask the padded positions in attention, pooling and loss, by minus infinity and not by a small number",
        ),
    )
}

/// Where an output is, to rounding, the unpadded one times the share of real positions.
fn counted(bad: &[&Tried]) -> Option<String> {
    /// Half a percent of the size: far below what one padded position in a hundred does.
    const CLOSE: f64 = 5e-3;
    let lengths: Vec<&&Tried> = bad.iter().filter(|t| t.question == Question::Length).collect();
    let scaled = |tried: &&&Tried| {
        let (was, expected) = (tried.outputs.0.values(), tried.outputs.1.values());
        let dot: f64 = was.iter().zip(expected).map(|(a, b)| a * b).sum();
        let square: f64 = expected.iter().map(|b| b * b).sum();
        let rest = was.iter().zip(expected).map(|(a, b)| (a - tried.share * b).powi(2));
        let rest = (rest.sum::<f64>() / square).sqrt();
        (dot / square - tried.share).abs() < CLOSE * tried.share && rest < CLOSE * tried.share
    };
    let last = lengths.last()?;
    lengths.iter().all(scaled).then(|| {
        format!(
            "{}, the output is {} times what it is without: the mean counts the padding",
            last.name,
            number(last.share),
        )
    })
}
