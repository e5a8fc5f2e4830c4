//! Training steps as users write them, around candle's optimizers.

use candle_core::{Result, Tensor, Var, backprop::GradStore};
use candle_nn::ParamsAdamW;

/// AdamW without decay.
pub(crate) fn plain(lr: f64) -> ParamsAdamW {
    ParamsAdamW { lr, weight_decay: 0.0, ..ParamsAdamW::default() }
}

/// Descent with momentum.
pub(crate) struct Momentum {
    vars: Vec<Var>,
    rate: f64,
    momentum: f64,
    velocities: Vec<Option<Tensor>>,
}

impl Momentum {
    pub(crate) fn new(vars: Vec<Var>, rate: f64, momentum: f64) -> Self {
        let velocities = vec![None; vars.len()];
        Self { vars, rate, momentum, velocities }
    }

    pub(crate) fn step(&mut self, grads: &GradStore) -> Result<()> {
        for (var, velocity) in self.vars.iter().zip(&mut self.velocities) {
            let Some(grad) = grads.get(var) else { continue };
            let next = match velocity.take() {
                Some(velocity) => ((velocity * self.momentum)? + grad)?,
                None => grad.clone(),
            };
            var.set(&(var.as_tensor() - (&next * self.rate)?)?)?;
            *velocity = Some(next);
        }
        Ok(())
    }
}
