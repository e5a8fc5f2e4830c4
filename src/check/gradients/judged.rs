//! From the gradients that arrived to a verdict for each variable.

use candle_core::{Tensor, Var};

use super::table::GradientVerdict;
use crate::{
    Batch, Failure, Learner, Result, Snapshot,
    learner::Stepper,
    measure::{
        activity::{self, Activity},
        effect::{Effect, Still},
        elsewhere::{self, Used, Vary},
        gradients::{self, Arrived, Pass},
        graph::{Graph, created},
        values::{norm, same_bits, to_f64_vec},
    },
};

/// A gradient below so many times its own rounding is rounding. What is measured is the change from one nudge by the last
/// bit; another nudge may change two or three times as much.
const ROUNDINGS: f64 = 8.0;

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

/// The learning rate of those steps, AdamW's usual one.
const RATE: f64 = 1e-3;

/// So many passes see every layer that a random depth drops half of the time, and four in five of the draws that drop one
/// layer in ten.
const PASSES: usize = 16;

/// A verdict, and what it rests on.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) name: String,
    pub(super) var: Var,
    pub(super) verdict: GradientVerdict,
    pub(super) arrived: Option<Arrived>,
    /// The norm of the variable.
    pub(super) size: f64,
    /// What moving it did, where it was moved.
    pub(super) effect: Option<Effect>,
    /// The rows whose gradient was cut, where others have one.
    pub(super) rows: Vec<usize>,
}

/// All of a learner's trainable variables in the order the model made them, with the pass they were judged by.
pub(super) struct Judgement<'l, 'a> {
    pub(super) learner: &'l Learner<'a>,
    pub(super) batch: &'l Batch,
    pub(super) pass: Pass,
    pub(super) variables: Vec<Judged>,
    /// The mode in which variables were moved, and the learner before that; `None` where two evaluations differ in both.
    pub(super) still: Option<Still<'l, 'a>>,
    /// How often a second batch was tried for variables that nothing on the first depends on.
    pub(super) probes: usize,
}

impl<'l, 'a> Judgement<'l, 'a> {
    pub(super) fn of(learner: &'l Learner<'a>, batch: &'l Batch, pass: Pass) -> Result<Self> {
        let mut variables = Vec::new();
        for ((name, var), arrived) in learner.trainable().zip(&pass.arrived) {
            variables.push(Judged {
                name: name.to_owned(),
                var: var.clone(),
                verdict: GradientVerdict::Flows,
                arrived: *arrived,
                size: norm(var.as_tensor())?,
                effect: None,
                rows: Vec::new(),
            });
        }
        let mut judgement = Self { learner, batch, pass, variables, still: None, probes: 0 };
        judgement.not_finite();
        judgement.absent()?;
        judgement.partly_absent()?;
        judgement.small()?;
        judgement.zero_beside_flowing();
        judgement.biases_of_idle_weights();
        judgement.vanishing_biases();
        judgement.exploding()?;
        judgement.variables.sort_by_key(|variable| created(variable.var.id()));
        Ok(judgement)
    }

    fn not_finite(&mut self) {
        for variable in &mut self.variables {
            if variable.arrived.is_some_and(|arrived| !arrived.finite) {
                variable.verdict = GradientVerdict::NotFinite;
            }
        }
    }

    /// Variables without a gradient: cut, unused, or only idle on this batch.
    fn absent(&mut self) -> Result<()> {
        if self.variables.iter().all(|variable| variable.arrived.is_some()) {
            return Ok(());
        }
        self.stand_still()?;
        if self.still.is_none() || self.is_random()? {
            self.other_passes()?;
        }
        let floor = match &self.still {
            Some(still) => still.rounding()?,
            None => Effect::NONE,
        };
        for at in 0..self.variables.len() {
            if self.variables[at].arrived.is_some() {
                continue;
            }
            let Some(still) = &self.still else {
                self.variables[at].verdict = GradientVerdict::Unknown;
                continue;
            };
            let (name, var) = (&self.variables[at].name, &self.variables[at].var);
            let effect = still.moving(name, var)?;
            let verdict = if matters(effect, floor) {
                GradientVerdict::Cut
            } else {
                let vary = Vary::InputsAndVariables;
                let (used, tried) = elsewhere::is_used(self.learner, self.batch, name, var, vary)?;
                self.probes = self.probes.max(tried);
                match used {
                    Some(Used { arrives: true }) => GradientVerdict::Idle,
                    Some(Used { arrives: false }) => GradientVerdict::Cut,
                    None if effect.any() && is_rounding(effect, floor) => {
                        GradientVerdict::NumericallyZero
                    }
                    None => GradientVerdict::Unused,
                }
            };
            self.variables[at].verdict = verdict;
            self.variables[at].effect = Some(effect);
        }
        Ok(())
    }

    /// Matrices of which some rows get a gradient of zeros: units that are dead, ids that were not looked up, or a part
    /// whose gradient was cut, as where queries, keys and values come from one matrix.
    fn partly_absent(&mut self) -> Result<()> {
        // What dropout took from every row of this pass has zeros for a gradient, and a slope without dropout.
        if self.learner.has_modes() && self.is_random()? {
            return Ok(());
        }
        for at in 0..self.variables.len() {
            let Judged { name, var, arrived, .. } = &self.variables[at];
            let Some(grad) = self.pass.grads.get(var.as_tensor()) else { continue };
            if var.rank() < 2 || !arrived.is_some_and(|arrived| arrived.finite) {
                continue;
            }
            let rows = rows_of_zeros(grad)?;
            if rows.is_empty() || rows.len() == var.dims()[0] {
                continue;
            }
            let (name, var) = (name.clone(), var.clone());
            self.stand_still()?;
            if let Some(still) = &self.still
                && still.slides_along_rows(&name, &var, &rows)?
            {
                self.variables[at].verdict = GradientVerdict::PartlyCut;
                self.variables[at].rows = rows;
            }
        }
        Ok(())
    }

    fn stand_still(&mut self) -> Result<()> {
        if self.still.is_none() && !self.is_random()? {
            self.still = Still::new(self.learner, self.batch, true)?;
        }
        if self.still.is_none() && self.learner.has_modes() {
            self.still = Still::new(self.learner, self.batch, false)?;
        }
        Ok(())
    }

    /// Whether training mode draws at random. A rare draw (a layer dropped one time in ten) shows in several passes only.
    fn is_random(&self) -> Result<bool> {
        if !self.learner.has_modes() {
            return Ok(false);
        }
        let loss = || Ok::<_, Failure>(self.learner.evaluate(self.batch, true)?.loss);
        let first = loss()?;
        for _ in 1..PASSES {
            if !same_bits(&loss()?, &first)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where a pass is random, a variable that one pass leaves out may be in the next.
    fn other_passes(&mut self) -> Result<()> {
        for _ in 1..PASSES {
            if self.variables.iter().all(|variable| variable.arrived.is_some()) {
                break;
            }
            let pass = gradients::pass(self.learner, self.batch, true)?;
            for (variable, arrived) in self.variables.iter_mut().zip(pass.arrived) {
                variable.arrived = variable.arrived.or(arrived);
            }
        }
        Ok(())
    }

    /// Gradients that arrived with next to nothing in them.
    fn small(&mut self) -> Result<()> {
        let suspects = suspects(&self.variables);
        if suspects.is_empty() {
            return Ok(());
        }
        let rounding = gradients::rounding(self.learner, self.batch, true, &self.pass.grads)?;
        let noise = |at: usize| rounding.get(at).copied().unwrap_or(0.0);
        let still_small = self.after_steps(&suspects)?;
        for at in suspects {
            let Some(arrived) = self.variables[at].arrived else { continue };
            if !still_small.contains(&at) {
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
            self.variables[at].effect = Some(effect);
            self.variables[at].verdict = match (arrived.norm > 0.0, matters) {
                (true, true) if self.has_vanished(at) => GradientVerdict::Vanishing,
                (true, true) => GradientVerdict::Flows,
                (true, false) => GradientVerdict::NumericallyZero,
                (false, true) => GradientVerdict::Zero,
                // A single bias that nothing depends on is a bias that something takes out again.
                (false, false) if is_matrix && effect.on_loss == 0.0 => {
                    let Judged { name, var, .. } = &self.variables[at];
                    let vary = Vary::Inputs;
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

    /// A weight of zeros for a gradient beside a bias that has one, in one module, and nothing depends on it: what it is
    /// multiplied with is zero here, as the state of a recurrent cell is at its first step.
    fn zero_beside_flowing(&mut self) {
        let module = |name: &str| name.rsplit_once('.').map(|(module, _)| module.to_owned());
        let flowing: Vec<String> = self
            .named(GradientVerdict::Flows)
            .into_iter()
            .filter(|variable| variable.arrived.is_some_and(|arrived| arrived.norm > 0.0))
            .filter_map(|variable| module(&variable.name))
            .collect();
        for variable in &mut self.variables {
            let inert = variable.effect.is_some_and(|effect| !effect.any());
            let beside = module(&variable.name).is_some_and(|own| flowing.contains(&own));
            if variable.verdict == GradientVerdict::Zero && inert && beside {
                variable.verdict = GradientVerdict::Idle;
            }
        }
    }

    /// A bias whose weight does nothing does nothing for the same reason: only alone is it taken out again by right.
    fn biases_of_idle_weights(&mut self) {
        let module = |name: &str| name.rsplit_once('.').map(|(module, _)| module.to_owned());
        let zero: Vec<String> =
            self.named(GradientVerdict::Zero).iter().filter_map(|v| module(&v.name)).collect();
        for variable in &mut self.variables {
            let is_zero = variable.verdict == GradientVerdict::NumericallyZero
                && variable.arrived.is_some_and(|arrived| arrived.norm == 0.0);
            if is_zero && module(&variable.name).is_some_and(|module| zero.contains(&module)) {
                variable.verdict = GradientVerdict::Zero;
            }
        }
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
    fn vanishing_biases(&mut self) {
        if self.named(GradientVerdict::Vanishing).is_empty() {
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
    fn exploding(&mut self) -> Result<()> {
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

    /// The activations of the pass through which no gradient comes, in the order they were computed.
    pub(super) fn blocked(&self) -> Result<Vec<(String, Activity)>> {
        let graph = Graph::of(&self.pass.evaluation.loss, self.learner.variables());
        let modules = graph.modules();
        let activities = activity::of_graph(&graph)?;
        let blocked = activities.into_iter().filter(Activity::is_blocked);
        Ok(blocked
            .map(|activity| {
                let place = graph.place(activity.node, &modules);
                (place.unwrap_or_else(|| "before the first layer".to_owned()), activity)
            })
            .collect())
    }

    pub(super) fn named(&self, verdict: GradientVerdict) -> Vec<&Judged> {
        self.variables.iter().filter(|variable| variable.verdict == verdict).collect()
    }
}

/// Whether moving a variable did more than move the rounding.
fn matters(effect: Effect, floor: Effect) -> bool {
    effect.on_loss > elsewhere::ROUNDINGS * floor.on_loss
        && effect.largest >= elsewhere::ROUNDINGS * floor.largest
}

/// Whether moving a variable moved the output by no more than rounding does.
fn is_rounding(effect: Effect, floor: Effect) -> bool {
    effect.largest <= elsewhere::ROUNDINGS * floor.largest
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

/// The rows along the first dimension that hold zeros alone.
fn rows_of_zeros(grad: &Tensor) -> Result<Vec<usize>> {
    let rows = grad.dims()[0];
    let values = to_f64_vec(grad)?;
    let width = values.len() / rows.max(1);
    let is_zero = |row: &usize| values[row * width..(row + 1) * width].iter().all(|g| *g == 0.0);
    Ok((0..rows).filter(is_zero).collect())
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
