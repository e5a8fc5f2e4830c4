//! The same learner with one thing changed.

use candle_core::{Result, Tensor, Var, backprop::GradStore};

use super::{Closures, Learner, Stepper, shared};

impl<'a> Learner<'a> {
    /// The same learner with its output changed before the loss sees it.
    pub(crate) fn map_output(
        &self,
        map: impl Fn(&Tensor) -> candle_core::Result<Tensor> + 'a,
    ) -> Self {
        let mut changed = self.clone();
        if let Closures::ForwardAndLoss { loss, .. } = &mut changed.closures {
            let inner = loss.clone();
            *loss = shared(Box::new(move |output: &Tensor, target: &Tensor| {
                inner.borrow_mut()(&map(output)?, target)
            }));
        }
        changed
    }

    /// The same learner, in evaluation mode when it trains too.
    pub(crate) fn always_evaluating(&self) -> Self {
        let mut changed = self.clone();
        if let Closures::ForwardAndLoss { forward, .. } = &mut changed.closures {
            let inner = forward.clone();
            *forward =
                shared(Box::new(move |input: &[Tensor], _| inner.borrow_mut()(input, false)));
        }
        changed
    }

    /// The same learner with its loss changed.
    pub(crate) fn map_loss(
        &self,
        map: impl Fn(Tensor) -> candle_core::Result<Tensor> + 'a,
    ) -> Self {
        let mut changed = self.clone();
        match &mut changed.closures {
            Closures::ForwardAndLoss { loss, .. } => {
                let inner = loss.clone();
                *loss = shared(Box::new(move |output: &Tensor, target: &Tensor| {
                    map(inner.borrow_mut()(output, target)?)
                }));
            }
            Closures::Loss(loss) => {
                let inner = loss.clone();
                *loss = shared(Box::new(move || map(inner.borrow_mut()()?)));
            }
            Closures::Forward(_) => {}
        }
        changed
    }

    /// The same learner under its own optimizer, with what each step takes off the variables themselves given back: a
    /// decay of `share` a step is undone, and nothing else.
    pub(crate) fn without_decay(&self, share: f64) -> Self {
        let mut changed = self.clone();
        if let Some(make) = &self.optimizer {
            let make = make.clone();
            changed.optimizer = Some(shared(Box::new(move |vars: Vec<Var>| {
                let inner = make.borrow_mut()(vars.clone())?;
                Ok(Box::new(Undecayed { inner, vars, share }) as Box<dyn Stepper + 'a>)
            })));
        }
        changed
    }
}

/// Gives back what a decay takes.
struct Undecayed<'a> {
    inner: Box<dyn Stepper + 'a>,
    vars: Vec<Var>,
    share: f64,
}

impl Stepper for Undecayed<'_> {
    fn step(&mut self, grads: &GradStore) -> Result<()> {
        let before = self.vars.iter().map(|var| var.as_tensor() * self.share);
        let before = before.collect::<Result<Vec<_>>>()?;
        self.inner.step(grads)?;
        for (var, taken) in self.vars.iter().zip(before) {
            // A variable without a gradient is not stepped, and nothing was taken from it.
            if grads.get(var.as_tensor()).is_some() {
                var.set(&(var.as_tensor() + taken)?)?;
            }
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.inner.learning_rate()
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.inner.set_learning_rate(learning_rate);
    }
}
