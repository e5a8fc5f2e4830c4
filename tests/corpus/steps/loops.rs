//! Training steps as tests write them: a model, a loss, and an optimizer made once.

use candle_core::{Error, Tensor, Var};
use candle_nn::Optimizer;
use candling::{Batch, Learner, Result, check::StepUpdates};

pub(crate) type Options = for<'t> fn(StepUpdates<'t>) -> StepUpdates<'t>;

/// The learner's variables that may train.
pub(crate) fn free(learner: &Learner<'_>) -> Vec<Var> {
    let all = learner.variables().iter();
    let free = all.filter(|(name, _)| !learner.is_frozen(name) && !name.contains("running_"));
    free.map(|(_, var)| var.clone()).collect()
}

/// A step of the optimizer that `make` makes, on the learner's own loss, which the test knows too.
pub(crate) fn steps_of<O: Optimizer>(
    make: impl Fn(Vec<Var>) -> candle_core::Result<O> + 'static,
    options: Options,
) -> impl Fn(&Learner<'static>, &Batch) -> Result<()> {
    move |learner, batch| {
        let loss = || learner.loss(batch).map_err(Error::wrap);
        let mut optimizer = make(free(learner))?;
        let step = || optimizer.backward_step(&loss()?);
        options(StepUpdates::new()).loss(loss).check(learner.variables(), step).map(drop)
    }
}

/// The same, of a test that knows the variables alone.
pub(crate) fn blind_steps_of<O: Optimizer>(
    make: impl Fn(Vec<Var>) -> candle_core::Result<O> + 'static,
    options: Options,
) -> impl Fn(&Learner<'static>, &Batch) -> Result<()> {
    looped(
        move |vars| {
            let mut optimizer = make(vars)?;
            Ok(move |loss: &Tensor| optimizer.backward_step(loss))
        },
        options,
    )
}

/// A loop written by hand: what it does with a loss.
pub(crate) fn looped<S: FnMut(&Tensor) -> candle_core::Result<()>>(
    make: impl Fn(Vec<Var>) -> candle_core::Result<S> + 'static,
    options: Options,
) -> impl Fn(&Learner<'static>, &Batch) -> Result<()> {
    move |learner, batch| {
        let mut step = make(free(learner))?;
        let step = || step(&learner.loss(batch).map_err(Error::wrap)?);
        options(StepUpdates::new()).check(learner.variables(), step).map(drop)
    }
}
