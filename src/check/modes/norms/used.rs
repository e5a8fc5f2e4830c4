//! What evaluation notices: running statistics that are changed, and other rows.

use candle_core::{DType, Tensor, Var};

use crate::{
    Result, Seed,
    check::{
        function,
        modes::{evaluation::Evaluation, passes::Passes},
    },
    learner::is_running_statistic,
    measure::values::{same_bits, to_f64_vec},
    verdict::number,
};

/// Whether evaluation changes with a statistic. Where it does not, variables that are all zero may hide it: a block whose
/// last scale starts at zero.
pub(super) fn is_used(
    passes: &Passes<'_, '_>,
    evaluation: &Evaluation,
    name: &str,
    var: &Var,
) -> Result<Option<bool>> {
    if !evaluation.is_steady {
        return Ok(None);
    }
    passes.restore()?;
    let moved = elsewhere(var, name)?;
    var.set(&moved)?;
    let Ok(output) = passes.forward(passes.x, false) else { return Ok(None) };
    if !same_bits(&output.detach(), &evaluation.output)? {
        return Ok(Some(true));
    }
    passes.restore()?;
    if !fill_zeros(passes)? {
        return Ok(Some(false));
    }
    let Ok(before) = passes.forward(passes.x, false) else { return Ok(None) };
    var.set(&moved)?;
    let Ok(after) = passes.forward(passes.x, false) else { return Ok(None) };
    Ok(Some(!same_bits(&after.detach(), &before.detach())?))
}

/// Other values of the statistic, positive where they were.
fn elsewhere(var: &Var, name: &str) -> Result<Tensor> {
    let draws = Seed::new(0).uniform(name, 1.0..2.0, var.shape(), DType::F32, var.device())?;
    let moved = (var.as_tensor().to_dtype(DType::F32)?.detach() * 1.5)?.add(&draws)?;
    Ok(moved.to_dtype(var.dtype())?)
}

/// Gives variables that may train and are all zero other values; `false` where there are none.
pub(in crate::check::modes) fn fill_zeros(passes: &Passes<'_, '_>) -> Result<bool> {
    let mut any = false;
    for (name, var) in passes.learner.variables() {
        let values = to_f64_vec(var.as_tensor())?;
        if !var.dtype().is_float() || is_running_statistic(name) || values.iter().any(|v| *v != 0.0)
        {
            continue;
        }
        let draws = Seed::new(0).normal(name, var.shape(), DType::F32, var.device())?;
        var.set(&(draws * 0.1)?.to_dtype(var.dtype())?)?;
        any = true;
    }
    Ok(any)
}

/// Whether the first row of evaluation depends on the others: they get other values, and the number of rows stays, so that
/// the same kernels run.
pub(super) fn mixes_rows(
    passes: &Passes<'_, '_>,
    evaluation: &Evaluation,
) -> Result<Option<String>> {
    let rows = passes.rows();
    if rows < 2 || !evaluation.is_steady || evaluation.output.dims().first() != Some(&rows) {
        return Ok(None);
    }
    let others = function::alternatives(passes.x, Seed::new(0))?;
    let mut x = Vec::with_capacity(others.len());
    for (own, other) in passes.x.iter().zip(others) {
        let own = own.detach();
        x.push(match other {
            Some(other) => Tensor::cat(&[own.narrow(0, 0, 1)?, other.narrow(0, 1, rows - 1)?], 0)?,
            None => own,
        });
    }
    passes.restore()?;
    let Ok(output) = passes.forward(&x, false) else { return Ok(None) };
    let output = output.detach();
    if output.dims() != evaluation.output.dims() {
        return Ok(None);
    }
    let (a, b) = (output.narrow(0, 0, 1)?, evaluation.output.narrow(0, 0, 1)?);
    if same_bits(&a.contiguous()?, &b.contiguous()?)? {
        return Ok(None);
    }
    let (a, b) = (to_f64_vec(&a)?, to_f64_vec(&b)?);
    let most = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    Ok(Some(format!("its first row moves by {} when the other rows change", number(most))))
}
