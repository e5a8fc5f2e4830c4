//! Whether a variable that one batch leaves alone matters on another.

use std::collections::BTreeSet;

use candle_core::{DType, Tensor, Var};

use super::{
    effect::Still,
    values::{extent, norm, to_f64_vec},
};
use crate::{Batch, Learner, Result, Seed, Snapshot};

/// A variable that mattered somewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Used {
    /// Whether its gradient arrived there.
    pub(crate) arrives: bool,
}

/// How many other batches are tried. A top-2 router over 8 experts misses one of them on a batch of 16 tokens once in 100
/// times; one that chooses a single expert out of many misses some on most batches, but not with other variables too.
const TRIED: usize = 16;

/// Small batches are more: a batch of two rows sends a token to two experts of eight.
const ROWS: usize = 256;

/// What else than the variable may differ from what it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Vary<'v> {
    /// The inputs, within their own spread, and on every other batch the variables of these names. Those that training
    /// moves are a fair choice: what matters after such a move may come to matter in a training. A router then chooses
    /// otherwise; a gate whose own gradient is zero stays shut.
    InputsAnd(&'v BTreeSet<String>),
    /// The inputs, also far beyond their spread, and on every other batch all variables: a gate that is shut opens.
    InputsAndVariables,
}

impl Vary<'_> {
    fn moves(self, name: &str) -> bool {
        match self {
            Self::InputsAnd(names) => names.contains(name),
            Self::InputsAndVariables => true,
        }
    }
}

/// An effect below so many times what nudging every variable does is rounding.
pub(crate) const ROUNDINGS: f64 = 64.0;

/// Looks for a batch on which moving the variable changes the loss, and counts those that were tried.
///
/// The batches have the shapes of the given one and other inputs: of its own spread and wider, ids of its own range and
/// one more, sequences of a single step made longer. A model may refuse an input it was not made for. All variables get
/// their values back.
pub(crate) fn is_used(
    learner: &Learner<'_>,
    batch: &Batch,
    name: &str,
    var: &Var,
    vary: Vary<'_>,
) -> Result<(Option<Used>, usize)> {
    let (mut tried, mut refused) = (0, 0);
    if batch.input().is_empty() {
        return Ok((None, 0));
    }
    let before = Snapshot::take(learner.variables())?;
    let batches = ROWS.div_ceil(batch.rows().unwrap_or(1).max(1)).max(TRIED);
    for seed in 0..batches as u64 {
        let looked = look(learner, batch, name, var, Seed::new(seed), vary);
        before.restore()?;
        match looked {
            Ok(Some(Some(used))) => return Ok((Some(used), tried + 1)),
            Ok(Some(None)) => tried += 1,
            // A model that refuses the first few refuses them all.
            Ok(None) | Err(_) if tried == 0 && refused == 4 => break,
            Ok(None) | Err(_) => refused += 1,
        }
    }
    Ok((None, tried))
}

/// `None` where the model refused the batch or draws at random.
fn look(
    learner: &Learner<'_>,
    batch: &Batch,
    name: &str,
    var: &Var,
    seed: Seed,
    vary: Vary<'_>,
) -> Result<Option<Option<Used>>> {
    let input = batch.input().iter().map(|input| other(input, seed, vary));
    let other = batch.with_input(input.collect::<Result<Vec<_>>>()?);
    if seed.value() % 2 == 1 {
        let others = learner.trainable().filter(|(_, other)| other.id() != var.id());
        for (of, other) in others.filter(|(of, _)| vary.moves(of)) {
            let size = norm(other.as_tensor())? / (other.elem_count().max(1) as f64).sqrt();
            let step = seed.normal(of, other.shape(), other.dtype(), other.device())?;
            other.set(&(other.as_tensor() + (step * size.max(0.01))?)?)?;
        }
    }
    let Some(still) = Still::new(learner, &other, false)? else { return Ok(None) };
    if still.moving(name, var)?.on_loss <= ROUNDINGS * still.rounding()?.on_loss {
        return Ok(Some(None));
    }
    let grads = learner.evaluate(&other, true)?.loss.backward()?;
    let arrives = match grads.get(var.as_tensor()) {
        Some(grad) => norm(grad)? > 0.0,
        None => false,
    };
    Ok(Some(Some(Used { arrives })))
}

fn other(input: &Tensor, seed: Seed, vary: Vary<'_>) -> Result<Tensor> {
    let input = longer(input)?;
    let values = to_f64_vec(&input)?;
    let Some((low, high)) = extent(&values) else { return Ok(input) };
    let (shape, device) = (input.shape(), input.device());
    if !input.dtype().is_float() {
        // A flag that is 0 on the whole batch is 1 on another; an id beyond a table is refused by the model.
        let high = if seed.value() % 4 < 2 { high } else { high + 1.0 };
        let ids = seed.uniform("ids", low..high + 1.0, shape, DType::F64, device)?;
        return Ok(ids.floor()?.to_dtype(input.dtype())?);
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let spread = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    // Wider inputs reach other experts, and wake units that are dead.
    let wider = match vary {
        Vary::InputsAnd(_) => 1.0,
        Vary::InputsAndVariables => [1.0, 3.0, 10.0][(seed.value() % 3) as usize],
    };
    let noise = seed.normal("input", shape, input.dtype(), device)?;
    Ok(noise.affine((wider * spread).max(0.1), mean)?)
}

/// A sequence of a single step three steps long: a recurrent weight, or an attention's queries, have no part in one step.
fn longer(input: &Tensor) -> Result<Tensor> {
    let is_sequence = match input.dims() {
        [_, 1] => !input.dtype().is_float(),
        [_, 1, _] => true,
        _ => false,
    };
    match is_sequence {
        true => Ok(Tensor::cat(&[input, input, input], 1)?),
        false => Ok(input.clone()),
    }
}
