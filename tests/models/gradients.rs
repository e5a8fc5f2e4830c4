//! What the backward pass of candle leaves each variable of a model.

use candle_core::{DType, Result, Tensor};
use candling::{Batch, Learner, Seed};

use super::slope::{moved, number};

/// What becomes of one variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// It has a gradient.
    Flows,
    /// It has a gradient, of zeros alone, although it moves the loss.
    Zero,
    /// It has none, although it moves the loss.
    Cut,
    /// It does not move the loss.
    Unused,
}

/// Every variable, sorted by name.
pub(crate) fn flows(learner: &Learner<'_>, batch: &Batch) -> candling::Result<Vec<(String, Flow)>> {
    let loss = learner.loss(batch)?;
    let gradients = loss.backward()?;
    let before = number(&loss)?;
    let flow = |name: &str, var: &candle_core::Var| -> candling::Result<Flow> {
        let size = match gradients.get(var) {
            Some(gradient) => Some(number(&gradient.abs()?.sum_all()?)?),
            None => None,
        };
        if size.is_some_and(|size| size > 0.0) {
            return Ok(Flow::Flows);
        }
        let noise = Seed::new(0).normal(name, var.dims(), DType::F32, var.device())?;
        let after = moved(learner, batch, var, &noise, 0.1)?;
        Ok(match ((after - before).abs() < 1e-5 * before.abs(), size) {
            (true, _) => Flow::Unused,
            (false, Some(_)) => Flow::Zero,
            (false, None) => Flow::Cut,
        })
    };
    learner.variables().iter().map(|(name, var)| Ok((name.clone(), flow(name, var)?))).collect()
}

/// The first row of a batch.
pub(crate) fn one_row(batch: &Batch) -> Result<Batch> {
    let first = |t: &Tensor| t.narrow(0, 0, 1)?.contiguous();
    let Some(target) = batch.target() else { candle_core::bail!("no targets") };
    Ok(match batch.input() {
        [only] => (first(only)?, first(target)?).into(),
        [one, other] => ([first(one)?, first(other)?], first(target)?).into(),
        more => candle_core::bail!("{} inputs", more.len()),
    })
}
