//! In which format a learner or a function is judged, and what cannot be judged at all.

use candle_core::{DType, Tensor};

use crate::{Batch, Cause, Failure, Finding, Learner, Result, Seed, measure::scan::is_finite};

/// The learner in f64 with the values of its variables, and its batch; `None` for a learner that cannot be built again or
/// is in f64 already.
pub(super) fn rebuilt<'a>(
    learner: &Learner<'a>,
    batch: &Batch,
) -> Result<Option<(Learner<'a>, Batch)>> {
    if learner.built_in().is_none_or(|dtype| dtype == DType::F64) {
        return Ok(None);
    }
    let precise = learner.rebuild(Seed::new(0), DType::F64)?;
    for (name, var) in precise.variables() {
        let own = learner.variables().iter().find(|(n, _)| n == name);
        let Some((_, own)) = own else {
            return Err(Failure::not_run(format!("the model builds other variables: `{name}`")));
        };
        var.set(&own.as_tensor().to_dtype(var.dtype())?)?;
    }
    let raised = |t: &Tensor| match t.dtype().is_float() {
        true => raise(t),
        false => Ok(t.clone()),
    };
    let input = batch.input().iter().map(raised).collect::<candle_core::Result<Vec<_>>>()?;
    let batch = match batch.target() {
        Some(target) => Batch::of_members(input, raised(target)?),
        None => batch.with_input(input),
    };
    let loss = precise.evaluate(&batch, true)?.loss;
    match loss.dtype() {
        DType::F64 => Ok(Some((precise, batch))),
        other => Err(Failure::not_run(format!("its loss is {}", other.as_str()))),
    }
}

/// In f64. candle's own conversion of f8e4m3 never returns, so that goes through f32.
fn raise(tensor: &Tensor) -> candle_core::Result<Tensor> {
    match tensor.dtype() {
        DType::F8E4M3 => tensor.to_dtype(DType::F32)?.to_dtype(DType::F64),
        _ => tensor.to_dtype(DType::F64),
    }
}

/// The inputs in f64 where the function takes and keeps them, and why not where it does not.
pub(super) fn in_f64(
    f: &mut dyn FnMut(&[Tensor]) -> Result<Tensor>,
    members: &[Tensor],
) -> (Vec<Tensor>, Option<String>) {
    let raised = members.iter().map(|member| match member.dtype().is_float() {
        true => raise(member),
        false => Ok(member.clone()),
    });
    let Ok(raised) = raised.collect::<candle_core::Result<Vec<_>>>() else {
        return (members.to_vec(), Some("its inputs cannot be converted".to_owned()));
    };
    match f(&raised) {
        Ok(output) if output.dtype() == DType::F64 => (raised, None),
        Ok(output) => {
            let why = format!("the function makes {} of f64", output.dtype().as_str());
            (members.to_vec(), Some(why))
        }
        Err(failure) => {
            let why = format!("on f64 the function returns an error: {}", first_line(&failure));
            (members.to_vec(), Some(why))
        }
    }
}

pub(super) fn first_line(failure: &Failure) -> String {
    let text = failure.source_text();
    text.lines().next().unwrap_or_default().to_owned()
}

pub(super) fn inputs(members: &[Tensor]) -> Result<()> {
    if !members.iter().any(|member| member.dtype().is_float()) {
        return Err(Failure::bad_argument(
            "x",
            "integers, which have no gradient",
            "at least one tensor of a float dtype",
        ));
    }
    for member in members {
        if member.elem_count() == 0 {
            return Err(Failure::vacuous(format!(
                "the input of dims {:?} is empty: there is no slope to compare",
                member.dims(),
            )));
        }
        if !is_finite(member)? {
            return Err(Failure::bad_argument(
                "x",
                "a tensor with NaN or infinite values",
                "finite values",
            ));
        }
    }
    Ok(())
}

pub(super) fn output(output: &Tensor) -> Result<()> {
    if !output.dtype().is_float() {
        return Err(Failure::not_run(format!(
            "the function returned a tensor of dtype {}; allowed: a float dtype",
            output.dtype().as_str(),
        )));
    }
    if output.elem_count() == 0 {
        return Err(Failure::vacuous("the function returned an empty tensor: it has no slope"));
    }
    if !is_finite(output)? {
        return Err(Failure::not_run("the function is not finite at this point: it has no slope")
            .finding(Finding::confirmed(
                Cause::NotFinite,
                "its output holds NaN or infinite values",
            )));
    }
    Ok(())
}
