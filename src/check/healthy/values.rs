//! Values that no model can work with.

use candle_core::Tensor;

use crate::{
    Batch, Cause, Failure, Finding, Learner, Result,
    measure::{scan::is_finite, values::to_f64_vec},
    verdict::{count, number},
};

pub(super) fn finite(learner: &Learner<'_>, batch: &Batch) -> Result<()> {
    let members = batch.input().iter().enumerate();
    for (i, tensor) in members {
        require_finite(tensor, &format!("input {i}"))?;
    }
    if let Some(target) = batch.target() {
        require_finite(target, "the targets")?;
    }
    for (name, var) in learner.variables() {
        require_finite(var.as_tensor(), &format!("variable {name}"))?;
    }
    if !learner.owns_data() {
        require_finite(&learner.output(batch.input(), false)?, "the output")?;
    }
    Ok(())
}

fn require_finite(tensor: &Tensor, what: &str) -> Result<()> {
    if is_finite(tensor)? {
        return Ok(());
    }
    let bad = to_f64_vec(tensor)?.iter().filter(|v| !v.is_finite()).count();
    let evidence = format!("{bad} of {} NaN or infinite", count(tensor.elem_count(), "value"));
    Err(Failure::violated(format!("{what} is not finite"))
        .finding(Finding::confirmed(Cause::NotFinite, evidence).at(what)))
}

pub(super) fn labels(batch: &Batch, classes: usize) -> Result<()> {
    let Some(target) = batch.target().filter(|target| !target.dtype().is_float()) else {
        return Err(Failure::bad_argument(
            "classes",
            format_args!("{classes}, for targets that are no integers"),
            "integer targets",
        ));
    };
    let values = to_f64_vec(target)?;
    let outside = |label: &&f64| !(0.0..classes as f64).contains(*label);
    let Some(place) = values.iter().position(|label| outside(&label)) else {
        return Ok(());
    };
    let bad = values.iter().filter(outside).count();
    let evidence = format!(
        "{} of {} lie outside 0..{classes}; the first is {}",
        bad,
        count(values.len(), "label"),
        number(values[place]),
    );
    Err(Failure::violated("a label is no class").finding(
        Finding::confirmed(Cause::LabelOutOfRange, evidence).at(format!("target {place}")),
    ))
}
