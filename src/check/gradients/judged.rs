//! From the gradients that arrived to a verdict for each variable.

use candle_core::{Tensor, Var};

use super::table::GradientVerdict;
use crate::{
    Batch, Learner, Result,
    measure::{
        activity::{self, Activity},
        effect::{Effect, Still},
        elsewhere::{self, Used, Vary},
        gradients::{self, Arrived, Pass},
        graph::{Graph, created},
        values::{norm, same_bits, to_f64_vec},
    },
};

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
    /// Whether the gradient is zero because it is below the smallest number of its format.
    pub(super) underflows: bool,
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
    /// `began` is the number of the first tensor that the pass made.
    pub(super) fn of(
        learner: &'l Learner<'a>,
        batch: &'l Batch,
        pass: Pass,
        began: usize,
    ) -> Result<Self> {
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
                underflows: false,
            });
        }
        let mut judgement = Self { learner, batch, pass, variables, still: None, probes: 0 };
        judgement.not_finite();
        judgement.absent()?;
        judgement.partly_absent()?;
        judgement.small()?;
        judgement.zero_beside_flowing()?;
        judgement.biases_of_idle_weights();
        judgement.vanishing_biases();
        judgement.exploding()?;
        judgement.stale(began)?;
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

    pub(super) fn stand_still(&mut self) -> Result<()> {
        if self.still.is_none() && !self.is_random()? {
            self.still = Still::new(self.learner, self.batch, true)?;
        }
        if self.still.is_none() && self.learner.has_modes() {
            self.still = Still::new(self.learner, self.batch, false)?;
        }
        Ok(())
    }

    /// Whether training mode draws at random: not every pass gives the loss of the one that is judged. A rare draw (a layer
    /// dropped one time in ten) shows in several passes only; where the judged pass is the rare one, in nearly all others.
    pub(super) fn is_random(&self) -> Result<bool> {
        if !self.learner.has_modes() {
            return Ok(false);
        }
        for _ in 1..PASSES {
            let again = self.learner.evaluate(self.batch, true)?.loss;
            if !same_bits(&again, &self.pass.evaluation.loss)? {
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
pub(super) fn matters(effect: Effect, floor: Effect) -> bool {
    effect.on_loss > elsewhere::ROUNDINGS * floor.on_loss
        && effect.largest >= elsewhere::ROUNDINGS * floor.largest
}

/// Whether moving a variable moved the output by no more than rounding does.
fn is_rounding(effect: Effect, floor: Effect) -> bool {
    effect.largest <= elsewhere::ROUNDINGS * floor.largest
}

/// The rows along the first dimension that hold zeros alone.
fn rows_of_zeros(grad: &Tensor) -> Result<Vec<usize>> {
    let rows = grad.dims()[0];
    let values = to_f64_vec(grad)?;
    let width = values.len() / rows.max(1);
    let is_zero = |row: &usize| values[row * width..(row + 1) * width].iter().all(|g| *g == 0.0);
    Ok((0..rows).filter(is_zero).collect())
}
