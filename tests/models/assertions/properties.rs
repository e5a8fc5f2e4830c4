//! What holds of a model as a function.

use candle_core::{DType, Result, Tensor};
use candling::check::{Deterministic, Equivalent, LayoutInvariant, Nonlinear};

use super::{SEED, Said, forward, on_members};
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
        return Ok(Said::Not("takes ids, which have no combinations"));
    }
    // A hundredth: what is bent by the size of a rounding is bent by accident.
    let check = Nonlinear::new().at_least(0.01);
    let checked = on_members!(check, batch.input(), |x: &[Tensor]| forward(&learner, x));
    Ok(Said::of(checked, |_| "bent".to_owned()))
}

/// The same weights in f32 and in f64.
pub(super) fn equal_in_f64(model: &Model) -> candling::Result<Said> {
    let (single, batch) = model.learner(SEED)?;
    let (double, _) = (model.build)(SEED, DType::F64)?;
    let widened = |x: &[Tensor]| {
        let wide = |x: &Tensor| match x.dtype().is_float() {
            true => x.to_dtype(DType::F64),
            false => Ok(x.clone()),
        };
        forward(&double, &x.iter().map(wide).collect::<Result<Vec<_>>>()?)
    };
    let f = |x: &[Tensor]| forward(&single, x);
    let check = Equivalent::new();
    let checked = match batch.input() {
        [only] => check.check(
            |x: &Tensor| f(std::slice::from_ref(x)),
            |x: &Tensor| widened(std::slice::from_ref(x)),
            only,
        ),
        [first, second] => check.check(
            |x: &[Tensor; 2]| f(x),
            |x: &[Tensor; 2]| widened(x),
            &[first.clone(), second.clone()],
        ),
        more => unreachable!("no model takes {} tensors", more.len()),
    };
    Ok(Said::of(checked, |_| "equal".to_owned()))
}
