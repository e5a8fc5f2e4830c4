//! Group G, beside the optimizer: what a training loop does with the weights. The loop's own test compares two tensors.

use candle_core::{DType, Module, Tensor, Var};
use candle_nn::{Optimizer, SGD, loss};
use candling::{Cause, Learner, Result, Seed, Variables};

use super::{
    data::{self, weights},
    entry::{Assertion::Close, Entry, Subject},
    models::Mlp,
};

const GROUP: &str = "training";

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "G15",
        group: GROUP,
        bug: "validation takes a step",
        cause: Cause::EvalChangesState,
        assertion: Close,
        buggy: |seed| validation_steps(seed, true),
        clean: |seed| validation_steps(seed, false),
        missed_today: None,
    },
    Entry {
        id: "G18",
        group: GROUP,
        bug: "the best weights are kept as handles, which follow the training",
        cause: Cause::ValuesDiffer,
        assertion: Close,
        buggy: |seed| best_weights(seed, |var| Ok(var.as_tensor().clone()), |new, best| new < best),
        clean: |seed| best_weights(seed, |var| var.as_tensor().copy(), |new, best| new < best),
        missed_today: None,
    },
    Entry {
        id: "G19",
        group: GROUP,
        bug: "the comparison for the best model is reversed: the worst is kept",
        cause: Cause::ValuesDiffer,
        assertion: Close,
        buggy: |seed| best_weights(seed, |var| var.as_tensor().copy(), |new, best| new > best),
        clean: |seed| best_weights(seed, |var| var.as_tensor().copy(), |new, best| new <= best),
        missed_today: None,
    },
];

struct Loop {
    model: Mlp,
    vars: Vec<Var>,
    x: Tensor,
    y: Tensor,
}

impl Loop {
    fn new(seed: Seed) -> Result<Self> {
        let (map, vb) = weights(seed, DType::F32);
        let model = Mlp::new(&[6, 24, 4], Tensor::relu, vb)?;
        let mut named = map.named();
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        let vars = named.into_iter().map(|(_, var)| var).collect();
        let (x, y) = data::classes(seed, 6, 4, DType::F32)?;
        Ok(Self { model, vars, x, y })
    }

    fn loss(&self) -> candle_core::Result<Tensor> {
        loss::cross_entropy(&self.model.forward(&self.x)?, &self.y)
    }

    fn values(&self) -> candle_core::Result<Tensor> {
        let flat = self.vars.iter().map(|var| var.as_tensor().flatten_all());
        Tensor::cat(&flat.collect::<candle_core::Result<Vec<_>>>()?, 0)?.copy()
    }
}

/// The model of a loop before its training, and what the loop's own test compares.
fn subject(seed: Seed, actual: Tensor, expected: Tensor) -> Result<Subject> {
    let Loop { model, vars, x, y } = Loop::new(seed)?;
    let learner = Learner::new(&vars, move |x| model.forward(x), loss::cross_entropy);
    Ok(Subject::new(learner, (x, y)).compared(actual, expected))
}

/// The weights after a validation are those before it.
fn validation_steps(seed: Seed, buggy: bool) -> Result<Subject> {
    let run = Loop::new(seed)?;
    let mut optimizer = SGD::new(run.vars.clone(), 0.1)?;
    for _ in 0..5 {
        optimizer.backward_step(&run.loss()?)?;
    }
    let before = run.values()?;
    let validation = run.loss()?;
    if buggy {
        optimizer.backward_step(&validation)?;
    }
    subject(seed, run.values()?, before)
}

/// The best weights, in a fresh model, give the best loss of the training.
fn best_weights(
    seed: Seed,
    keep: fn(&Var) -> candle_core::Result<Tensor>,
    is_better: fn(f32, f32) -> bool,
) -> Result<Subject> {
    let run = Loop::new(seed)?;
    let mut optimizer = SGD::new(run.vars.clone(), 0.1)?;
    let (mut least, mut best) = (f32::INFINITY, None);
    for _ in 0..20 {
        let loss = run.loss()?;
        let value = loss.to_scalar::<f32>()?;
        least = least.min(value);
        if best.as_ref().is_none_or(|(kept, _)| is_better(value, *kept)) {
            let weights = run.vars.iter().map(keep);
            best = Some((value, weights.collect::<candle_core::Result<Vec<_>>>()?));
        }
        optimizer.backward_step(&loss)?;
    }
    let fresh = Loop::new(seed)?;
    for (var, kept) in fresh.vars.iter().zip(best.iter().flat_map(|(_, kept)| kept)) {
        var.set(kept)?;
    }
    let expected = Tensor::new(least, data::CPU)?;
    subject(seed, fresh.loss()?, expected)
}
