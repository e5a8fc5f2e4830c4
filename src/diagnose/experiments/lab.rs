//! Where a failed training is run again with one thing changed.

use std::cell::Cell;

use crate::{
    Batch, Learner, Result,
    diagnose::{Case, Goal, Trajectory},
    measure::{
        training::{Plan, train},
        values::scalar,
    },
    verdict::{count, number},
};

/// How many trainings of the failed one's length all experiments together may take.
pub(super) const RUNS: usize = 9;

/// A cure at least halves what was left of the loss.
const WELL_BELOW: f64 = 0.5;

pub(super) struct Lab<'l, 'c, 'a> {
    pub(super) case: &'l Case<'c, 'a>,
    runs_left: Cell<usize>,
}

/// The training run again.
pub(super) struct Rerun {
    pub(super) losses: Vec<f64>,
    pub(super) last: f64,
}

impl<'l, 'c, 'a> Lab<'l, 'c, 'a> {
    pub(super) fn new(case: &'l Case<'c, 'a>) -> Self {
        Self { case, runs_left: Cell::new(RUNS) }
    }

    /// Trains `learner` on `batch` from the values before the failed training. `None` where the budget is spent, or the
    /// optimizer does not take the learning rate.
    pub(super) fn rerun(
        &self,
        learner: &Learner<'a>,
        batch: &Batch,
        learning_rate: Option<f64>,
        stops_at: Stop,
    ) -> Result<Option<Rerun>> {
        self.case.before.restore()?;
        let outcome = self.rerun_from_here(learner, batch, learning_rate, stops_at);
        self.case.before.restore()?;
        outcome
    }

    /// As [`rerun`](Self::rerun), from the values the variables have now, which are left changed.
    pub(super) fn rerun_from_here(
        &self,
        learner: &Learner<'a>,
        batch: &Batch,
        learning_rate: Option<f64>,
        stops_at: Stop,
    ) -> Result<Option<Rerun>> {
        let Some(left) = self.runs_left.get().checked_sub(1) else { return Ok(None) };
        self.runs_left.set(left);
        let mut optimizer = learner.make_optimizer()?;
        if let Some(rate) = learning_rate {
            optimizer.set_learning_rate(rate);
            if optimizer.learning_rate() != rate {
                return Ok(None);
            }
        }
        let first = learner.evaluate(batch, true)?;
        let initial = scalar(&first.loss)?;
        let target = match stops_at {
            Stop::AtTheGoal => self.goal_from(initial).target,
            Stop::AfterAllSteps => f64::NEG_INFINITY,
        };
        let plan = Plan { steps: self.case.steps, target };
        let training = train(learner, batch, plan, first, optimizer.as_mut())?;
        Ok(Some(Rerun { last: training.last(), losses: training.losses }))
    }

    /// What the failed training had to reach, for a training that starts at another loss.
    fn goal_from(&self, initial: f64) -> Goal {
        let named = self.case.goal.strict && self.case.goal.target.is_finite();
        match named {
            true => Goal::below(initial, self.case.goal.target),
            false => Goal::default_for(initial, self.case.goal.baseline),
        }
    }

    /// Whether the training run again fits the batch, and ends well below where the failed one did: a change that
    /// raises the first loss must not pass for a cure by falling from higher up.
    pub(super) fn is_cured(&self, rerun: &Rerun) -> bool {
        let failed = self.case.training.last();
        if failed.is_finite() && failed > 0.0 && rerun.last > WELL_BELOW * failed {
            return false;
        }
        let goal = self.goal_from(rerun.losses[0]);
        let trajectory = Trajectory::of(&rerun.losses, rerun.last, goal);
        goal.initial > 0.0 && trajectory.is_fitted(rerun.last, goal, false)
    }
}

/// When a training that is run again may stop.
#[derive(Clone, Copy)]
pub(super) enum Stop {
    AtTheGoal,
    AfterAllSteps,
}

impl Rerun {
    /// `2.31 -> 0.004 in 118 steps`.
    pub(super) fn way(&self) -> String {
        let steps = count(self.losses.len() - 1, "step");
        format!("{} -> {} in {steps}", number(self.losses[0]), number(self.last))
    }
}
