//! From the gradients of a batch and of its parts to the weights under which they add up.

use super::{
    AccumulationEquivalentReport, Cut,
    split::Whole,
    weighting::{Weighting, ids},
};
use crate::{
    Batch, Cause, Failure, Finding, Result,
    measure::micro_batches::{Gradient, Micro},
};

/// The gradient of the batch, if it is the same twice, and finite.
pub(super) fn whole(micro: &Micro<'_, '_>) -> Result<Whole> {
    let gradient = micro.gradient(micro.batch)?;
    if !gradient.is_finite() {
        return Err(Failure::not_run("the gradient of the batch is not finite")
            .finding(Finding::confirmed(
                Cause::NotFinite,
                "NaN or infinite values in the gradient of the whole batch",
            ))
            .help("`assert_gradients_flow!` names the variables and the origin"));
    }
    let again = micro.gradient(micro.batch)?;
    let bits = |g: &Gradient| g.0.iter().flatten().map(|v| v.to_bits()).collect::<Vec<_>>();
    if bits(&gradient) != bits(&again) {
        return Err(Failure::not_run(
            "two passes over the same batch give two gradients: what the parts add up to cannot be told",
        )
        .finding(Finding::possible(
            Cause::DropoutInEval,
            "active dropout or another random draw would do that",
        ))
        .finding(Finding::possible(
            Cause::StateKept,
            "a state that every call changes would do it, too",
        ))
        .help(
            "hand dropout over with `Learner::with_modes`: the check runs in evaluation mode",
        ));
    }
    Whole::of(micro, gradient)
}

pub(super) fn not_vacuous(cut: &Cut, rows: usize) -> Result<()> {
    if cut.of.is_empty() {
        let zero = cut.whole.gradient.0.iter().flatten().all(|v| *v == 0.0);
        let headline = match zero {
            true => "the gradient of the batch is exactly 0: its parts have nothing to add up to",
            false => {
                "the gradient of the batch is no larger than its rounding: no difference would show"
            }
        };
        return Err(Failure::vacuous(headline).help(match zero {
            true => "give it a batch that is not fitted already; `assert_gradients_flow!` tells whether a gradient is cut",
            false => "test the model in f32 or f64",
        }));
    }
    match cut.all_alike() {
        true => Err(Failure::vacuous(format!(
            "every micro-batch has the gradient of the whole batch of {rows} rows: any weights would do",
        ))
        .fact("parts", cut.named())
        .help("give it rows that differ")),
        false => Ok(()),
    }
}

/// The weighting under which the parts add up.
pub(super) fn found(cut: &Cut, batch: &Batch) -> Result<Option<Weighting>> {
    for weighting in [Weighting::Rows, Weighting::Sum] {
        if cut.holds(&weighting)? {
            return Ok(Some(weighting));
        }
    }
    for id in ids(batch)? {
        let weighting = Weighting::Ignoring(id);
        // An id may be every target there is, and then nothing is counted.
        if cut.holds(&weighting).unwrap_or(false) {
            return Ok(Some(weighting));
        }
    }
    Ok(cut.of_the_loss().map(|_| Weighting::OfTheLoss))
}

pub(super) fn report(
    cut: &Cut,
    weighting: Weighting,
    allowed: Vec<Finding>,
) -> Result<AccumulationEquivalentReport> {
    let weights = match weighting {
        Weighting::OfTheLoss => cut.of_the_loss().unwrap_or_default(),
        _ => cut.splits.iter().map(|s| weighting.of(&s.parts)).collect::<Result<_>>()?,
    };
    let mut difference: f64 = 0.0;
    for (split, weights) in cut.splits.iter().zip(&weights) {
        let sum = Gradient::weighted(&split.gradients(), weights);
        for variable in &cut.of {
            let size = cut.whole.gradient.norm(*variable);
            difference = difference.max(sum.distance(&cut.whole.gradient, *variable) / size);
        }
    }
    let names = cut.whole.names.iter().enumerate();
    let (compared, left_out): (Vec<_>, Vec<_>) =
        names.partition(|(variable, _)| cut.of.contains(variable));
    let only = |names: Vec<(usize, &String)>| names.into_iter().map(|(_, n)| n.clone()).collect();
    Ok(AccumulationEquivalentReport {
        weighting,
        splits: cut.sizes(),
        refused: Vec::new(),
        weights,
        difference,
        compared: only(compared),
        left_out: only(left_out),
        allowed,
    })
}
