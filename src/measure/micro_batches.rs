//! A batch in parts, and the gradient of each.

use std::collections::HashMap;

use candle_core::{Tensor, backprop::GradStore};

use super::{
    backward::backward,
    noise::{epsilon, nudged_by, short_format},
    rows::rotate,
    values::to_f64_vec,
    vectors,
};
use crate::{Batch, Failure, Learner, Result, Seed, Snapshot, learner::Evaluation};

/// A gradient: the values of each trainable variable, in the learner's order; zeros where none arrived.
#[derive(Clone, Debug)]
pub(crate) struct Gradient(pub(crate) Vec<Vec<f64>>);

impl Gradient {
    pub(crate) fn of(learner: &Learner<'_>, grads: &GradStore) -> Result<Self> {
        let values = learner.trainable().map(|(_, var)| match grads.get(var.as_tensor()) {
            Some(grad) => Ok(to_f64_vec(grad)?),
            None => Ok(vec![0.0; var.elem_count()]),
        });
        Ok(Self(values.collect::<Result<_>>()?))
    }

    pub(crate) fn norm(&self, variable: usize) -> f64 {
        vectors::length(&self.0[variable])
    }

    pub(crate) fn distance(&self, other: &Self, variable: usize) -> f64 {
        let pairs = self.0[variable].iter().zip(&other.0[variable]);
        pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
    }

    pub(crate) fn elements(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    pub(crate) fn is_finite(&self) -> bool {
        self.0.iter().flatten().all(|v| v.is_finite())
    }

    /// The sum of several, each times its weight.
    pub(crate) fn weighted(parts: &[&Self], weights: &[f64]) -> Self {
        let mut sum = Self(parts[0].0.iter().map(|values| vec![0.0; values.len()]).collect());
        for (part, weight) in parts.iter().zip(weights) {
            for (into, from) in sum.0.iter_mut().flatten().zip(part.0.iter().flatten()) {
                *into += weight * from;
            }
        }
        sum
    }

    /// The scalar product, each variable on the scale that is given.
    pub(crate) fn dot(&self, other: &Self, scale: &[f64]) -> f64 {
        let variables = self.0.iter().zip(&other.0).zip(scale);
        variables.map(|((a, b), scale)| vectors::dot(a, b) / (scale * scale)).sum()
    }
}

/// The rows `first..first + rows` of a batch. Targets may be flattened, a fixed number to each row.
pub(crate) fn part(batch: &Batch, first: usize, rows: usize) -> Result<Batch> {
    let input = batch.input().iter().map(|t| t.narrow(0, first, rows));
    let input = input.collect::<candle_core::Result<Vec<_>>>()?;
    let Some(target) = batch.target() else {
        return Err(Failure::bad_argument("batch", "`()`", "an input and its targets, `(&x, &y)`"));
    };
    let target = match targets_per_row(batch) {
        Some(each) => target.narrow(0, first * each, rows * each)?,
        // One value for the whole batch, whatever its rows.
        None => target.clone(),
    };
    Ok(Batch::of_members(input, target))
}

/// How many targets each row has; `None` where they are none of the rows'.
pub(crate) fn targets_per_row(batch: &Batch) -> Option<usize> {
    let (rows, targets) = (batch.rows()?, *batch.target()?.dims().first()?);
    (targets >= rows && targets % rows == 0).then(|| targets / rows)
}

/// The batch with its rows in another order.
fn turned(batch: &Batch) -> Result<Option<Batch>> {
    let (Some(rows), Some(target), Some(each)) =
        (batch.rows(), batch.target(), targets_per_row(batch))
    else {
        return Ok(None);
    };
    let by = rows / 2;
    let input = batch.input().iter().map(|t| rotate(t, by));
    let input = input.collect::<candle_core::Result<Vec<Tensor>>>()?;
    Ok(Some(Batch::of_members(input, rotate(target, by * each)?)))
}

/// Gradients of a batch and of its parts, each evaluated once, from the same variables.
pub(crate) struct Micro<'m, 'a> {
    pub(crate) learner: &'m Learner<'a>,
    pub(crate) batch: &'m Batch,
    pub(crate) train: bool,
    before: &'m Snapshot,
    seen: HashMap<(usize, usize), Gradient>,
}

impl<'m, 'a> Micro<'m, 'a> {
    pub(crate) fn new(
        learner: &'m Learner<'a>,
        batch: &'m Batch,
        train: bool,
        before: &'m Snapshot,
    ) -> Self {
        Self { learner, batch, train, before, seen: HashMap::new() }
    }

    /// Gives every variable the value it had before the first pass.
    pub(crate) fn restore(&self) -> Result<()> {
        self.before.restore()
    }

    /// A forward pass may move running statistics, so each begins from the same values.
    pub(crate) fn evaluate(&self, batch: &Batch) -> Result<Evaluation> {
        self.before.restore()?;
        self.learner.evaluate(batch, self.train)
    }

    pub(crate) fn gradient(&self, batch: &Batch) -> Result<Gradient> {
        Gradient::of(self.learner, &backward(&self.evaluate(batch)?.loss)?)
    }

    pub(crate) fn gradient_of_part(&mut self, first: usize, rows: usize) -> Result<Gradient> {
        if let Some(known) = self.seen.get(&(first, rows)) {
            return Ok(known.clone());
        }
        let gradient = self.gradient(&part(self.batch, first, rows)?)?;
        self.seen.insert((first, rows), gradient.clone());
        Ok(gradient)
    }

    /// How much of each variable's gradient is rounding.
    ///
    /// A model of f32 variables may compute in half precision: then gradients have the short values of that format, and all
    /// of them its rounding.
    pub(crate) fn rounding(&self, gradient: &Gradient) -> Result<Vec<Rounding>> {
        let trainable = || self.learner.trainable().enumerate();
        let mut inside: f64 = 0.0;
        let largest = trainable().map(|(at, _)| gradient.norm(at)).fold(0.0, f64::max);
        for (at, (_, var)) in trainable() {
            let own = epsilon(var.dtype()).unwrap_or(0.0);
            // What is left of a gradient that cancels is a few last places, short by nature.
            let formed = gradient.norm(at) > CANCELLED * largest;
            let short = if formed { short_format(&gradient.0[at], own) } else { own };
            inside = inside.max(short);
        }
        let mut rounding: Vec<Rounding> =
            trainable().map(|_| Rounding { nudged: 0.0, turned: 0.0, epsilon: inside }).collect();
        for draw in 0..DRAWS {
            self.before.restore()?;
            let seed = Seed::new(draw).split("micro-batches");
            for (name, var) in self.learner.trainable() {
                var.set(&nudged_by(&var.as_tensor().copy()?, inside, seed, name)?)?;
            }
            let nudged = self.learner.evaluate(self.batch, self.train);
            let nudged = nudged.and_then(|e| Gradient::of(self.learner, &backward(&e.loss)?));
            self.before.restore()?;
            let nudged = nudged?;
            for (at, rounding) in rounding.iter_mut().enumerate() {
                rounding.nudged = rounding.nudged.max(gradient.distance(&nudged, at));
            }
        }
        let turned = match turned(self.batch)? {
            Some(turned) => self.gradient(&turned).ok(),
            None => None,
        };
        self.before.restore()?;
        for (at, rounding) in rounding.iter_mut().enumerate() {
            rounding.turned = turned.as_ref().map_or(0.0, |turned| gradient.distance(turned, at));
        }
        Ok(rounding)
    }
}

/// A gradient this much smaller than the largest may be what rounding leaves of zero: a bias before a norm, a key's bias.
const CANCELLED: f64 = 1e-3;

/// How often the last places are drawn: the larger of two is within a factor of a few of the largest of many.
const DRAWS: u64 = 2;

/// What rounding does to the gradient of one variable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounding {
    /// How far it moves when every variable moves by its last place.
    pub(crate) nudged: f64,
    /// How far it moves when the batch's rows come in another order.
    pub(crate) turned: f64,
    /// The last place of 1 in the coarsest format that takes part.
    pub(crate) epsilon: f64,
}
