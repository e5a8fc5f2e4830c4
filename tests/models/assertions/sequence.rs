//! Caches, padding and the order of positions.

use std::{cell::RefCell, rc::Rc};

use candle_core::Tensor;
use candling::{
    FailureKind,
    check::{
        CacheConsistent, CacheConsistentReport, PaddingInvariant, PositionSensitive,
        PositionSensitiveReport, Side,
    },
};

use super::{NO_MASK, SEED, Said, beside, forward};
use crate::models::{Kind, Model, Step, tokens};

pub(super) fn cache_consistent(model: &Model) -> candling::Result<Said> {
    match model.step {
        Some(step) => cached(&CacheConsistent::new(), step(SEED)?),
        None if model.kind == Kind::EncoderDecoder => {
            Ok(Said::Not("Its cache holds the source only, and its decoder knows no offset"))
        }
        None => Ok(Said::Not("Has no cache")),
    }
}

pub(super) fn cache_in_a_narrow_window(model: &Model) -> candling::Result<Said> {
    match model.narrow_step {
        Some(step) => cached(&CacheConsistent::new(), step(SEED)?),
        None => Ok(Said::Not("Knows no attention window")),
    }
}

/// The whole at once is a step at offset 0: the models have no pass without a cache.
fn cached(check: &CacheConsistent, step: Step) -> candling::Result<Said> {
    let ids = tokens(SEED)?;
    let step = Rc::new(RefCell::new(step));
    let again = step.clone();
    let mut full = move |ids: &Tensor| (step.borrow_mut())(ids, 0);
    let mut step = move |ids: &Tensor, at: usize| (again.borrow_mut())(ids, at);
    let told = |report: &CacheConsistentReport| format!("{} chunkings", report.runs.len());
    Ok(match check.check(&mut full, &mut step, &ids) {
        // No silent defect: a mask that is made for the tokens of one call does not fit the scores of a second.
        Err(failure) if failure.kind() == FailureKind::NotRun => {
            let single = check.clone().single_tokens(true).check(full, step, &ids);
            Said::of(single, |report| format!("{}, of single tokens", told(report)))
        }
        checked => Said::of(checked, told),
    })
}

pub(super) fn padding_invariant(model: &Model) -> candling::Result<Said> {
    let Some(padded) = model.padded else {
        return Ok(Said::Not(NO_MASK));
    };
    let mut padded = padded(SEED)?;
    // Rotary embeddings know differences of positions only; tables know the positions, which padding on the left shifts.
    let side = match model.cuts.contains(&"rope") {
        true => Side::Both,
        false => Side::Right,
    };
    let check = PaddingInvariant::new().side(side);
    let checked = check.check(|ids: &Tensor, mask: &Tensor| padded(ids, mask), &tokens(SEED)?);
    Ok(Said::of(checked, |report| {
        let side = match side {
            Side::Both => "both sides",
            _ => "right",
        };
        let reads = if report.reads_pad { ", by the id of the padding" } else { "" };
        format!("{} inputs, {side}{reads}", report.tried)
    }))
}

pub(super) fn position_sensitive(model: &Model) -> candling::Result<Said> {
    let (learner, batch) = model.learner(SEED)?;
    let told = |report: &PositionSensitiveReport| format!("{} orders", report.orders);
    Ok(match batch.input() {
        [only] => {
            // Of an image, its lines.
            let dim = if model.kind == Kind::Vision { 2 } else { 1 };
            let f = |x: &Tensor| forward(&learner, std::slice::from_ref(x));
            Said::of(PositionSensitive::new().dim(dim).check(f, only), told)
        }
        [source, target] => {
            let f = |x: &Tensor| forward(&learner, &[beside(source, x.dim(0)?)?, x.clone()]);
            let targets = PositionSensitive::new().check(f, target);
            // Of a spectrogram, its frames.
            let dim = source.rank() - 1;
            let f = |x: &Tensor| forward(&learner, &[x.clone(), beside(target, x.dim(0)?)?]);
            let sources = PositionSensitive::new().dim(dim).check(f, source);
            let both = sources.and_then(|sources| Ok((sources, targets?)));
            Said::of(both, |(sources, targets)| {
                format!("{} and {} orders", sources.orders, targets.orders)
            })
        }
        more => unreachable!("no model takes {} tensors", more.len()),
    })
}
