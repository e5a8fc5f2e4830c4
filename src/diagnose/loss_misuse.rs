//! Does the loss compute something else than its input asks for?
//!
//! Cost: no run, one pass over the output at the start and at the end. The loss's value is matched against the formulas
//! of the field at both ends; a formula that gives both values is what the closure computes.

use super::Case;
use crate::{
    Cause, Finding, Result,
    measure::formula::{Formula, Kind, Rows, matching, read_rows},
    measure::values::scalar,
    verdict::number,
};

pub(super) fn findings(case: &Case<'_, '_>) -> Result<Vec<Finding>> {
    let (Some(first), Some(target)) = (&case.training.first_output, case.batch.target()) else {
        return Ok(Vec::new());
    };
    let mut formulas = matching(first, target, case.training.first())?;
    let mut rows = read_rows(first)?;
    let mut seen_twice = false;
    if let (Some(ending), Some(output)) = (case.ending, case.last_output()) {
        let there = matching(output, target, scalar(&ending.loss)?)?;
        formulas.retain(|formula| there.contains(formula));
        rows = match (rows, read_rows(output)?) {
            (Some(a), Some(b)) => Some(both(a, b)),
            _ => None,
        };
        seen_twice = case.training.steps() > 0;
    }
    let Some(rows) = rows else {
        return Ok(Vec::new());
    };
    // At one point alone two formulas can agree by chance.
    let found = formulas.into_iter().filter_map(|formula| judged(formula, rows, case));
    let finding = |(cause, evidence): (Cause, String)| match seen_twice {
        true => Finding::confirmed(cause, evidence),
        false => Finding::possible(cause, evidence),
    };
    Ok(found.map(finding).take(1).collect())
}

/// What holds for the output at both ends.
fn both(a: Rows, b: Rows) -> Rows {
    Rows {
        classes: a.classes,
        are_probabilities: a.are_probabilities && b.are_probabilities,
        are_log_probabilities: a.are_log_probabilities && b.are_log_probabilities,
        in_unit_interval: a.in_unit_interval && b.in_unit_interval,
    }
}

fn judged(formula: Formula, rows: Rows, case: &Case<'_, '_>) -> Option<(Cause, String)> {
    let name = match formula.kind {
        Kind::CrossEntropy => "the cross-entropy of logits",
        Kind::NegativeLogLikelihood => "the negative log-likelihood",
        Kind::BinaryCrossEntropyWithLogits => "the binary cross-entropy of logits",
        Kind::MeanSquaredError => "the squared error",
        Kind::BroadcastSquaredError => "the squared error",
    };
    if formula.negated {
        // The likelihood of probabilities is bounded below, by -1: its sign is right.
        let sign = format!("the loss is exactly minus {name}");
        return Some((Cause::LossSign, sign));
    }
    match formula.kind {
        Kind::CrossEntropy if rows.are_probabilities => {
            let c = rows.classes as f64;
            let floor = (std::f64::consts::E + c - 1.0).ln() - 1.0;
            Some((
                Cause::LossOnProbabilities,
                format!(
                    "the loss is {name}, and the outputs' rows sum to 1: its floor over {} classes is {}, not 0",
                    rows.classes,
                    number(floor),
                ),
            ))
        }
        Kind::NegativeLogLikelihood if rows.are_probabilities => Some((
            Cause::LossOnProbabilities,
            format!(
                "the loss is {name} without a logarithm: the outputs' rows sum to 1, and the loss goes to -1"
            ),
        )),
        Kind::NegativeLogLikelihood if !rows.are_log_probabilities => Some((
            Cause::LossOnLogits,
            format!(
                "the loss is {name} of outputs that are no log-probabilities: it has no floor, {} -> {}",
                number(case.training.first()),
                number(case.training.last()),
            ),
        )),
        Kind::BinaryCrossEntropyWithLogits if rows.in_unit_interval => Some((
            Cause::LossOnProbabilities,
            format!(
                "the loss is {name}, and every output is in [0, 1]: its floor is 0.313 for targets of 1 and 0.693 for targets of 0",
            ),
        )),
        Kind::BroadcastSquaredError => {
            let output = case.training.first_output.as_ref()?.dims();
            let target = case.batch.target()?.dims();
            Some((
                Cause::LossBroadcast,
                format!(
                    "the loss is {name} of every prediction against every target: {output:?} against {target:?}"
                ),
            ))
        }
        _ => None,
    }
}
