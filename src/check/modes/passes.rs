//! Passes of a learner in both modes, each from the same variables.

use candle_core::{Tensor, Var};

use crate::{
    Cause, Finding, Learner, Result, Snapshot,
    check::function::guarded,
    learner::is_running_statistic,
    measure::{graph::Graph, scan::non_finite_values, values::same_bits},
    variables::RestoreOnDrop,
    verdict::count,
};

pub(super) struct Passes<'p, 'a> {
    pub(super) learner: &'p Learner<'a>,
    pub(super) x: &'p [Tensor],
    /// The input as variables, where its dtype has gradients: what is computed from it alone is in the graph then.
    pub(super) traced: Vec<Tensor>,
    before: RestoreOnDrop,
}

impl<'p, 'a> Passes<'p, 'a> {
    pub(super) fn new(learner: &'p Learner<'a>, x: &'p [Tensor]) -> Result<Self> {
        let before = Snapshot::take(learner.variables())?.guard();
        let traced = x.iter().map(|tensor| match tensor.dtype().is_float() {
            true => Ok(Var::from_tensor(&tensor.detach())?.as_tensor().clone()),
            false => Ok(tensor.clone()),
        });
        let traced = traced.collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Self { learner, x, traced, before })
    }

    /// Where the closure does not take an input that is a variable, the input as it is must do.
    pub(super) fn traceable(&mut self, train: bool) {
        if self.with_graph(train).is_err() {
            self.traced = self.x.to_vec();
        }
    }

    /// Gives every variable the value it had.
    pub(super) fn restore(&self) -> Result<()> {
        self.before.snapshot().restore()
    }

    /// A pass from whatever the variables are now.
    pub(super) fn forward(&self, x: &[Tensor], train: bool) -> Result<Tensor> {
        guarded("the forward closure", || self.learner.output(x, train))
    }

    /// A pass of the variables as they were, without its graph.
    pub(super) fn afresh(&self, x: &[Tensor], train: bool) -> Result<Tensor> {
        self.restore()?;
        Ok(self.forward(x, train)?.detach())
    }

    /// A pass of the variables as they were, with as much of its graph as there is.
    pub(super) fn with_graph(&self, train: bool) -> Result<Tensor> {
        self.restore()?;
        self.forward(&self.traced, train)
    }

    /// The variables that are not what they were, sorted by name.
    pub(super) fn changed(&self) -> Result<Vec<Changed>> {
        let mut changed = Vec::new();
        for (name, var, value) in self.before.snapshot().values() {
            if !same_bits(var.as_tensor(), value)? {
                let (before, now) = (value.clone(), var.as_tensor().copy()?.detach());
                changed.push(Changed { name: name.to_owned(), before, now });
            }
        }
        Ok(changed)
    }

    /// The variables named as running statistics, of a float dtype.
    pub(super) fn named_statistics(&self) -> Vec<(String, Var)> {
        let named = self.learner.variables().iter();
        named.filter(|(n, v)| is_running_statistic(n) && v.dtype().is_float()).cloned().collect()
    }

    /// NaN in an output, and where it comes from as far as the graph shows. Infinities may be masked scores.
    pub(super) fn not_a_number(&self, output: &Tensor, whose: &str) -> Result<Option<Finding>> {
        let bad = non_finite_values(&output.detach())?.nan;
        if bad == 0 {
            return Ok(None);
        }
        let all = count(output.elem_count(), "output value");
        let evidence = format!("{bad} of {all} of {whose} are NaN");
        let finding = Finding::confirmed(Cause::NotFinite, evidence);
        let graph = Graph::of(output, self.learner.variables());
        let origin = graph.first_not_finite()?;
        let place = origin.and_then(|node| graph.place(node, &graph.modules()));
        Ok(Some(match place {
            Some(place) => finding.at(place),
            None => finding,
        }))
    }

    pub(super) fn rows(&self) -> usize {
        self.x[0].dims()[0]
    }
}

/// A variable that a pass wrote to.
pub(super) struct Changed {
    pub(super) name: String,
    pub(super) before: Tensor,
    pub(super) now: Tensor,
}
