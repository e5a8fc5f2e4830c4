//! One training, and how it ended.

use crate::{
    Batch, Learner, Result, Snapshot,
    diagnose::{Case, Goal},
    learner::Evaluation,
    measure::training::{Plan, Training, train},
};

pub(super) struct Attempt {
    training: Training,
    /// How many steps it might take.
    steps: usize,
    /// Output and loss after the last step, in evaluation mode; `None` where the loss is not finite.
    ending: Option<Evaluation>,
}

impl Attempt {
    /// Trains from the variables' present values, which are left changed, at the optimizer's own learning rate or another.
    pub(super) fn run(
        learner: &Learner<'_>,
        batch: &Batch,
        steps: usize,
        goal: Goal,
        first: Evaluation,
        learning_rate: Option<f64>,
    ) -> Result<Self> {
        let mut optimizer = learner.make_optimizer()?;
        if let Some(rate) = learning_rate {
            optimizer.set_learning_rate(rate);
        }
        let plan = Plan { steps, target: goal.target };
        let training = train(learner, batch, plan, first, optimizer.as_mut())?;
        let ending = match training.broken {
            None => Some(learner.evaluate(batch, false)?),
            Some(_) => None,
        };
        Ok(Self { training, steps, ending })
    }

    pub(super) fn training(&self) -> &Training {
        &self.training
    }

    pub(super) fn case<'c, 'a>(
        &'c self,
        learner: &'c Learner<'a>,
        batch: &'c Batch,
        goal: Goal,
        before: &'c Snapshot,
    ) -> Result<Case<'c, 'a>> {
        let ending = self.ending.as_ref();
        Case::new(learner, batch, &self.training, self.steps, goal, ending, before)
    }
}
