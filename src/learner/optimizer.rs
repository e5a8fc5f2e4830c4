//! The learner's own optimizer, whatever its type, and the default one.

use candle_core::{DType, Result, Var, backprop::GradStore};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};

use super::{
    Learner,
    adamw::{FusedAdamW, Seen},
    shared,
};
use crate::Failure;

/// The part of candle's [`Optimizer`] that a training loop needs, without its type.
pub(crate) trait Stepper {
    fn step(&mut self, grads: &GradStore) -> Result<()>;
    fn learning_rate(&self) -> f64;
    fn set_learning_rate(&mut self, learning_rate: f64);

    /// What the last step saw of each variable's gradient, in the order of the variables it was made with; `None` from
    /// an optimizer that does not look.
    fn seen(&self) -> Option<&[Option<Seen>]> {
        None
    }
}

impl<O: Optimizer> Stepper for O {
    fn step(&mut self, grads: &GradStore) -> Result<()> {
        Optimizer::step(self, grads)
    }

    fn learning_rate(&self) -> f64 {
        Optimizer::learning_rate(self)
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        Optimizer::set_learning_rate(self, learning_rate);
    }
}

pub(super) type Make<'a> = dyn FnMut(Vec<Var>) -> Result<Box<dyn Stepper + 'a>> + 'a;

/// High for a long training, right for the few steps in which a batch is memorised.
pub(crate) const DEFAULT_LEARNING_RATE: f64 = 1e-2;

impl<'a> Learner<'a> {
    /// The optimizer that trains this learner, made anew for every training.
    ///
    /// `make` is given the variables that may train. The default is AdamW (Loshchilov and Hutter, 2019) with a learning
    /// rate of 1e-2 and no weight decay.
    ///
    /// ```
    /// use candle_nn::SGD;
    /// use candling::{Learner, Seed, prelude::*};
    ///
    /// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
    /// let model = candle_nn::linear(4, 3, vb)?;
    /// let learner = Learner::new(&vars, |x| model.forward(x), loss::cross_entropy)
    ///     .optimizer(|vars| SGD::new(vars, 0.1));
    /// # let _ = learner;
    /// # candling::Result::Ok(())
    /// ```
    #[must_use]
    pub fn optimizer<O, F>(mut self, mut make: F) -> Self
    where
        O: Optimizer + 'a,
        F: FnMut(Vec<Var>) -> Result<O> + 'a,
    {
        self.optimizer =
            Some(shared(Box::new(move |vars| Ok(Box::new(make(vars)?) as Box<dyn Stepper + 'a>))));
        self
    }

    pub(crate) fn has_own_optimizer(&self) -> bool {
        self.optimizer.is_some()
    }

    /// The same learner under candling's own optimizer.
    pub(crate) fn with_plain_adamw(&self) -> Self {
        Self { optimizer: None, ..self.clone() }
    }

    pub(crate) fn make_optimizer(&self) -> crate::Result<Box<dyn Stepper + 'a>> {
        let vars: Vec<Var> = self.trainable().map(|(_, var)| var.clone()).collect();
        let made = match &self.optimizer {
            Some(make) => make.borrow_mut()(vars),
            None => default_optimizer(vars),
        };
        made.map_err(|e| Failure::from_candle("making the optimizer", e))
    }
}

/// The fused AdamW; candle's own where that does not reach: on a GPU, in 8-bit floats.
fn default_optimizer<'a>(vars: Vec<Var>) -> Result<Box<dyn Stepper + 'a>> {
    // In f16 the usual epsilon of 1e-8 is zero, and the first zero gradient makes 0 / 0.
    let eps = if vars.iter().any(|var| var.dtype() == DType::F16) { 1e-4 } else { 1e-8 };
    let params =
        ParamsAdamW { lr: DEFAULT_LEARNING_RATE, weight_decay: 0.0, eps, ..ParamsAdamW::default() };
    Ok(match FusedAdamW::new(&vars, params.clone()) {
        Some(fused) => Box::new(fused),
        None => Box::new(AdamW::new(vars, params)?),
    })
}
