//! Variables that nothing depends on: at this point only, or for good.

use std::collections::BTreeSet;

use candle_core::Tensor;

use super::{
    judged::{Judged, Judgement},
    size::ROUNDINGS,
    table::GradientVerdict,
};
use crate::{
    Result,
    measure::{
        graph::{Graph, created},
        values::to_f64_vec,
    },
};

impl Judgement<'_, '_> {
    /// Variables with a gradient that nothing depends on: what is made of them was made before this pass, which began
    /// when so many tensors were there, and is not made again.
    pub(super) fn stale(&mut self, began: usize) -> Result<()> {
        let is_old = |node: &Tensor| !node.is_variable() && created(node.id()) < began;
        let loss = &self.pass.evaluation.loss;
        if !loss.sorted_nodes().into_iter().any(is_old) {
            return Ok(());
        }
        let graph = Graph::of(loss, self.learner.variables());
        let nodes = graph.nodes().iter().enumerate();
        let old: Vec<usize> = nodes.filter(|(_, n)| is_old(&n.tensor)).map(|(at, _)| at).collect();
        let place = |name: &str| self.learner.variables().iter().position(|(n, _)| n == name);
        let behind = |variable: &Judged| {
            place(&variable.name).is_some_and(|at| old.iter().any(|node| graph.depends(*node, at)))
        };
        let suspects: Vec<usize> =
            (0..self.variables.len()).filter(|at| behind(&self.variables[*at])).collect();
        self.stand_still()?;
        let Some(still) = &self.still else { return Ok(()) };
        for at in suspects {
            let variable = &mut self.variables[at];
            let effect = still.moving(&variable.name, &variable.var)?;
            if variable.arrived.is_some() && !effect.any() {
                variable.effect = Some(effect);
                variable.verdict = GradientVerdict::Unused;
            }
        }
        Ok(())
    }

    /// The variables that a training moves, for all one pass shows: their gradients are more than rounding. None where an
    /// activation lets nothing past, since other variables may wake it, and a training gets no gradient through it.
    pub(super) fn trained(&self, noise: &dyn Fn(usize) -> f64) -> Result<BTreeSet<String>> {
        if !self.blocked()?.is_empty() {
            return Ok(BTreeSet::new());
        }
        let moves = |at: usize, variable: &Judged| {
            variable.arrived.is_some_and(|a| a.finite && a.norm > ROUNDINGS * noise(at))
        };
        let variables = self.variables.iter().enumerate();
        Ok(variables.filter(|(at, v)| moves(*at, v)).map(|(_, v)| v.name.clone()).collect())
    }

    /// A weight of zeros for a gradient beside a bias that has one, in one module, and nothing depends on it: what it is
    /// multiplied with is zero here, as the state of a recurrent cell is at its first step.
    pub(super) fn zero_beside_flowing(&mut self) -> Result<()> {
        let module = |name: &str| name.rsplit_once('.').map(|(module, _)| module.to_owned());
        let flowing: Vec<String> = self
            .named(GradientVerdict::Flows)
            .into_iter()
            .filter(|variable| variable.arrived.is_some_and(|arrived| arrived.norm > 0.0))
            .filter_map(|variable| module(&variable.name))
            .collect();
        let is_idle = |variable: &Judged| {
            let inert = variable.effect.is_some_and(|effect| !effect.any());
            let beside = module(&variable.name).is_some_and(|own| flowing.contains(&own));
            variable.verdict == GradientVerdict::Zero && inert && beside
        };
        for at in 0..self.variables.len() {
            if is_idle(&self.variables[at]) && !self.is_masked_out(&self.variables[at])? {
                self.variables[at].verdict = GradientVerdict::Idle;
            }
        }
        Ok(())
    }

    /// A bias whose weight does nothing does nothing for the same reason: only alone is it taken out again by right.
    pub(super) fn biases_of_idle_weights(&mut self) {
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

    /// Whether a weight is multiplied by zeros, entry by entry, before it is used: no input changes that.
    fn is_masked_out(&self, variable: &Judged) -> Result<bool> {
        let (Some(output), false) = (&self.pass.evaluation.output, self.learner.owns_data()) else {
            return Ok(false);
        };
        if self.batch.rows().unwrap_or(0) < 2 || !has_mask(output, variable)? {
            return Ok(false);
        }
        // A product with a state of zeros may have the dimensions of the weight by chance: not so on fewer rows.
        let fewer = |t: &Tensor| t.narrow(0, 0, t.dim(0)? - 1);
        let input =
            self.batch.input().iter().map(fewer).collect::<candle_core::Result<Vec<_>>>()?;
        match self.learner.output(&input, true) {
            Ok(output) => has_mask(&output, variable),
            Err(_) => Ok(false),
        }
    }
}

/// Whether a node of the weight's own dimensions is made of it alone and holds zeros.
fn has_mask(output: &Tensor, weight: &Judged) -> Result<bool> {
    let own = [(weight.name.clone(), weight.var.clone())];
    let graph = Graph::of(output, &own);
    let Some(leaf) = graph.nodes().iter().position(|n| n.tensor.id() == weight.var.id()) else {
        return Ok(false);
    };
    for node in graph.consumers(leaf) {
        let node = &graph.nodes()[node];
        if node.operands == [leaf]
            && node.tensor.dims() == weight.var.dims()
            && to_f64_vec(&node.tensor)?.iter().all(|value| *value == 0.0)
        {
            return Ok(weight.size > 0.0);
        }
    }
    Ok(false)
}
