//! Whether a gradient is the slope of the loss: having one is not enough where a part of the graph is cut.

use candle_core::{DType, Tensor, Var};
use candling::{Batch, Learner, Seed};

/// Random directions in which the loss is measured for each variable.
const DIRECTIONS: u64 = 4;
/// Steps to both sides, as parts of a standard normal direction. Rounding spoils the small ones and curvature the large
/// ones: the best counts.
const STEPS: [f64; 3] = [1e-2, 3e-3, 1e-3];
/// Of these models, right gradients are within 1.3 % of the measured slope in every direction, and most within 0.1 %;
/// where a part is missing, the worst of the directions is off by more than 17 %.
const TOLERANCE: f64 = 0.05;

/// The names of the variables with a gradient, and whether it agrees with the loss measured to both sides.
pub(crate) fn slopes(
    learner: &Learner<'_>,
    batch: &Batch,
) -> candling::Result<Vec<(String, bool)>> {
    let gradients = learner.loss(batch)?.backward()?;
    let mut slopes = Vec::new();
    for (name, var) in learner.variables() {
        let Some(gradient) = gradients.get(var) else { continue };
        let mut worst: f64 = 0.0;
        for i in 0..DIRECTIONS {
            let direction = Seed::new(i).normal(name, var.dims(), DType::F32, var.device())?;
            let promised = number(&(gradient * &direction)?.sum_all()?)?;
            let mut best = f64::INFINITY;
            for step in STEPS {
                let rise = moved(learner, batch, var, &direction, step)?
                    - moved(learner, batch, var, &direction, -step)?;
                let measured = rise / (2.0 * step);
                // Slopes below this are the rounding of the loss.
                let size = measured.abs().max(promised.abs()).max(1e-3);
                best = best.min((measured - promised).abs() / size);
            }
            worst = worst.max(best);
        }
        slopes.push((name.clone(), worst < TOLERANCE));
    }
    Ok(slopes)
}

/// The loss with one variable moved; the variable comes back.
pub(super) fn moved(
    learner: &Learner<'_>,
    batch: &Batch,
    var: &Var,
    direction: &Tensor,
    step: f64,
) -> candling::Result<f64> {
    let value = var.copy()?;
    var.set(&(&value + (direction * step)?)?)?;
    let loss = learner.loss(batch).and_then(|loss| number(&loss));
    var.set(&value)?;
    loss
}

pub(super) fn number(scalar: &Tensor) -> candling::Result<f64> {
    Ok(scalar.to_dtype(DType::F64)?.to_scalar()?)
}
