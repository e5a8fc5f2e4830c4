//! What holds of a model as a function.

use std::error::Error;

use candle_core::{DType, Result, Tensor};
use candling::{
    FailureKind,
    check::{Deterministic, Equivalent, LayoutInvariant, Nonlinear},
};

use super::{SEED, Said, error, forward, on_members};
use crate::models::Model;

pub(super) fn deterministic(model: &Model) -> candling::Result<Said> {
    let (learner, batch) = model.learner(SEED)?;
    let checked =
        on_members!(Deterministic::new(), batch.input(), |x: &[Tensor]| forward(&learner, x));
    Ok(Said::of(checked, |report| {
        format!("{} calls{}", report.calls, refused(report.refused.len()))
    }))
}

pub(super) fn layout_invariant(model: &Model) -> candling::Result<Said> {
    let (learner, batch) = model.learner(SEED)?;
    let checked =
        on_members!(LayoutInvariant::new(), batch.input(), |x: &[Tensor]| forward(&learner, x));
    Ok(Said::of(checked, |report| {
        format!("{} layouts{}", report.agreed.len(), refused(report.refused.len()))
    }))
}

fn refused(inputs: usize) -> String {
    match inputs {
        0 => String::new(),
        n => format!(", {n} refused"),
    }
}

pub(super) fn nonlinear(model: &Model) -> candling::Result<Said> {
    let (learner, batch) = model.learner(SEED)?;
    if !batch.input().iter().any(|x| x.dtype().is_float()) {
        return Ok(Said::Not("Takes ids, which have no combinations"));
    }
    // A hundredth: what is bent by the size of a rounding is bent by accident.
    let check = Nonlinear::new().at_least(0.01);
    let checked = on_members!(check, batch.input(), |x: &[Tensor]| forward(&learner, x));
    Ok(Said::of(checked, |_| "bent".to_owned()))
}

pub(super) fn equal_in_f64(model: &Model) -> candling::Result<Said> {
    equal_in(DType::F64, model)
}

pub(super) fn equal_in_bf16(model: &Model) -> candling::Result<Said> {
    equal_in(DType::BF16, model)
}

/// The same weights in f32 and in another format.
fn equal_in(dtype: DType, model: &Model) -> candling::Result<Said> {
    let (single, batch) = model.learner(SEED)?;
    let other = match (model.build)(SEED, dtype) {
        Ok((other, _)) => other,
        Err(failure) => return Ok(Said::Refuses(error(&failure))),
    };
    let converted = |x: &[Tensor]| {
        let convert = |x: &Tensor| match x.dtype().is_float() {
            true => x.to_dtype(dtype),
            false => Ok(x.clone()),
        };
        // Llama returns f32 whatever it computes in; as the format it computes in, the rounding is that format's.
        forward(&other, &x.iter().map(convert).collect::<Result<Vec<_>>>()?)?.to_dtype(dtype)
    };
    let f = |x: &[Tensor]| forward(&single, x);
    let check = Equivalent::new();
    let checked = match batch.input() {
        [only] => check.check(
            |x: &Tensor| f(std::slice::from_ref(x)),
            |x: &Tensor| converted(std::slice::from_ref(x)),
            only,
        ),
        [first, second] => check.check(
            |x: &[Tensor; 2]| f(x),
            |x: &[Tensor; 2]| converted(x),
            &[first.clone(), second.clone()],
        ),
        more => unreachable!("no model takes {} tensors", more.len()),
    };
    Ok(match checked {
        Err(failure) if failure.kind() == FailureKind::NotRun && failure.source().is_some() => {
            Said::Refuses(error(&failure))
        }
        checked => Said::of(checked, |_| "equal".to_owned()),
    })
}
