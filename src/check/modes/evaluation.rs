//! Evaluation by itself: it repeats bit for bit, and changes nothing.

use candle_core::Tensor;

use super::passes::{Changed, Passes};
use crate::{
    Cause, Failure, FailureKind, Finding, Result,
    check::{Deterministic, function},
    learner::is_running_statistic,
    measure::{
        masks::{Draws, Masks},
        values::{same_bits, to_f64_vec},
    },
    verdict::{count, number},
};

/// How many passes are read where evaluation turns out to be random.
const READ: usize = 8;

/// What evaluation was seen to do.
pub(super) struct Evaluation {
    /// Of the variables as they were.
    pub(super) output: Tensor,
    pub(super) is_steady: bool,
    /// The graph of one pass, or of several where they differ.
    pub(super) masks: Masks,
    pub(super) findings: Vec<Finding>,
    /// Running statistics that evaluation moves.
    pub(super) moved_statistics: Vec<String>,
}

pub(super) fn look(passes: &Passes<'_, '_>) -> Result<Evaluation> {
    let output = passes.afresh(passes.x, false)?;
    let changed = passes.changed()?;
    let mut findings = Vec::new();
    let mut masks = Masks::new();
    let add = |masks: &mut Masks| -> Result<()> {
        let output = passes.with_graph(false)?;
        Ok(masks.add(&output, passes.learner.variables(), &passes.traced)?)
    };
    add(&mut masks)?;

    // Every call starts from the same variables, so that what differs is random or hidden.
    let mut f = |x: &[Tensor]| passes.afresh(x, false);
    let judged = Deterministic::new().judge(&mut f, passes.x);
    let is_steady = match judged {
        Ok(_) => {
            function::steady(&mut f, passes.x)?;
            true
        }
        Err(failure) if failure.kind() == FailureKind::Violated => {
            for _ in 1..READ {
                add(&mut masks)?;
            }
            findings.extend(unsteady(&failure, &masks));
            false
        }
        Err(failure) => return Err(failure),
    };
    let moved_statistics = changed.iter().filter(|c| is_running_statistic(&c.name));
    let moved_statistics = moved_statistics.map(|changed| changed.name.clone()).collect();
    for changed in &changed {
        findings.push(changes(changed)?);
    }
    passes.restore()?;
    Ok(Evaluation { output, is_steady, masks, findings, moved_statistics })
}

/// Places that drop are proof; else what the calls look like.
fn unsteady(failure: &Failure, masks: &Masks) -> Vec<Finding> {
    let mut found = Vec::new();
    for place in masks.places(&Masks::new()) {
        let draws = Draws::of(&place);
        if place.is_fixed {
            continue;
        }
        let evidence = format!(
            "evaluation drops {} of {} here, other values in each pass",
            number(draws.rate()),
            count(draws.count, "value"),
        );
        found.push(Finding::confirmed(Cause::DropoutInEval, evidence).at(place.name));
    }
    if !found.is_empty() {
        return found;
    }
    let as_hidden = |finding: &Finding| match finding.cause() {
        // What a call leaves behind is in none of the variables: those were put back.
        Cause::StateKept if finding.is_confirmed() && finding.place().is_none() => {
            let evidence =
                format!("{}, with every variable put back between them", finding.evidence());
            Finding::confirmed(Cause::EvalChangesState, evidence).advice_is(
                "look for a `RefCell`, a counter, or a tensor that is no variable of the learner and that evaluation writes to",
            )
        }
        _ => finding.clone(),
    };
    failure.findings().iter().map(as_hidden).collect()
}

/// An evaluation pass wrote to a variable.
fn changes(changed: &Changed) -> Result<Finding> {
    let (before, now) = (to_f64_vec(&changed.before)?, to_f64_vec(&changed.now)?);
    let differing = before.iter().zip(&now).filter(|(a, b)| a.to_bits() != b.to_bits());
    let differing: Vec<(&f64, &f64)> = differing.collect();
    let example = match differing.first() {
        Some((a, b)) => format!(", the first from {} to {}", number(**a), number(**b)),
        None => String::new(),
    };
    let evidence = format!(
        "an evaluation pass changes {} of {}{example}",
        differing.len(),
        count(before.len(), "value"),
    );
    let finding = Finding::confirmed(Cause::EvalChangesState, evidence).at(changed.name.clone());
    Ok(match is_running_statistic(&changed.name) {
        true => finding.advice_is(
            "move running statistics in training alone: `forward_t(x, false)` in evaluation, and no `set` outside the training branch",
        ),
        false => finding,
    })
}

/// Whether evaluation is what it was before the training passes, with every variable put back. Where it is not, they moved
/// something that is no variable: running statistics in a `RefCell` do that by design, and cannot be put back.
pub(super) fn is_moved_by_training(
    passes: &Passes<'_, '_>,
    evaluation: &Evaluation,
) -> Result<bool> {
    if !evaluation.is_steady {
        return Ok(false);
    }
    Ok(!same_bits(&passes.afresh(passes.x, false)?, &evaluation.output)?)
}
