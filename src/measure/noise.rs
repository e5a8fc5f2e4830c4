//! How much of an output is rounding.

use candle_core::{DType, Result, Tensor};

use super::values::{same_bits, to_f64_vec};
use crate::Seed;

/// The distance from 1 to the next number of the format; `None` for formats without fractions.
pub(crate) fn epsilon(dtype: DType) -> Option<f64> {
    let mantissa_bits = match dtype {
        DType::F64 => 52,
        DType::F32 => 23,
        DType::F16 => 10,
        DType::BF16 => 7,
        DType::F8E4M3 => 3,
        _ => return None,
    };
    Some(f64::powi(2.0, -mantissa_bits))
}

/// The tensor with every value moved by at most one unit in its last place, in a direction of its own.
pub(crate) fn nudged(tensor: &Tensor, seed: Seed, label: &str) -> Result<Tensor> {
    match epsilon(tensor.dtype()) {
        Some(epsilon) => nudged_by(tensor, epsilon, seed, label),
        None => Ok(tensor.clone()),
    }
}

/// The tensor with every value moved by at most this share of itself.
fn nudged_by(tensor: &Tensor, share: f64, seed: Seed, label: &str) -> Result<Tensor> {
    let direction =
        seed.uniform(label, -1.0..1.0, tensor.shape(), DType::F64, &candle_core::Device::Cpu)?;
    let factor = (direction * share)?.affine(1.0, 1.0)?;
    let own = Tensor::from_vec(to_f64_vec(tensor)?, tensor.shape(), &candle_core::Device::Cpu)?;
    (own * factor)?.to_dtype(tensor.dtype())?.to_device(tensor.device())
}

/// The largest difference between two tensors of one shape, and the largest size of the first.
pub(crate) fn spread(a: &Tensor, b: &Tensor) -> Result<(f64, f64)> {
    let (a, b) = (to_f64_vec(a)?, to_f64_vec(b)?);
    let difference = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let size = a.iter().map(|v| v.abs()).fold(0.0, f64::max);
    Ok((difference, size))
}

/// The rounding noise of a function at a point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise {
    /// The largest change of an output value under nudges of the input, of those beyond the value's own last place.
    pub(crate) moved: f64,
    /// The median size of the output's finite values.
    pub(crate) typical: f64,
    /// The last place of 1 in the coarsest format that took part; 0 for outputs of integers.
    pub(crate) epsilon: f64,
    /// Whether there was anything to nudge: integers have no last place.
    pub(crate) nudged: bool,
}

/// How often the last places are drawn. The largest of four is within a factor of two of the largest of many.
const DRAWS: u64 = 4;

/// Where nothing moves, the nudges grow by this factor, up to the last place of bf16.
const COARSER: f64 = 16.0;
const COARSEST: f64 = 1.0 / 128.0;

/// A change beyond this share of the output's size is a decision (an argmax, a sign), not a rounding.
const DECISION: f64 = 1.0 / 32.0;

/// What nudging the last place of every input value does to the output (J. Vignes, 1993; D. S. Parker, 1997).
///
/// `coarsest` is the last place of a coarser format that is to be compared with, else 0. Where the input is nudged and not
/// one bit of the output moves, the function may work in a coarser format inside: nudges grow until something moves.
/// Values that are whole numbers all over a tensor may be ids or a mask, and stay. Nudged inputs that the function refuses
/// are left out.
pub(crate) fn of_function(
    f: &mut dyn FnMut(&[Tensor]) -> crate::Result<Tensor>,
    x: &[Tensor],
    base: &Tensor,
    coarsest: f64,
) -> crate::Result<Noise> {
    let values = to_f64_vec(base)?;
    let own = epsilon(base.dtype()).map_or(0.0, |own| own.max(coarsest));
    let mut sizes: Vec<f64> = values.iter().map(|v| v.abs()).filter(|v| v.is_finite()).collect();
    sizes.sort_by(f64::total_cmp);
    let typical = sizes.get(sizes.len() / 2).copied().unwrap_or(0.0);
    let mut movable = Vec::with_capacity(x.len());
    for tensor in x {
        let whole = to_f64_vec(tensor)?.iter().all(|v| v.fract() == 0.0 || !v.is_finite());
        movable.push(epsilon(tensor.dtype()).filter(|_| !whole));
    }
    let nudged = movable.iter().any(Option::is_some);
    let mut noise = Noise { moved: 0.0, typical, epsilon: own, nudged };
    if !nudged {
        return Ok(noise);
    }
    let mut still = true;
    let mut draw = |least: f64, draw: u64| -> crate::Result<Option<f64>> {
        let seed = Seed::new(draw).split("noise");
        let members =
            x.iter().zip(&movable).enumerate().map(|(i, (tensor, epsilon))| match epsilon {
                Some(epsilon) => nudged_by(tensor, epsilon.max(least), seed, &format!("input {i}")),
                None => Ok(tensor.clone()),
            });
        let members = members.collect::<Result<Vec<_>>>()?;
        let Ok(output) = f(&members) else { return Ok(None) };
        if output.dims() != base.dims() || same_bits(&output, base)? {
            return Ok(None);
        }
        let changes = to_f64_vec(&output)?.into_iter().zip(&values).map(|(a, b)| {
            let change = (a - b).abs();
            if change.is_finite() && change > own * b.abs() { change } else { 0.0 }
        });
        Ok(Some(changes.fold(0.0, f64::max)))
    };
    for at in 0..DRAWS {
        if let Some(change) = draw(own, at)? {
            noise.moved = noise.moved.max(change);
            still = false;
        }
    }
    let mut step = own.max(movable.iter().flatten().copied().fold(0.0, f64::max));
    while still && own > 0.0 && step < COARSEST {
        step = (step * COARSER).min(COARSEST);
        if let Some(change) = draw(step, 0)? {
            let size = sizes.last().copied().unwrap_or(0.0);
            noise.moved = if change <= size * DECISION { change } else { 0.0 };
            still = false;
        }
    }
    Ok(noise)
}
