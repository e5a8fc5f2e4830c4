//! Gradients that arrive: whether there is anything in them, and not too much.

use candle_core::DType;

use super::{
    judged::{Judged, Judgement, matters},
    table::GradientVerdict,
};
use crate::{
    Batch, Result, Snapshot,
    learner::Stepper,
    measure::{
        backward::backward,
        elsewhere::{self, Vary},
        gradients::{self, Arrived},
        graph::created,
        values::norm,
    },
};

/// A gradient below so many times its own rounding is rounding. What is measured is the change from one nudge by the last
/// bit; another nudge may change two or three times as much.
pub(super) const ROUNDINGS: f64 = 8.0;

/// Only a gradient this much smaller than the largest is looked at for rounding: single precision keeps seven digits.
const SMALL: f64 = 1e-4;

/// A weight whose loss changes this much less than another's, for moves of the same relative size, does not train
/// beside it. That product of norms, of gradient and of weight, is the same for every layer of a bias-free ReLU network
/// (Euler's theorem for homogeneous functions), however its weights are scaled; over the clean half of the corpus its
/// spread stayed above 3e-3. It counts for weights before which no other flows: a signal that shrinks on its way back is
/// smallest at the front.
const VANISHED: f64 = 1e-5;

/// What counts anywhere: 3e-9 was seen of the queries and keys of a transformer whose weights begin at a standard
/// deviation of 0.02, as GPT-2's do, since their part in the scores is a product.
const VANISHED_ANYWHERE: f64 = 1e-10;

/// The gradient is this many times the variables' own size: a step at a learning rate of 1e-3 replaces them.
const EXPLODED: f64 = 1e3;

/// A root mean square of the input beyond this is no input a network is made for, and large gradients are its doing.
const LARGE_INPUT: f64 = 20.0;

/// Gates that begin at zero (LoRA's second matrix, a residual branch scaled by 0, a zeroed head) let no gradient past
/// them before they moved: so many steps open several of them in a row.
const STEPS: usize = 8;

/// A gradient so many times as large is a number of f16 where it was none. A loss of 30 stays one, too.
const LARGER_LOSS: f64 = 2048.0;

/// The learning rate of those steps, AdamW's usual one.
const RATE: f64 = 1e-3;

impl Judgement<'_, '_> {
    /// Gradients that arrived with next to nothing in them.
    pub(super) fn small(&mut self) -> Result<()> {
        let suspects = suspects(&self.variables);
        if suspects.is_empty() {
            return Ok(());
        }
        let rounding = gradients::rounding(self.learner, self.batch, true, &self.pass.grads)?;
        let noise = |at: usize| rounding.get(at).copied().unwrap_or(0.0);
        let still_small = self.after_steps(&suspects)?;
        let trained = self.trained(&noise)?;
        for at in suspects {
            let Some(arrived) = self.variables[at].arrived else { continue };
            // A gate that is shut explains a gradient of zero only where moving the variable changes nothing.
            if arrived.norm == 0.0 && self.has_a_slope(at)? {
                continue;
            }
            if !still_small.contains(&at) || (arrived.norm == 0.0 && self.underflows(at)?) {
                continue;
            }
            let is_noise = arrived.norm <= ROUNDINGS * noise(at);
            if arrived.norm > 0.0 && !is_noise {
                if self.has_vanished(at) {
                    self.variables[at].verdict = GradientVerdict::Vanishing;
                }
                continue;
            }
            self.stand_still()?;
            let Some(still) = &self.still else { continue };
            let effect = still.moving(&self.variables[at].name, &self.variables[at].var)?;
            let floor = still.rounding()?;
            let matters = matters(effect, floor);
            let is_matrix = self.variables[at].var.rank() >= 2;
            let Judged { name, var, .. } = &self.variables[at];
            let jumps = arrived.norm > 0.0 && matters && still.moves_in_jumps(name, var)?;
            self.variables[at].effect = Some(effect);
            self.variables[at].verdict = match (arrived.norm > 0.0, matters) {
                // What arrives is rounding: the slope is zero wherever there is one.
                _ if jumps => GradientVerdict::Zero,
                (true, true) if self.has_vanished(at) => GradientVerdict::Vanishing,
                (true, true) => GradientVerdict::Flows,
                (true, false) => GradientVerdict::NumericallyZero,
                (false, true) => GradientVerdict::Zero,
                // A single bias that nothing depends on is a bias that something takes out again.
                (false, false) if is_matrix && effect.on_loss == 0.0 => {
                    let Judged { name, var, .. } = &self.variables[at];
                    let vary = Vary::InputsAnd(&trained);
                    match elsewhere::is_used(self.learner, self.batch, name, var, vary)? {
                        (Some(_), _) => GradientVerdict::Idle,
                        (None, _) => GradientVerdict::Zero,
                    }
                }
                (false, false) => GradientVerdict::NumericallyZero,
            };
        }
        Ok(())
    }

    /// Whether the loss has a slope along a variable whose gradient is exactly zero: then something sends zeros back.
    fn has_a_slope(&mut self, at: usize) -> Result<bool> {
        // What a random pass leaves out has zeros for a gradient, and a slope in a pass that is not random.
        if self.is_random()? {
            return Ok(false);
        }
        self.stand_still()?;
        let Some(still) = &self.still else { return Ok(false) };
        let Judged { name, var, .. } = &self.variables[at];
        if !still.slides(name, var)? {
            return Ok(false);
        }
        let effect = still.moving(name, var)?;
        self.variables[at].effect = Some(effect);
        self.variables[at].verdict = GradientVerdict::Zero;
        Ok(true)
    }

    /// Whether a gradient of zeros is one below the smallest number of f16: with a larger loss it is there.
    fn underflows(&mut self, at: usize) -> Result<bool> {
        if self.variables[at].var.dtype() != DType::F16 {
            return Ok(false);
        }
        let grads = backward(&(&self.pass.evaluation.loss * LARGER_LOSS)?)?;
        let there = match grads.get(self.variables[at].var.as_tensor()) {
            Some(grad) => norm(grad)? > 0.0,
            None => false,
        };
        if there {
            self.variables[at].verdict = GradientVerdict::Vanishing;
            self.variables[at].underflows = true;
        }
        Ok(there)
    }

    /// Which of the suspects are suspect still when the learner has taken a few steps; its variables stay there no longer
    /// than that.
    fn after_steps(&self, suspects: &[usize]) -> Result<Vec<usize>> {
        let before = Snapshot::take(self.learner.variables())?;
        let later = self.stepped();
        before.restore()?;
        let later = later?;
        if later.iter().flatten().any(|arrived| !arrived.finite) {
            return Ok(suspects.to_vec());
        }
        // Behind two gates in a row the first gradient is small beside the others for long; it is there.
        let norm = |arrived: Option<Arrived>| arrived.map_or(0.0, |arrived| arrived.norm);
        let opened: Vec<bool> = (self.variables.iter().zip(&later))
            .map(|(variable, later)| norm(variable.arrived) == 0.0 && norm(*later) > 0.0)
            .collect();
        let variables = self
            .variables
            .iter()
            .zip(later)
            .map(|(variable, arrived)| Judged { arrived, ..variable.clone() });
        let again = self::suspects(&variables.collect::<Vec<_>>());
        Ok(suspects.iter().copied().filter(|at| again.contains(at) && !opened[*at]).collect())
    }

    fn stepped(&self) -> Result<Vec<Option<Arrived>>> {
        let plain = self.learner.with_plain_adamw();
        let mut optimizer: Box<dyn Stepper + '_> = plain.make_optimizer()?;
        optimizer.set_learning_rate(RATE);
        optimizer.step(&self.pass.grads)?;
        for _ in 1..STEPS {
            optimizer.step(&gradients::pass(self.learner, self.batch, true)?.grads)?;
        }
        Ok(gradients::pass(self.learner, self.batch, true)?.arrived)
    }

    /// Whether moving this weight changes the loss next to nothing beside what moving others does.
    fn has_vanished(&self, at: usize) -> bool {
        let least = VANISHED * reference(&self.variables);
        let Some(own) = elasticity(&self.variables[at]) else { return false };
        let age = |variable: &Judged| created(variable.var.id());
        let before = self.variables.iter().filter(|v| age(v) < age(&self.variables[at]));
        let first_flow = before.filter_map(elasticity).any(|share| share >= least);
        own < least && (!first_flow || own < least * (VANISHED_ANYWHERE / VANISHED))
    }

    /// A bias may begin at zero, so its size says nothing; where weights vanish, it is judged by its gradient alone.
    pub(super) fn vanishing_biases(&mut self) {
        if self.named(GradientVerdict::Vanishing).iter().all(|variable| variable.underflows) {
            return;
        }
        let norms = self.variables.iter().filter_map(|variable| variable.arrived);
        let largest = largest(norms.map(|arrived| arrived.norm));
        for variable in self.variables.iter_mut().filter(|variable| variable.var.rank() < 2) {
            let small = variable.arrived.is_some_and(|a| a.norm < VANISHED * largest);
            if small && variable.verdict == GradientVerdict::Flows {
                variable.verdict = GradientVerdict::Vanishing;
            }
        }
    }

    /// A gradient as large as this is the variables' doing where what comes from the loss is not: a loss that sums over
    /// pixels, or targets in the hundred thousands, make large gradients of sound models.
    pub(super) fn exploding(&mut self) -> Result<()> {
        let total = |of: fn(&Judged) -> Option<f64>| {
            self.variables.iter().filter_map(of).map(|v| v * v).sum::<f64>().sqrt()
        };
        let gradient = total(|variable| variable.arrived.map(|arrived| arrived.norm));
        let ratio = gradient / total(|variable| Some(variable.size));
        if !ratio.is_finite() || ratio <= EXPLODED || has_large_input(self.batch)? {
            return Ok(());
        }
        let Some(from_loss) = gradients::of_output(self.learner, self.batch, &self.pass)? else {
            return Ok(());
        };
        // What a layer adds up over its rows and units, at values of about 1.
        let rows = self.batch.rows().unwrap_or(1) as f64;
        let widths = self.variables.iter().flat_map(|variable| variable.var.dims().to_vec());
        let width = widths.max().unwrap_or(1) as f64;
        if gradient / (from_loss * (rows * width).sqrt()) <= EXPLODED {
            return Ok(());
        }
        for variable in &mut self.variables {
            let large = variable.arrived.is_some_and(|a| a.norm > EXPLODED * variable.size);
            if large && variable.verdict == GradientVerdict::Flows {
                variable.verdict = GradientVerdict::Exploding;
            }
        }
        Ok(())
    }
}

/// The variables whose gradient is so small that it may be nothing.
fn suspects(variables: &[Judged]) -> Vec<usize> {
    let norm = |variable: &Judged| variable.arrived.filter(|a| a.finite).map(|a| a.norm);
    let largest_norm = largest(variables.iter().filter_map(norm));
    let largest_share = reference(variables);
    let is_suspect = |variable: &Judged| {
        norm(variable).is_some_and(|norm| norm <= SMALL * largest_norm)
            || elasticity(variable).is_some_and(|share| share < VANISHED * largest_share)
    };
    (0..variables.len()).filter(|at| is_suspect(&variables[*at])).collect()
}

/// How much the loss changes when the variable moves by its own size; for weights alone, since a bias may begin at zero.
fn elasticity(variable: &Judged) -> Option<f64> {
    let arrived = variable.arrived.filter(|arrived| arrived.finite)?;
    (variable.var.rank() >= 2 && variable.size > 0.0).then_some(arrived.norm * variable.size)
}

/// What the others are compared with: the most telling weight, or bias. A bias begins at zero or near it and is given the
/// size of a tenth; where the signal itself dies on its way, the last bias alone still tells.
fn reference(variables: &[Judged]) -> f64 {
    let of_bias = |variable: &Judged| {
        let arrived = variable.arrived.filter(|arrived| arrived.finite)?;
        (variable.var.rank() < 2).then_some(0.1 * arrived.norm)
    };
    let weights = largest(variables.iter().filter_map(elasticity));
    weights.max(largest(variables.iter().filter_map(of_bias)))
}

fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, f64::max)
}

fn has_large_input(batch: &Batch) -> Result<bool> {
    for input in batch.input().iter().filter(|input| input.dtype().is_float()) {
        if norm(input)? > LARGE_INPUT * (input.elem_count() as f64).sqrt() {
            return Ok(true);
        }
    }
    Ok(false)
}
