//! The gradient that each variable of a learner gets.

use candle_core::{Tensor, Var, backprop::GradStore};

use super::{
    backward::backward,
    noise::nudged,
    scan::is_finite,
    values::{norm, to_f64_vec},
};
use crate::{Batch, Learner, Result, Seed, learner::Evaluation};

/// What arrived at one variable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arrived {
    /// The Euclidean norm of the gradient.
    pub(crate) norm: f64,
    pub(crate) finite: bool,
}

/// One backward pass from a learner's loss.
pub(crate) struct Pass {
    pub(crate) evaluation: Evaluation,
    pub(crate) grads: GradStore,
    /// In the order of the learner's trainable variables; `None` where the graph does not reach the variable.
    pub(crate) arrived: Vec<Option<Arrived>>,
}

/// Evaluates the learner and runs the backward pass.
pub(crate) fn pass(learner: &Learner<'_>, batch: &Batch, train: bool) -> Result<Pass> {
    of_evaluation(learner, learner.evaluate(batch, train)?)
}

pub(crate) fn of_evaluation(learner: &Learner<'_>, evaluation: Evaluation) -> Result<Pass> {
    let grads = backward(&evaluation.loss)?;
    let mut arrived = Vec::new();
    for (_, var) in learner.trainable() {
        arrived.push(match grads.get(var.as_tensor()) {
            Some(grad) => Some(Arrived { norm: norm(grad)?, finite: is_finite(grad)? }),
            None => None,
        });
    }
    Ok(Pass { evaluation, grads, arrived })
}

/// The norm of the loss's gradient by the model's output alone; `None` where the learner has no output of its own, or its
/// loss is not differentiable.
pub(crate) fn of_output(learner: &Learner<'_>, batch: &Batch, pass: &Pass) -> Result<Option<f64>> {
    let Some(output) = &pass.evaluation.output else { return Ok(None) };
    let output = Var::from_tensor(&output.detach())?;
    let Some(loss) = learner.loss_of(output.as_tensor(), batch)? else { return Ok(None) };
    let grads = backward(&loss)?;
    grads.get(output.as_tensor()).map(|grad| Ok(norm(grad)?)).transpose()
}

/// How much of each variable's gradient is rounding: the norm of what changes when every variable is moved by at most
/// its last bit, in the order of the learner's trainable variables. The variables get their values back.
pub(crate) fn rounding(
    learner: &Learner<'_>,
    batch: &Batch,
    train: bool,
    grads: &GradStore,
) -> Result<Vec<f64>> {
    let mut kept: Vec<(&Var, Tensor)> = Vec::new();
    for (name, var) in learner.trainable() {
        let own = var.as_tensor().copy()?;
        var.set(&nudged(&own, Seed::new(1), name)?)?;
        kept.push((var, own));
    }
    let nudged = pass(learner, batch, train);
    // The last first: a tied variable is there under two names, and was moved twice.
    for (var, own) in kept.iter().rev() {
        var.set(own)?;
    }
    let nudged = nudged?;
    let mut rounding = Vec::new();
    for (var, _) in kept {
        let change = match (grads.get(var.as_tensor()), nudged.grads.get(var.as_tensor())) {
            (Some(a), Some(b)) => distance(a, b)?,
            _ => 0.0,
        };
        rounding.push(change);
    }
    Ok(rounding)
}

fn distance(a: &Tensor, b: &Tensor) -> Result<f64> {
    let (a, b) = (to_f64_vec(a)?, to_f64_vec(b)?);
    Ok(a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt())
}
