//! Optimizers as users write them around candle's, and the ways these go wrong.

use candle_core::{Result, Tensor, Var, backprop::GradStore};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};

pub(crate) fn adam(lr: f64) -> ParamsAdamW {
    ParamsAdamW { lr, weight_decay: 0.0, ..ParamsAdamW::default() }
}

pub(crate) fn decayed(lr: f64, weight_decay: f64) -> ParamsAdamW {
    ParamsAdamW { lr, weight_decay, ..ParamsAdamW::default() }
}

/// Several optimizers that step together: groups of variables with settings of their own.
pub(crate) struct Groups(Vec<AdamW>);

impl Optimizer for Groups {
    type Config = fn(&Var) -> ParamsAdamW;

    fn new(vars: Vec<Var>, config: Self::Config) -> Result<Self> {
        let one = |var: Var| AdamW::new(vec![var.clone()], config(&var));
        Ok(Self(vars.into_iter().map(one).collect::<Result<_>>()?))
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        self.0.iter_mut().try_for_each(|group| group.step(grads))
    }

    fn learning_rate(&self) -> f64 {
        self.0.first().map_or(0.0, AdamW::learning_rate)
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.0.iter_mut().for_each(|group| group.set_learning_rate(lr));
    }
}

impl Groups {
    /// One optimizer for each list of variables.
    pub(crate) fn of(
        lists: impl IntoIterator<Item = Vec<Var>>,
        params: ParamsAdamW,
    ) -> Result<Self> {
        let made = lists.into_iter().map(|vars| AdamW::new(vars, params.clone()));
        Ok(Self(made.collect::<Result<_>>()?))
    }
}

/// Plain descent with gradient buffers of its own, as a loop that accumulates micro-batches has.
pub(crate) struct Buffered {
    vars: Vec<Var>,
    lr: f64,
    clears: bool,
    buffers: Vec<Option<Tensor>>,
}

impl Optimizer for Buffered {
    /// The learning rate, and whether the buffers are cleared after a step.
    type Config = (f64, bool);

    fn new(vars: Vec<Var>, (lr, clears): Self::Config) -> Result<Self> {
        let buffers = vec![None; vars.len()];
        Ok(Self { vars, lr, clears, buffers })
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        for (var, buffer) in self.vars.iter().zip(&mut self.buffers) {
            let Some(grad) = grads.get(var) else { continue };
            let sum = match buffer.take() {
                Some(earlier) => (earlier + grad)?,
                None => grad.clone(),
            };
            var.set(&(var.as_tensor() - (&sum * self.lr)?)?)?;
            *buffer = (!self.clears).then_some(sum);
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.lr
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.lr = lr;
    }
}

/// Plain descent on gradients clipped to a norm over all variables.
pub(crate) struct Clipped {
    vars: Vec<Var>,
    lr: f64,
    most: f64,
}

impl Optimizer for Clipped {
    /// The learning rate, and the largest norm.
    type Config = (f64, f64);

    fn new(vars: Vec<Var>, (lr, most): Self::Config) -> Result<Self> {
        Ok(Self { vars, lr, most })
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        let mut squares = 0.0;
        for grad in self.vars.iter().filter_map(|var| grads.get(var)) {
            squares += f64::from(grad.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        let scale = (self.most / squares.sqrt().max(1e-12)).min(1.0);
        for var in &self.vars {
            if let Some(grad) = grads.get(var) {
                var.set(&(var.as_tensor() - (grad * (self.lr * scale))?)?)?;
            }
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.lr
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.lr = lr;
    }
}

/// AdamW whose learning rate warms up over 50 steps.
pub(crate) struct Warmed {
    inner: AdamW,
    full: f64,
    step: usize,
    /// The steps after which the counter starts again; `None` where it never does.
    epoch: Option<usize>,
}

impl Optimizer for Warmed {
    type Config = (f64, Option<usize>);

    fn new(vars: Vec<Var>, (full, epoch): Self::Config) -> Result<Self> {
        let inner = AdamW::new(vars, adam(full / 50.0))?;
        Ok(Self { inner, full, step: 0, epoch })
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        if self.epoch == Some(self.step) {
            self.step = 0;
        }
        self.step += 1;
        let share = (self.step as f64 / 50.0).min(1.0);
        self.inner.set_learning_rate(self.full * share);
        self.inner.step(grads)
    }

    fn learning_rate(&self) -> f64 {
        self.inner.learning_rate()
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.full = lr;
    }
}

/// AdamW made anew for every step, as inside a loop.
pub(crate) struct Rebuilt {
    vars: Vec<Var>,
    params: ParamsAdamW,
}

impl Optimizer for Rebuilt {
    type Config = ParamsAdamW;

    fn new(vars: Vec<Var>, params: ParamsAdamW) -> Result<Self> {
        Ok(Self { vars, params })
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        AdamW::new(self.vars.clone(), self.params.clone())?.step(grads)
    }

    fn learning_rate(&self) -> f64 {
        self.params.lr
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.params.lr = lr;
    }
}

/// AdamW that keeps a running average of the variables in others.
pub(crate) struct Averaged {
    inner: AdamW,
    vars: Vec<Var>,
    averages: Vec<Var>,
    decay: f64,
}

impl Optimizer for Averaged {
    /// The averages, in the order of the variables, and their decay.
    type Config = (Vec<Var>, f64);

    fn new(vars: Vec<Var>, (averages, decay): Self::Config) -> Result<Self> {
        let inner = AdamW::new(vars.clone(), adam(0.01))?;
        Ok(Self { inner, vars, averages, decay })
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        self.inner.step(grads)?;
        for (var, average) in self.vars.iter().zip(&self.averages) {
            let kept = (average.as_tensor() * self.decay)?;
            average.set(&(kept + (var.as_tensor() * (1.0 - self.decay))?)?)?;
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.inner.learning_rate()
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.inner.set_learning_rate(lr);
    }
}
