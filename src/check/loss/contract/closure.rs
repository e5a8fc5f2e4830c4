//! Calling the loss under test.

use candle_core::{Tensor, Var};

use crate::{
    Cause, Failure, Finding, Result,
    check::function::guarded,
    measure::{
        backward::backward,
        values::{scalar, to_f64_vec},
    },
};

/// The closure of the user's.
pub(super) type Closure<'l> = dyn FnMut(&Tensor, &Tensor) -> candle_core::Result<Tensor> + 'l;

/// The loss function under test.
pub(super) struct Loss<'l> {
    closure: &'l mut Closure<'l>,
}

impl<'l> Loss<'l> {
    pub(super) fn new(closure: &'l mut Closure<'l>) -> Self {
        Self { closure }
    }

    fn call(&mut self, prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
        let loss = guarded("the loss closure", || {
            (self.closure)(prediction, target)
                .map_err(|error| Failure::from_candle("the loss closure", error))
        })
        .map_err(|failure| failure.fact("called with", called_with(prediction, target)))?;
        if loss.elem_count() != 1 {
            return Err(Failure::not_run(format!(
                "the loss closure returned a tensor of dims {:?}; allowed: a scalar",
                loss.dims(),
            ))
            .fact("called with", called_with(prediction, target))
            .help("end the loss with `mean_all()`"));
        }
        if !loss.dtype().is_float() {
            return Err(Failure::not_run(format!(
                "the loss closure returned a scalar of dtype {}; allowed: a float dtype",
                loss.dtype().as_str(),
            ))
            .finding(Finding::possible(
                Cause::LossDetached,
                "an integer carries no gradient; a count of right answers is a metric, not a loss",
            )));
        }
        Ok(loss)
    }

    pub(super) fn value(&mut self, prediction: &Tensor, target: &Tensor) -> Result<f64> {
        Ok(scalar(&self.call(prediction, target)?)?)
    }

    /// The loss, in the bits of its dtype.
    pub(super) fn raw(&mut self, prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
        Ok(self.call(prediction, target)?.detach())
    }

    /// The gradient by the prediction; `None` where the loss is cut from it.
    pub(super) fn gradient(
        &mut self,
        prediction: &Tensor,
        target: &Tensor,
    ) -> Result<Option<Vec<f64>>> {
        let leaf = Var::from_tensor(&prediction.copy()?)?;
        let gradients = backward(&self.call(leaf.as_tensor(), target)?)?;
        Ok(gradients.get(leaf.as_tensor()).map(to_f64_vec).transpose()?)
    }
}

/// `a prediction of dims [12, 10], f32, and a target of dims [12], u32`.
pub(super) fn called_with(prediction: &Tensor, target: &Tensor) -> String {
    format!(
        "a prediction of dims {:?}, {}, and a target of dims {:?}, {}",
        prediction.dims(),
        prediction.dtype().as_str(),
        target.dims(),
        target.dtype().as_str(),
    )
}
