//! Whether a variable shapes the result, told by moving it and looking.

use candle_core::{DType, Tensor, Var};

use super::{
    noise::{epsilon, nudged, spread},
    values::{norm, same_bits, scalar},
};
use crate::{Batch, Failure, Learner, Result, Seed, learner::Evaluation};

/// What moving one variable did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Effect {
    pub(crate) on_output: bool,
    /// By how much the loss moved.
    pub(crate) on_loss: f64,
    /// By how much the output's element that moved most moved.
    pub(crate) largest: f64,
}

impl Effect {
    pub(crate) const NONE: Self = Self { on_output: false, on_loss: 0.0, largest: 0.0 };

    pub(crate) fn any(self) -> bool {
        self.on_output || self.on_loss != 0.0
    }
}

/// A learner on a batch, as it is before anything is moved.
pub(crate) struct Still<'s, 'a> {
    learner: &'s Learner<'a>,
    batch: &'s Batch,
    train: bool,
    base: Evaluation,
    /// What a pass itself may change, as it was: running statistics shape the next evaluation.
    kept: Vec<(Var, Tensor)>,
}

impl<'s, 'a> Still<'s, 'a> {
    /// `None` where two evaluations at one value differ already, so that a difference would prove nothing.
    pub(crate) fn new(
        learner: &'s Learner<'a>,
        batch: &'s Batch,
        train: bool,
    ) -> Result<Option<Self>> {
        let kept = learner.untrained_values()?;
        let base = learner.evaluate(batch, train)?;
        let again = learner.evaluate(batch, train)?;
        let same = same_outputs(&base, &again)? && same_bits(&base.loss, &again.loss)?;
        Ok(same.then_some(Self { learner, batch, train, base, kept }))
    }

    fn evaluate(&self) -> Result<Evaluation> {
        for (var, value) in &self.kept {
            var.set(value)?;
        }
        self.learner.evaluate(self.batch, self.train)
    }

    /// Moves `var` in a random direction and compares output and loss, bit for bit, with those at its own value.
    ///
    /// The step is of the variable's own size: a small one can hide behind a ReLU, an argmax, or rounding.
    pub(crate) fn moving(&self, name: &str, var: &Var) -> Result<Effect> {
        self.moving_by(name, var, 1.0)
    }

    /// As [`moving`](Self::moving), by a share of the variable's own size.
    pub(crate) fn moving_by(&self, name: &str, var: &Var, share: f64) -> Result<Effect> {
        let own = var.as_tensor().copy()?;
        let set = |value: &Tensor| {
            var.set(value)
                .map_err(|e| Failure::from_candle(&format!("setting variable `{name}`"), e))
        };
        set(&moved(name, &own, share)?)?;
        let there = self.evaluate();
        set(&own)?;
        self.compared(&there?)
    }

    /// Whether the output moves in jumps: to the bit, a small move to either side leaves it, and the loss, as they are.
    ///
    /// `false` in half precision, which is a staircase itself.
    pub(crate) fn moves_in_jumps(&self, name: &str, var: &Var) -> Result<bool> {
        if !matches!(var.dtype(), DType::F32 | DType::F64) {
            return Ok(false);
        }
        Ok(!self.moving_by(name, var, SMALL_MOVE)?.any()
            && !self.moving_by(name, var, -SMALL_MOVE)?.any())
    }

    /// Whether the loss has a slope along a variable, as [`slides_along_rows`](Self::slides_along_rows) tells it.
    pub(crate) fn slides(&self, name: &str, var: &Var) -> Result<bool> {
        let rows: Vec<usize> = (0..var.dims().first().copied().unwrap_or(1)).collect();
        self.slides_along_rows(name, var, &rows)
    }

    /// Whether the loss has a slope along some rows of a variable: it moves by the same amount, the other way, when they
    /// are moved back, and by half when they are moved half as far. Units that a small step wakes do not do that.
    pub(crate) fn slides_along_rows(&self, name: &str, var: &Var, rows: &[usize]) -> Result<bool> {
        let own = var.as_tensor().copy()?;
        let step = (moved(name, &own, SLIDE)? - &own)?;
        let width = own.elem_count() / own.dims().first().copied().unwrap_or(1).max(1);
        let mut mask = vec![0f32; own.elem_count()];
        for row in rows {
            mask[row * width..(row + 1) * width].fill(1.0);
        }
        let mask = Tensor::from_vec(mask, own.shape(), &candle_core::Device::Cpu)?
            .to_dtype(own.dtype())?
            .to_device(own.device())?;
        let step = (step * mask)?;
        let base = scalar(&self.base.loss)?;
        let change = |share: f64| -> Result<f64> {
            var.set(&(&own + (&step * share)?)?)?;
            let there = self.evaluate();
            var.set(&own)?;
            Ok(scalar(&there?.loss)? - base)
        };
        let (ahead, behind, half) = (change(1.0)?, change(-1.0)?, change(0.5)?);
        let floor = self.rounding()?.on_loss;
        let near = |a: f64, b: f64| (a - b).abs() <= 0.25 * a.abs().max(b.abs());
        Ok(half.abs() > SLIDE_ROUNDINGS * floor && near(ahead, -behind) && near(ahead, 2.0 * half))
    }

    /// What moving every variable by at most its last bit does: the part of an effect that is rounding.
    pub(crate) fn rounding(&self) -> Result<Effect> {
        let mut kept = Vec::new();
        for (name, var) in self.learner.trainable() {
            let own = var.as_tensor().copy()?;
            var.set(&nudged(&own, Seed::new(0), name)?)?;
            kept.push((var, own));
        }
        let there = self.evaluate();
        // The last first: a tied variable is there under two names, and was moved twice.
        for (var, own) in kept.into_iter().rev() {
            var.set(&own)?;
        }
        let effect = self.compared(&there?)?;
        // A nudge may leave the loss as it is, to the bit; another would not.
        let epsilon = epsilon(self.base.loss.dtype()).unwrap_or(0.0);
        let least = epsilon * scalar(&self.base.loss)?.abs();
        Ok(Effect { on_loss: effect.on_loss.max(least), ..effect })
    }

    fn compared(&self, there: &Evaluation) -> Result<Effect> {
        Ok(Effect {
            on_output: !same_outputs(&self.base, there)?,
            on_loss: match same_bits(&self.base.loss, &there.loss)? {
                true => 0.0,
                false => (scalar(&there.loss)? - scalar(&self.base.loss)?).abs(),
            },
            largest: match (&self.base.output, &there.output) {
                (Some(a), Some(b)) if a.dims() == b.dims() => spread(a, b)?.0,
                _ => 0.0,
            },
        })
    }
}

fn same_outputs(a: &Evaluation, b: &Evaluation) -> candle_core::Result<bool> {
    match (&a.output, &b.output) {
        (Some(a), Some(b)) => same_bits(a, b),
        _ => Ok(true),
    }
}

/// What moving `var` does in evaluation mode; see [`Still`].
pub(crate) fn of_variable(
    learner: &Learner<'_>,
    batch: &Batch,
    name: &str,
    var: &Var,
) -> Result<Option<Effect>> {
    Still::new(learner, batch, false)?.map(|still| still.moving(name, var)).transpose()
}

/// A move that single precision shows in every smooth function, and that passes no step of a staircase but by chance.
const SMALL_MOVE: f64 = 1e-5;

/// How far rows are moved to see a slope, as a share of the variable's own size.
const SLIDE: f64 = 1e-2;

/// A slope is told from rounding where half the step does so many times what a nudge of every variable does.
const SLIDE_ROUNDINGS: f64 = 16.0;

/// The value plus a random direction of the same root mean square, or of 0.1 where the value is near zero.
fn moved(name: &str, own: &Tensor, share: f64) -> Result<Tensor> {
    let size = norm(own)? / (own.elem_count().max(1) as f64).sqrt();
    let size = if size.is_finite() { size.max(0.1) } else { 0.1 };
    let direction = Seed::new(0).normal(name, own.shape(), own.dtype(), own.device())?;
    Ok((own + (direction * (size * share))?)?)
}
