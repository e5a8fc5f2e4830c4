//! A learner's loss as a function of its variables.

use candle_core::{DType, Tensor, Var};

use super::{Objective, Slot, coarser, coarsest, nearby, slot};
use crate::{
    Batch, Failure, Learner, Result, Seed,
    measure::{
        backward::backward,
        values::{same_bits, scalar},
    },
};

/// A learner's loss as a function of its trainable variables.
pub(crate) struct OfLearner<'l, 'a> {
    learner: &'l Learner<'a>,
    batch: &'l Batch,
    train: bool,
    variables: Vec<Var>,
    slots: Vec<Slot>,
    dtype: DType,
    /// Variables that a forward pass itself changes, with their values before it.
    kept: Vec<(Var, Tensor)>,
    pub(crate) loss: Tensor,
}

impl<'l, 'a> OfLearner<'l, 'a> {
    /// Runs the backward pass, in training mode unless that is random.
    ///
    /// # Errors
    ///
    /// A learner whose loss differs between two evaluations in every mode; the errors of closures and backward pass.
    pub(crate) fn new(learner: &'l Learner<'a>, batch: &'l Batch) -> Result<Self> {
        let kept = learner.untrained_values()?;
        let Some(train) = repeatable_mode(learner, batch)? else {
            return Err(Failure::not_run("two evaluations of the learner differ: its slope cannot be measured")
                .help("give it `Learner::with_modes`, so that dropout is off, or make its randomness repeatable with `Seed::seed_candle`"));
        };
        restore(&kept)?;
        let (loss, slots) = gradients(learner, batch, train)?;
        // Statistics that a pass moves would make the next one another function.
        let mut changed = Vec::new();
        for (var, before) in kept {
            if !same_bits(var.as_tensor(), &before)? {
                changed.push((var, before));
            }
        }
        let variables: Vec<Var> = learner.trainable().map(|(_, var)| var.clone()).collect();
        let dtype =
            variables.iter().fold(coarsest(&loss), |dtype, var| coarser(dtype, var.dtype()));
        Ok(Self { learner, batch, train, variables, slots, dtype, kept: changed, loss })
    }
}

/// The loss with its graph, and every trainable variable with its gradient.
fn gradients(learner: &Learner<'_>, batch: &Batch, train: bool) -> Result<(Tensor, Vec<Slot>)> {
    // Inputs become variables, so that the graph holds what is computed from them alone.
    let loss = learner.evaluate(&traced(batch)?, train)?.loss;
    let grads = backward(&loss)?;
    let slots =
        learner.trainable().map(|(name, var)| slot(name.to_owned(), var.as_tensor(), &grads));
    Ok((loss, slots.collect::<Result<Vec<_>>>()?))
}

impl Objective for OfLearner<'_, '_> {
    fn slots(&self) -> &[Slot] {
        &self.slots
    }

    fn value(&mut self, slot: usize, replaced: &Tensor) -> Result<f64> {
        let var = &self.variables[slot];
        restore(&self.kept)?;
        var.set(replaced)?;
        let evaluation = self.learner.evaluate(self.batch, self.train);
        var.set(&self.slots[slot].value)?;
        Ok(scalar(&evaluation?.loss)?)
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn go_elsewhere(&mut self, seed: Seed) -> Result<()> {
        restore(&self.kept)?;
        for (var, slot) in self.variables.iter().zip(&self.slots) {
            var.set(&nearby(&slot.value, seed, &slot.name)?)?;
        }
        match gradients(self.learner, self.batch, self.train) {
            Ok((_, slots)) => {
                self.slots = slots;
                Ok(())
            }
            Err(failure) => {
                for (var, slot) in self.variables.iter().zip(&self.slots) {
                    var.set(&slot.value)?;
                }
                Err(failure)
            }
        }
    }
}

fn restore(kept: &[(Var, Tensor)]) -> Result<()> {
    Ok(kept.iter().try_for_each(|(var, value)| var.set(value))?)
}

/// Training mode, else evaluation mode: the first in which two evaluations agree bit for bit.
pub(crate) fn repeatable_mode(learner: &Learner<'_>, batch: &Batch) -> Result<Option<bool>> {
    for train in [true, false] {
        let (a, b) = (learner.evaluate(batch, train)?, learner.evaluate(batch, train)?);
        if same_bits(&a.loss, &b.loss)? {
            return Ok(Some(train));
        }
        if !learner.has_modes() {
            break;
        }
    }
    Ok(None)
}

/// The batch with its float inputs as variables, so that the graph holds all that is computed from them.
pub(crate) fn traced(batch: &Batch) -> Result<Batch> {
    let input = batch.input().iter().map(|input| match input.dtype().is_float() {
        true => Ok(Var::from_tensor(input)?.into_inner()),
        false => Ok(input.clone()),
    });
    Ok(batch.with_input(input.collect::<Result<Vec<_>>>()?))
}
