//! Whether a variable shapes the result, told by moving it and looking.

use candle_core::{Tensor, Var};

use super::values::{norm, same_bits, scalar};
use crate::{Batch, Failure, Learner, Result, Seed};

/// What moving one variable did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Effect {
    pub(crate) on_output: bool,
    /// By how much the loss moved.
    pub(crate) on_loss: f64,
}

impl Effect {
    pub(crate) fn any(self) -> bool {
        self.on_output || self.on_loss != 0.0
    }
}

/// Moves `var` in a random direction and compares output and loss, bit for bit, with those at its own value.
///
/// The step is of the variable's own size: a small one can hide behind a ReLU, an argmax, or rounding. `None` where two
/// calls at one value differ already, so that a difference would prove nothing.
pub(crate) fn of_variable(
    learner: &Learner<'_>,
    batch: &Batch,
    name: &str,
    var: &Var,
) -> Result<Option<Effect>> {
    let base = learner.evaluate(batch, false)?;
    let again = learner.evaluate(batch, false)?;
    let same = |a: &Option<Tensor>, b: &Option<Tensor>| -> candle_core::Result<bool> {
        match (a, b) {
            (Some(a), Some(b)) => same_bits(a, b),
            _ => Ok(true),
        }
    };
    if !same(&base.output, &again.output)? || !same_bits(&base.loss, &again.loss)? {
        return Ok(None);
    }
    let own = var.as_tensor().copy()?;
    let set = |value: &Tensor| {
        var.set(value).map_err(|e| Failure::from_candle(&format!("setting variable `{name}`"), e))
    };
    set(&moved(name, &own)?)?;
    let there = learner.evaluate(batch, false);
    set(&own)?;
    let there = there?;
    Ok(Some(Effect {
        on_output: !same(&base.output, &there.output)?,
        on_loss: match same_bits(&base.loss, &there.loss)? {
            true => 0.0,
            false => (scalar(&there.loss)? - scalar(&base.loss)?).abs(),
        },
    }))
}

/// The value plus a random direction of the same root mean square, or of 0.1 where the value is near zero.
fn moved(name: &str, own: &Tensor) -> Result<Tensor> {
    let size = norm(own)? / (own.elem_count().max(1) as f64).sqrt();
    let size = if size.is_finite() { size.max(0.1) } else { 0.1 };
    let direction = Seed::new(0).normal(name, own.shape(), own.dtype(), own.device())?;
    Ok((own + (direction * size)?)?)
}
