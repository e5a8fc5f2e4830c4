//! Does the learner's own optimizer lower the loss?

use super::{super::CLIMBS, descent::Place};
use crate::{
    Batch, Cause, Failure, Finding, Learner, Result, Snapshot,
    learner::Stepper,
    measure::{
        backward::backward,
        training::moved_since,
        values::{scalar, to_f64_vec},
        vectors::share_uphill,
    },
    verdict::{count, number, told_apart},
};

/// How a loss is looked at: in one evaluation where two agree, in the mean of several where they do not.
#[derive(Clone, Copy)]
pub(super) enum Look<'p, 'l, 'a> {
    Once(&'p Place<'l, 'a>),
    Mean,
}

/// So many evaluations of a random loss make its mean.
pub(super) const DRAWS: usize = 16;

pub(super) struct Bench<'b, 'l, 'a> {
    pub(super) learner: &'l Learner<'a>,
    pub(super) batch: &'l Batch,
    pub(super) start: &'b Snapshot,
    pub(super) look: Look<'b, 'l, 'a>,
    /// A loss below this is lower than the one before the first step, beyond rounding and chance.
    pub(super) lower: f64,
    pub(super) steps: usize,
}

/// A few steps of an optimizer.
pub(super) struct Trial {
    /// The loss after each step.
    pub(super) losses: Vec<f64>,
    pub(super) falls: bool,
    pub(super) rate: f64,
    /// The share of the first gradient, by its size, along which the first step went up.
    uphill: Option<f64>,
}

impl Trial {
    pub(super) fn lowest(&self) -> f64 {
        self.losses.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

impl Bench<'_, '_, '_> {
    pub(super) fn loss(&self) -> Result<f64> {
        match &self.look {
            Look::Once(place) => place.loss(),
            Look::Mean => Ok(draws(self.learner, self.batch)?.iter().sum::<f64>() / DRAWS as f64),
        }
    }

    /// Steps from the start until the loss is lower, at the optimizer's own learning rate times `factor`.
    ///
    /// `None` where it does not take that.
    pub(super) fn run(&self, factor: f64) -> Result<Option<Trial>> {
        self.start.restore()?;
        let mut optimizer = self.learner.make_optimizer()?;
        let rate = optimizer.learning_rate() * factor;
        if factor != 1.0 {
            optimizer.set_learning_rate(rate);
            if optimizer.learning_rate() != rate {
                return Ok(None);
            }
        }
        let mut trial = Trial { losses: Vec::new(), falls: false, rate, uphill: None };
        for step in 0..self.steps {
            self.step(optimizer.as_mut(), (step == 0).then_some(&mut trial.uphill))?;
            let loss = self.loss()?;
            trial.losses.push(loss);
            trial.falls = loss < self.lower;
            if trial.falls || !loss.is_finite() {
                break;
            }
        }
        Ok(Some(trial))
    }

    fn step(&self, optimizer: &mut dyn Stepper, uphill: Option<&mut Option<f64>>) -> Result<()> {
        let grads = backward(&self.learner.evaluate(self.batch, true)?.loss)?;
        let values = || -> Result<Vec<Vec<f64>>> {
            let all = self.learner.trainable();
            all.map(|(_, var)| Ok(to_f64_vec(var.as_tensor())?)).collect()
        };
        let before = if uphill.is_some() { Some(values()?) } else { None };
        optimizer.step(&grads).map_err(|e| Failure::from_candle("the optimizer's step", e))?;
        if let (Some(uphill), Some(before)) = (uphill, before) {
            let mut pairs: Vec<(f64, f64)> = Vec::new();
            for (((_, var), before), after) in self.learner.trainable().zip(before).zip(values()?) {
                let Some(gradient) = grads.get(var.as_tensor()) else { continue };
                let moves = after.iter().zip(&before).map(|(a, b)| a - b);
                pairs.extend(moves.zip(to_f64_vec(gradient)?));
            }
            *uphill = share_uphill(pairs.into_iter());
        }
        Ok(())
    }

    /// Why the optimizer does not lower a loss that falls against its gradient: one thing changed at a time.
    pub(super) fn why(&self, failed: &Trial) -> Result<Vec<Finding>> {
        let first = self.start_loss()?;
        if failed.uphill.is_some_and(|share| share > CLIMBS) {
            let evidence = format!(
                "the loss falls against its gradient, and the optimizer steps along it, at a learning rate of {}",
                number(failed.rate),
            );
            let advice = "make the learning rate positive, and the optimizer subtract its step";
            return Ok(vec![Finding::confirmed(Cause::LossSign, evidence).advice_is(advice)]);
        }
        let way = |trial: &Trial| {
            let (from, to) = told_apart(first, trial.lowest());
            format!(
                "at {} the loss falls: {from} -> {to} after {}",
                number(trial.rate),
                count(trial.losses.len(), "step"),
            )
        };
        // A loss that stays where it is was not overshot.
        let highest = failed.losses.iter().copied().fold(first, f64::max);
        let stays = highest - first <= 2.0 * (first - self.lower);
        let (factors, cause) = match stays {
            true => (LONGER_STEPS, Cause::LearningRateLow),
            false => (SHORTER_STEPS, Cause::LearningRateHigh),
        };
        let few = Self { steps: self.steps.min(FEW), look: self.look, ..*self };
        for factor in factors {
            if let Some(trial) = few.run(factor)?.filter(|trial| trial.falls) {
                return Ok(vec![Finding::confirmed(cause, way(&trial))]);
            }
        }
        few.run(1.0)?;
        if moved_since(self.start)?.is_empty() {
            let evidence = "no step changes a bit of any variable, at any learning rate tried";
            return Ok(vec![Finding::confirmed(Cause::OptimizerMissesVariable, evidence)]);
        }
        Ok(Vec::new())
    }

    fn start_loss(&self) -> Result<f64> {
        self.start.restore()?;
        self.loss()
    }
}

const SHORTER_STEPS: [f64; 4] = [0.1, 0.01, 1e-3, 1e-4];
const LONGER_STEPS: [f64; 4] = [1e2, 1e4, 1e6, 1e8];

/// Steps of a training with one thing changed.
const FEW: usize = 30;

/// Several evaluations of a loss that draws at random.
pub(super) fn draws(learner: &Learner<'_>, batch: &Batch) -> Result<Vec<f64>> {
    (0..DRAWS).map(|_| Ok(scalar(&learner.evaluate(batch, true)?.loss)?)).collect()
}
