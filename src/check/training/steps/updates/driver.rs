//! The user's training step, run from weights of our choosing, and what it does to them.

use candle_core::{Device, Tensor, Var};

use crate::{
    Failure, Result, Snapshot,
    check::function,
    learner::is_running_statistic,
    measure::{
        backward::backward,
        noise::epsilon,
        values::{is_floating, scalar, to_f64_vec},
        vectors::dot,
    },
};

pub(super) type Step<'s> = dyn FnMut() -> candle_core::Result<()> + 's;
pub(super) type Loss<'s> = dyn FnMut() -> candle_core::Result<Tensor> + 's;

/// The values of every watched variable, or by how much each changed.
pub(super) type Values = Vec<Vec<f64>>;

/// What a variable is to a training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Trained,
    Frozen,
    /// A running statistic: the forward pass moves it, and nothing else may.
    Statistic,
    /// Integers.
    Fixed,
}

pub(super) struct Watched {
    pub(super) name: String,
    pub(super) var: Var,
    pub(super) role: Role,
    /// Its values when the check began.
    pub(super) start: Vec<f64>,
}

impl Watched {
    pub(super) fn is_trained(&self) -> bool {
        self.role == Role::Trained
    }

    /// What is judged by the size of its steps: vectors may begin at zero, and are small beside their steps.
    pub(super) fn is_weight(&self) -> bool {
        self.is_trained() && self.var.rank() >= 2
    }

    /// The distance from 1 to the next number of its format.
    pub(super) fn epsilon(&self) -> f64 {
        epsilon(self.var.dtype()).unwrap_or(0.0)
    }

    /// Whether a step of its own can be told from rounding: f32 and f64.
    pub(super) fn is_fine(&self) -> bool {
        self.is_trained() && self.epsilon() < 1e-5 && self.epsilon() > 0.0
    }
}

/// One change of the variables, made by one call of the step, or by several where gradients are accumulated.
#[derive(Clone)]
pub(super) struct Update {
    pub(super) by: Values,
    /// Whether a bit of the variable changed.
    pub(super) moved: Vec<bool>,
}

/// The gradients of the user's loss, and its value.
pub(super) struct Gradients {
    pub(super) loss: f64,
    pub(super) by: Vec<Option<Vec<f64>>>,
}

pub(super) struct Driver<'s> {
    step: &'s mut Step<'s>,
    loss: Option<&'s mut Loss<'s>>,
    pub(super) watched: Vec<Watched>,
    start: &'s Snapshot,
    /// How often the step was called.
    pub(super) calls: usize,
    /// How many calls there may be before one changes something.
    pub(super) patience: usize,
}

impl<'s> Driver<'s> {
    pub(super) fn new(
        step: &'s mut Step<'s>,
        loss: Option<&'s mut Loss<'s>>,
        start: &'s Snapshot,
        is_frozen: impl Fn(&str) -> bool,
        patience: usize,
    ) -> Result<Self> {
        let watch = |(name, var, value): (&str, &Var, &Tensor)| -> Result<Watched> {
            let role = match () {
                // A prefix that names the statistic itself means it.
                () if is_running_statistic(name) && !is_frozen_by_name(name, &is_frozen) => {
                    Role::Statistic
                }
                () if is_frozen(name) => Role::Frozen,
                () if !is_floating(var.dtype()) => Role::Fixed,
                () => Role::Trained,
            };
            Ok(Watched { name: name.to_owned(), var: var.clone(), role, start: to_f64_vec(value)? })
        };
        let watched = start.values().map(watch).collect::<Result<Vec<_>>>()?;
        Ok(Self { step, loss, watched, start, calls: 0, patience })
    }

    pub(super) fn has_loss(&self) -> bool {
        self.loss.is_some()
    }

    pub(super) fn restore(&self) -> Result<()> {
        self.start.restore()
    }

    fn call(&mut self) -> Result<()> {
        self.calls += 1;
        let step = &mut *self.step;
        function::guarded("the step", || step().map_err(|e| Failure::from_candle("the step", e)))
            .map_err(|failure| failure.fact("call", self.calls.to_string()))
    }

    pub(super) fn values(&self) -> Result<Values> {
        self.watched.iter().map(|w| Ok(to_f64_vec(w.var.as_tensor())?)).collect()
    }

    /// Calls the step until a variable that is no running statistic changes, or the patience ends.
    pub(super) fn advance(&mut self) -> Result<Update> {
        let before = self.values()?;
        let mut update = self.update_since(&before)?;
        for _ in 0..self.patience {
            self.call()?;
            update = self.update_since(&before)?;
            if self.is_change(&update) {
                break;
            }
        }
        Ok(update)
    }

    /// Whether anything but a running statistic changed: that is the forward pass's doing.
    pub(super) fn is_change(&self, update: &Update) -> bool {
        let counts = |w: &Watched| matches!(w.role, Role::Trained | Role::Frozen);
        self.watched.iter().zip(&update.moved).any(|(w, moved)| *moved && counts(w))
    }

    fn update_since(&self, before: &Values) -> Result<Update> {
        let after = self.values()?;
        let pairs = || after.iter().zip(before);
        let moved = |(a, b): (&Vec<f64>, &Vec<f64>)| {
            a.iter().zip(b).any(|(a, b)| a.to_bits() != b.to_bits())
        };
        let by = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a - b).collect();
        Ok(Update { by: pairs().map(by).collect(), moved: pairs().map(moved).collect() })
    }

    /// The starting values, with some variables replaced.
    pub(super) fn stand_at(&self, replaced: &[(usize, Vec<f64>)]) -> Result<()> {
        self.restore()?;
        for (at, values) in replaced {
            let var = &self.watched[*at].var;
            let value = Tensor::from_slice(values, var.shape(), &Device::Cpu)?
                .to_dtype(var.dtype())?
                .to_device(var.device())?;
            var.set(&value)?;
        }
        Ok(())
    }

    /// One update from the starting values, with some variables replaced.
    pub(super) fn update_at(&mut self, replaced: &[(usize, Vec<f64>)]) -> Result<Update> {
        self.stand_at(replaced)?;
        self.advance()
    }

    /// The loss and its gradients at the present values; `None` without a loss closure.
    pub(super) fn gradients(&mut self) -> Result<Option<Gradients>> {
        let Some(loss) = self.loss.as_mut() else { return Ok(None) };
        let value = function::guarded("the loss closure", || {
            loss().map_err(|e| Failure::from_candle("the loss closure", e))
        })?;
        if value.rank() != 0 || !is_floating(value.dtype()) {
            return Err(Failure::not_run(format!(
                "the loss closure returned a tensor of dims {:?} and dtype {}; allowed: a scalar of a float dtype",
                value.dims(),
                value.dtype().as_str(),
            )));
        }
        let grads = backward(&value)?;
        let mut by = Vec::with_capacity(self.watched.len());
        for watched in &self.watched {
            by.push(grads.get(watched.var.as_tensor()).map(to_f64_vec).transpose()?);
        }
        Ok(Some(Gradients { loss: scalar(&value)?, by }))
    }

    pub(super) fn trained(&self) -> impl Iterator<Item = (usize, &Watched)> {
        self.watched.iter().enumerate().filter(|(_, w)| w.is_trained())
    }
}

/// Whether it is the statistic that is declared frozen, not the whole layer it belongs to.
fn is_frozen_by_name(name: &str, is_frozen: &impl Fn(&str) -> bool) -> bool {
    let layer = name.rsplit_once('.').map_or("", |(layer, _)| layer);
    is_frozen(name) && !is_frozen(layer) && !is_frozen(&format!("{layer}."))
}

/// The norm over several variables together.
pub(super) fn pooled<'v>(values: impl IntoIterator<Item = &'v Vec<f64>>) -> f64 {
    values.into_iter().map(|v| dot(v, v)).sum::<f64>().sqrt()
}
