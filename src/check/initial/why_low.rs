//! Why a loss starts too low: it is divided once too often, the weights know the targets, or the input does.
//!
//! Nothing is trained. Cost: three evaluations.

use candle_core::{DType, Device, Tensor, Var};

use super::{
    role::Role,
    start::{Seen, Start},
    why_high::{beside_theory, roles, term_of},
};
use crate::{
    Cause, Finding, Result, Seed,
    measure::{
        formula::{Formula, Kind, matching, read_rows},
        values::to_f64_vec,
        vectors::root_mean_square,
    },
    verdict::number,
};

/// Below this share of what is expected a loss inside its band is looked at again: fresh models of candle's layers start
/// at 0.96 of it or above.
const SUSPICIOUS: f64 = 0.8;
/// A loss that is this many times as large, and not below its band, is another.
const LIKE: f64 = 1.25;
/// How often the weights are drawn then, ..
const DRAWS: u64 = 24;
/// .. and how many standard deviations below their mean no luck reaches. The lower tail of a loss is lighter than a normal
/// one: it ends at zero.
const SIGMAS: f64 = 5.0;
/// Draws of fewer weights, or losses of fewer rows, take a few values each: their spread tells nothing.
const LEAST_WEIGHTS: usize = 64;
const LEAST_ROWS: usize = 8;

/// Whether a loss inside its band is too low all the same: it is a mean divided again, by its value, or weights of the
/// same sizes that are drawn anew do not come near it. The band alone allows for rows that are all alike.
pub(super) fn is_low_after_all(start: &Start<'_, '_>, seen: &Seen) -> Result<bool> {
    let band = &seen.band;
    let is_theory = band.far > band.high && band.center > 0.0;
    if !is_theory || seen.loss >= SUSPICIOUS * band.center {
        return Ok(false);
    }
    if divided(start, seen.loss)?.is_some() {
        return Ok(true);
    }
    let variables = start.learner.variables().iter();
    let weights: usize = variables.map(|(_, var)| var.elem_count()).sum();
    let rows = start.batch.target().and_then(|target| target.dims().first().copied()).unwrap_or(0);
    if weights < LEAST_WEIGHTS || rows < LEAST_ROWS {
        return Ok(false);
    }
    let mut losses = Vec::new();
    for draw in 0..DRAWS {
        let Some(anew) = drawn_anew(start, Seed::new(draw))? else { return Ok(false) };
        losses.push(anew.loss);
    }
    start.before.restore()?;
    let n = losses.len() as f64;
    let mean = losses.iter().sum::<f64>() / n;
    let variance = losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Ok(seen.loss < mean - SIGMAS * variance.sqrt() && losses.iter().all(|loss| loss.is_finite()))
}

pub(super) fn findings(start: &Start<'_, '_>, seen: &Seen) -> Result<Vec<Finding>> {
    if let Some(divided) = divided(start, seen.loss)? {
        return Ok(vec![divided]);
    }
    if let Some(misused) = misused(start, seen.loss)? {
        return Ok(vec![misused]);
    }
    let low = |evidence: String| Finding::confirmed(Cause::InitialLossLow, evidence);
    let anew = drawn_anew(start, Seed::new(0))?;
    if let Some(anew) = anew.as_ref().filter(|anew| anew.loss > LIKE * seen.loss.max(anew.band.low))
    {
        let evidence = format!(
            "{}; with weights drawn anew, of the same size, it is {}: these know the targets",
            beside_theory(seen),
            number(anew.loss),
        );
        return Ok(vec![low(evidence).advice_is(
            "the weights are trained, or loaded from a checkpoint: check an untrained model",
        )]);
    }
    let evidence = match &anew {
        Some(anew) => {
            format!("{}; with weights drawn anew it is {}", beside_theory(seen), number(anew.loss))
        }
        None => beside_theory(seen),
    };
    let others = targets_of_others(start)?;
    Ok(vec![match others.filter(|others| others.loss > LIKE * seen.loss.max(others.band.low)) {
        Some(others) => {
            let evidence = format!(
                "{evidence}; with the targets of other rows, {}: each row's input carries its target",
                number(others.loss),
            );
            low(evidence).advice_is(
                "look for the label among the features, and for a shift between input and target",
            )
        }
        None => {
            let evidence = format!("{evidence}; whatever the targets, it is as low");
            low(evidence).advice_is(
                "check the divisor of the mean: padding that counts, or a second division by the batch",
            )
        }
    }])
}

/// Another formula than was expected, told by its value.
fn misused(start: &Start<'_, '_>, loss: f64) -> Result<Option<Finding>> {
    let Some(target) = start.batch.target() else { return Ok(None) };
    let Some(output) = start.learner.evaluate(start.batch, true)?.output else { return Ok(None) };
    let formulas = matching(&output, target, loss)?;
    let Some(rows) = read_rows(&output)? else { return Ok(None) };
    let likelihood = |f: &&Formula| f.kind == Kind::NegativeLogLikelihood && !f.negated;
    let negated = formulas.iter().find(|f| f.negated && f.kind != Kind::NegativeLogLikelihood);
    Ok(match (negated, formulas.iter().find(likelihood)) {
        (Some(formula), _) => {
            let evidence = format!(
                "the loss is the negative of the mean {}, by its value",
                term_of(formula.kind)
            );
            Some(Finding::confirmed(Cause::LossSign, evidence))
        }
        (_, Some(_)) if rows.are_probabilities => Some(Finding::confirmed(
            Cause::LossOnProbabilities,
            "the loss is `-output[class]`, which wants log-probabilities, and the outputs' rows sum to 1",
        )),
        (_, Some(_)) if !rows.are_log_probabilities => Some(Finding::confirmed(
            Cause::LossOnLogits,
            "the loss is `-output[class]`, which wants log-probabilities, and the outputs are none",
        )),
        _ => None,
    })
}

/// A mean that is divided again, by a number that the batch has.
fn divided(start: &Start<'_, '_>, loss: f64) -> Result<Option<Finding>> {
    let Some(target) = start.batch.target() else { return Ok(None) };
    let Some(output) = start.learner.evaluate(start.batch, true)?.output else { return Ok(None) };
    let rows = output.dims().first().copied().unwrap_or(1);
    let classes = output.dims().last().copied().unwrap_or(1);
    let batch = start.batch.rows().unwrap_or(1);
    let all = output.elem_count();
    let is_told = |loss: f64| -> Result<bool> {
        Ok(matching(&output, target, loss)?.iter().any(|f| !f.summed && !f.negated))
    };
    if is_told(loss)? {
        return Ok(None);
    }
    for times in [batch, rows, target.elem_count(), classes, all, batch * rows] {
        let formulas = matching(&output, target, loss * times as f64)?;
        let mean = formulas.iter().find(|formula| !formula.summed && !formula.negated);
        if let Some(formula) = mean.filter(|_| times > 1) {
            let evidence = format!(
                "the mean {}, {}, is divided by {times} once more, by its value",
                term_of(formula.kind),
                number(loss * times as f64),
            );
            let finding = Finding::confirmed(Cause::LossReduction, evidence);
            return Ok(Some(finding.advice_is("divide once: a mean over the rows is the loss")));
        }
    }
    Ok(None)
}

/// Every weight drawn from a normal distribution of its own size; `None` where there is none to draw.
fn drawn_anew(start: &Start<'_, '_>, seed: Seed) -> Result<Option<Seen>> {
    let weights: Vec<(&str, &Var)> = (roles(start))
        .filter(|(.., role)| *role != Role::Apart)
        .map(|(name, var, _)| (name, var))
        .collect();
    if weights.is_empty() {
        return Ok(None);
    }
    let draw = |(name, var): &(&str, &Var)| -> Result<()> {
        let rms = root_mean_square(&to_f64_vec(var.as_tensor())?);
        let drawn = seed.normal(name, var.shape(), DType::F64, &Device::Cpu)?;
        let drawn = (drawn * rms)?.to_dtype(var.dtype())?.to_device(var.device())?;
        Ok(var.set(&drawn)?)
    };
    start.with(|| weights.iter().try_for_each(draw)).map(Some)
}

/// The loss with each row's target taken from the row before it.
fn targets_of_others(start: &Start<'_, '_>) -> Result<Option<Seen>> {
    let Some(target) = start.batch.target() else { return Ok(None) };
    let rows = target.dims().first().copied().unwrap_or(0);
    if rows < 2 {
        return Ok(None);
    }
    let parts = [target.narrow(0, rows - 1, 1)?, target.narrow(0, 0, rows - 1)?];
    let moved = Tensor::cat(&parts, 0)?;
    let batch = crate::Batch::of_members(start.batch.input().to_vec(), moved);
    let seen = start.now(&batch);
    start.before.restore()?;
    // A loss that refuses other targets has shown nothing.
    Ok(seen.ok())
}
