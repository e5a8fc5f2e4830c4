//! Update rules that candle does not have.

use candle_core::{Result, Tensor, Var, backprop::GradStore};
use candle_nn::{AdamW, Optimizer};

use crate::corpus::optimizers::decayed;

/// Descent with momentum (B. T. Polyak, 1964), and coupled weight decay, as `torch.optim.SGD`.
pub(crate) struct Momentum {
    pub(crate) vars: Vec<Var>,
    pub(crate) rate: f64,
    pub(crate) momentum: f64,
    pub(crate) velocities: Vec<Option<Tensor>>,
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

/// The sign of an interpolated momentum (X. Chen et al., Symbolic discovery of optimization algorithms, 2023).
pub(crate) struct Lion {
    vars: Vec<Var>,
    rate: f64,
    averages: Vec<Option<Tensor>>,
}

impl Lion {
    pub(crate) fn new(vars: Vec<Var>, rate: f64) -> Self {
        let averages = vec![None; vars.len()];
        Self { vars, rate, averages }
    }

    pub(crate) fn step(&mut self, grads: &GradStore) -> Result<()> {
        for (var, average) in self.vars.iter().zip(&mut self.averages) {
            let Some(grad) = grads.get(var) else { continue };
            let old = match average.take() {
                Some(average) => average,
                None => grad.zeros_like()?,
            };
            let update = ((&old * 0.9)? + (grad * 0.1)?)?.sign()?;
            var.set(&(var.as_tensor() - (update * self.rate)?)?)?;
            *average = Some(((old * 0.99)? + (grad * 0.01)?)?);
        }
        Ok(())
    }
}

/// Matrices with decay, everything else without: two groups, as in most recipes.
pub(crate) struct TwoGroups([AdamW; 2]);

impl TwoGroups {
    pub(crate) fn new(vars: Vec<Var>, rate: f64, of_matrices: f64, of_rest: f64) -> Result<Self> {
        let (matrices, rest) = vars.into_iter().partition(|var: &Var| var.rank() > 1);
        Ok(Self([
            AdamW::new(matrices, decayed(rate, of_matrices))?,
            AdamW::new(rest, decayed(rate, of_rest))?,
        ]))
    }

    pub(crate) fn step(&mut self, grads: &GradStore) -> Result<()> {
        self.0.iter_mut().try_for_each(|group| group.step(grads))
    }
}

/// Gradients scaled so that their norm over all variables is at most this.
pub(crate) fn clip(vars: &[Var], grads: &mut GradStore, most: f64) -> Result<()> {
    let mut squares = 0.0;
    for grad in vars.iter().filter_map(|var| grads.get(var)) {
        squares += grad.to_dtype(candle_core::DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?;
    }
    let scale = (most / squares.sqrt().max(1e-12)).min(1.0);
    for var in vars {
        if let Some(grad) = grads.get(var) {
            let scaled = (grad * scale)?;
            grads.insert(var, scaled);
        }
    }
    Ok(())
}
