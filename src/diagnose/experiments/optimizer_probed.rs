//! What does the optimizer do with a gradient it is handed?
//!
//! Cost: no run of the model; some forty steps of a fresh optimizer on gradients made by hand. Confirms
//! [`Cause::DecayUnintended`] (variables shrink without a gradient, by enough to matter), [`Cause::GradientsStale`] (they
//! keep moving at full speed long after their gradient is gone), [`Cause::LossSign`] (they move along their gradient),
//! [`Cause::OptimizerStateReset`] (a gradient a thousand times smaller, and turned round, turns the whole step round), and
//! [`Cause::UpdateRatio`] (the step is far shorter than gradient and learning rate make it). Where the optimizer could
//! mean it, one training with plain AdamW at the same learning rate decides. Only for an optimizer of the learner's own.

use candle_core::{Tensor, backprop::GradStore};

use super::{
    Outcome,
    lab::{Lab, Stop},
};
use crate::{
    Cause, Finding, Result,
    learner::Stepper,
    measure::{values::to_f64_vec, vectors::dot},
    verdict::number,
};

/// Steps without a gradient. Momentum of 0.9 has fallen to 2 % by then, Adam's first moment too.
const IDLE: usize = 40;

/// A decay that takes less than this share of a variable over the whole training has not kept a loss up.
const NEGLIGIBLE: f64 = 0.01;

/// A gradient clipped to a norm of 1 makes a step as long as the learning rate, one clipped to 0.01 a hundredth of it.
const SHORT_STEP: f64 = 1e-3;

/// A second gradient this much smaller than the first. Adam's averages forget neither in one step.
const SMALLER: f64 = 1e-3;

/// What is left of the first step after them, where nothing forgets.
const UNDIMINISHED: f64 = 0.9;

pub(super) fn run(lab: &Lab<'_, '_, '_>) -> Result<Outcome> {
    if !lab.case.learner.has_own_optimizer() {
        return Ok(Outcome::Nothing);
    }
    let probe = Probe::new(lab)?;
    let Some(probe) = probe else { return Ok(Outcome::Nothing) };
    let outcome = probe.judge(lab);
    lab.case.before.restore()?;
    outcome
}

struct Probe {
    template: GradStore,
    names: Vec<String>,
    /// The share of a variable that a step without a gradient adds to it: negative for a decay.
    growth: f64,
}

impl Probe {
    /// The gradients of the first step, to be replaced by made ones.
    fn new(lab: &Lab<'_, '_, '_>) -> Result<Option<Self>> {
        lab.case.before.restore()?;
        let loss = lab.case.learner.evaluate(lab.case.batch, true)?.loss;
        let template = loss.backward()?;
        let names: Vec<String> = (lab.case.learner.trainable())
            .filter(|(_, var)| template.get(var.as_tensor()).is_some())
            .map(|(name, _)| name.to_owned())
            .collect();
        Ok((!names.is_empty()).then_some(Self { template, names, growth: 0.0 }))
    }

    fn judge(mut self, lab: &Lab<'_, '_, '_>) -> Result<Outcome> {
        let start = self.values(lab)?;

        // Nothing but decay moves a variable that has never had a gradient.
        self.hand(lab, |_| 0.0)?;
        let mut fresh = lab.case.learner.make_optimizer()?;
        let idle = self.step(lab, fresh.as_mut())?;
        // From here on a step is what is left of it beside the decay.
        self.growth = along(&start, &idle);
        lab.case.before.restore()?;

        self.hand(lab, |i| if i % 2 == 0 { 1.0 } else { -1.0 })?;
        let made = self.gradients(lab)?;
        let mut fresh = lab.case.learner.make_optimizer()?;
        let first = self.step(lab, fresh.as_mut())?;
        if dot(&first, &made) > 0.0 {
            let evidence = format!(
                "handed a gradient, the optimizer steps along it, not against it, at a learning rate of {}",
                number(lab.case.training.learning_rate),
            );
            let advice = "make the learning rate positive, and the optimizer subtract its step";
            return Ok(Outcome::Confirmed(
                Finding::confirmed(Cause::LossSign, evidence).advice_is(advice),
            ));
        }
        let rate = lab.case.training.learning_rate.abs();
        if rate > 0.0 && dot(&first, &first).sqrt() < SHORT_STEP * rate {
            let evidence = format!(
                "handed a gradient of ones, the optimizer makes a step of length {} at a learning rate of {}",
                number(dot(&first, &first).sqrt()),
                number(rate),
            );
            let advice = "look for a clipping to a tiny norm, or a scale that is applied twice";
            return self.decided_by_adamw(lab, Cause::UpdateRatio, evidence, Some(advice));
        }
        if self.forgets(lab, &first)? {
            let evidence = format!(
                "a second gradient, turned round and {} times the first, turns the whole step round: no state is kept",
                number(SMALLER),
            );
            return self.decided_by_adamw(lab, Cause::OptimizerStateReset, evidence, None);
        }
        self.hand(lab, |_| 0.0)?;
        let mut last = first.clone();
        for _ in 0..IDLE {
            last = self.step(lab, fresh.as_mut())?;
        }
        let kept = (dot(&last, &last) / dot(&first, &first).max(f64::MIN_POSITIVE)).sqrt();
        if kept > UNDIMINISHED {
            return Ok(Outcome::Confirmed(Finding::confirmed(
                Cause::GradientsStale,
                format!(
                    "{IDLE} steps after a gradient was handed over once, with zeros since, each step still moves the variables by {} % of the first",
                    number(100.0 * kept),
                ),
            )));
        }
        match -self.growth * lab.case.steps as f64 > NEGLIGIBLE {
            true => judge_decay(lab, -self.growth),
            false => Ok(Outcome::Nothing),
        }
    }

    /// Whether the second step of a fresh optimizer is the first turned round, though its gradient is far smaller.
    fn forgets(&mut self, lab: &Lab<'_, '_, '_>, first: &[f64]) -> Result<bool> {
        lab.case.before.restore()?;
        let mut fresh = lab.case.learner.make_optimizer()?;
        self.hand(lab, |i| if i % 2 == 0 { 1.0 } else { -1.0 })?;
        self.step(lab, fresh.as_mut())?;
        self.hand(lab, |i| if i % 2 == 0 { -SMALLER } else { SMALLER })?;
        let second = self.step(lab, fresh.as_mut())?;
        Ok(dot(first, &second) < -UNDIMINISHED * dot(first, first))
    }

    fn decided_by_adamw(
        &self,
        lab: &Lab<'_, '_, '_>,
        cause: Cause,
        evidence: String,
        advice: Option<&str>,
    ) -> Result<Outcome> {
        let rate = lab.case.training.learning_rate;
        let plain = lab.case.learner.with_plain_adamw();
        let Some(rerun) = lab.rerun(&plain, lab.case.batch, Some(rate), Stop::AtTheGoal)? else {
            return Ok(Outcome::Nothing);
        };
        let evidence = format!("{evidence}; plain AdamW at {} goes {}", number(rate), rerun.way());
        let finding = match lab.is_cured(&rerun) {
            true => Finding::confirmed(cause, evidence),
            false => return Ok(Outcome::Possible(Finding::possible(cause, evidence))),
        };
        Ok(Outcome::Confirmed(match advice {
            Some(advice) => finding.advice_is(advice),
            None => finding,
        }))
    }

    /// Puts `sign(i)` at every entry of every gradient, scaled to each gradient's own size.
    fn hand(&mut self, lab: &Lab<'_, '_, '_>, sign: fn(usize) -> f64) -> Result<()> {
        for (_, var) in self.variables(lab) {
            let n = var.elem_count();
            let values: Vec<f64> = (0..n).map(sign).collect();
            let made = Tensor::from_vec(values, var.shape(), &candle_core::Device::Cpu)?;
            let made = made.to_dtype(var.dtype())?.to_device(var.device())?;
            self.template.insert(var.as_tensor(), made);
        }
        Ok(())
    }

    fn variables<'v>(&self, lab: &'v Lab<'_, '_, '_>) -> Vec<(&'v str, &'v candle_core::Var)> {
        let learner = lab.case.learner;
        learner.trainable().filter(|(name, _)| self.names.iter().any(|n| n == name)).collect()
    }

    fn gradients(&self, lab: &Lab<'_, '_, '_>) -> Result<Vec<f64>> {
        let mut all = Vec::new();
        for (_, var) in self.variables(lab) {
            if let Some(gradient) = self.template.get(var.as_tensor()) {
                all.extend(to_f64_vec(gradient)?);
            }
        }
        Ok(all)
    }

    fn values(&self, lab: &Lab<'_, '_, '_>) -> Result<Vec<f64>> {
        let mut all = Vec::new();
        for (_, var) in self.variables(lab) {
            all.extend(to_f64_vec(var.as_tensor())?);
        }
        Ok(all)
    }

    /// By how much one step moves each entry.
    fn step(&self, lab: &Lab<'_, '_, '_>, optimizer: &mut dyn Stepper) -> Result<Vec<f64>> {
        let before = self.values(lab)?;
        optimizer.step(&self.template)?;
        let after = self.values(lab)?;
        let own = |(after, before): (&f64, &f64)| after - before - self.growth * before;
        Ok(after.iter().zip(&before).map(own).collect())
    }
}

/// A decay matters where the training succeeds without it, and with everything else as it is.
fn judge_decay(lab: &Lab<'_, '_, '_>, share: f64) -> Result<Outcome> {
    let undecayed = lab.case.learner.without_decay(share);
    let Some(rerun) = lab.rerun(&undecayed, lab.case.batch, None, Stop::AtTheGoal)? else {
        return Ok(Outcome::Nothing);
    };
    let evidence = format!(
        "a step without any gradient shrinks the variables by {} %; with that given back, {}",
        number(100.0 * share),
        rerun.way(),
    );
    Ok(match lab.is_cured(&rerun) {
        true => Outcome::Confirmed(Finding::confirmed(Cause::DecayUnintended, evidence)),
        false => Outcome::RuledOut(Cause::DecayUnintended, evidence),
    })
}

/// The share of `values` that `change` adds to them.
fn along(values: &[f64], change: &[f64]) -> f64 {
    dot(values, change) / dot(values, values).max(f64::MIN_POSITIVE)
}
