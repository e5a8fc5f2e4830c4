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
pub(crate) fn nudged_by(tensor: &Tensor, share: f64, seed: Seed, label: &str) -> Result<Tensor> {
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

/// A mask is a negative number of at least this size, ...
const LEAST_MASK: f64 = 1e3;
/// ... and so many times as large as anything that is none: -1e4 masks logits of up to 100.
const MASKS_BY: f64 = 100.0;

/// The largest finite size among values that mask nothing.
///
/// Logits are masked by adding -1e9, or by writing it: rounding at that size is none of what is to be compared. Infinite
/// values have no size. Where all values are masks, it is theirs.
pub(crate) fn size(values: &[f64]) -> f64 {
    let mut sizes: Vec<f64> =
        values.iter().copied().filter(|v| v.is_finite() && *v != 0.0).collect();
    sizes.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
    let largest = sizes.first().map_or(0.0, |v| v.abs());
    for pair in sizes.windows(2) {
        if pair[0] > -LEAST_MASK {
            break;
        }
        if pair[0].abs() >= MASKS_BY * pair[1].abs() {
            return pair[1].abs();
        }
    }
    largest
}

/// The rounding noise of a function at a point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise {
    /// The largest change of an output value under nudges of the input, of those beyond the value's own last place.
    pub(crate) moved: f64,
    /// The median size of the output's values, without zeros, infinities and masks; where nothing could be nudged, the
    /// largest of them, since what the function adds up inside is then not known.
    pub(crate) typical: f64,
    /// The last place of 1 in the coarsest format that took part; 0 for outputs of integers.
    pub(crate) epsilon: f64,
    /// Whether there was anything to nudge: integers have no last place.
    pub(crate) nudged: bool,
}

/// How often the last places are drawn. The largest of four is within a factor of two of the largest of many.
pub(crate) const DRAWS: u64 = 4;

/// Where nothing moves, the nudges grow by this factor, up to the last place of bf16.
const COARSER: f64 = 16.0;
const COARSEST: f64 = 1.0 / 128.0;

/// A change beyond this share of the output's size is a decision (an argmax, a sign), not a rounding.
const DECISION: f64 = 1.0 / 32.0;

/// What nudging the last place of every input value does to the output (J. Vignes, 1993; D. S. Parker, 1997).
///
/// `coarsest` is the last place of a coarser format that is to be compared with, else 0. A function that works in a coarser
/// format inside has the noise of that: of the format to which the input can be rounded without a change; or, where not
/// one bit of the output moves, nudges grow until something does. Values that are whole numbers all over a tensor may be
/// ids or a mask, and stay. Nudged inputs that the function refuses are left out.
pub(crate) fn of_function(
    f: &mut dyn FnMut(&[Tensor]) -> crate::Result<Tensor>,
    x: &[Tensor],
    base: &Tensor,
    coarsest: f64,
) -> crate::Result<Noise> {
    let values = to_f64_vec(base)?;
    let own = epsilon(base.dtype()).map_or(0.0, |own| own.max(coarsest));
    let size = size(&values);
    let mut sizes: Vec<f64> =
        values.iter().map(|v| v.abs()).filter(|v| *v > 0.0 && *v <= size).collect();
    sizes.sort_by(f64::total_cmp);
    let mut movable = Vec::with_capacity(x.len());
    for tensor in x {
        let whole = to_f64_vec(tensor)?.iter().all(|v| v.fract() == 0.0 || !v.is_finite());
        movable.push(epsilon(tensor.dtype()).filter(|_| !whole));
    }
    let nudged = movable.iter().any(Option::is_some);
    let typical = match nudged {
        true => sizes.get(sizes.len() / 2).copied().unwrap_or(0.0),
        false => size,
    };
    let mut noise = Noise { moved: 0.0, typical, epsilon: own, nudged };
    if !nudged {
        return Ok(noise);
    }
    let inner = if own > 0.0 { inner_format(f, x, &movable, base, own)? } else { None };
    noise.epsilon = inner.unwrap_or(own);
    let mut still = true;
    for at in 0..DRAWS {
        let members = nudged_members(x, &movable, noise.epsilon, at)?;
        if let Some(change) = change(f, &members, base, (&values, size), noise.epsilon)? {
            noise.moved = noise.moved.max(change);
            still = false;
        }
    }
    if inner.is_some() && noise.moved > size * DECISION {
        noise.moved = 0.0;
    }
    if still {
        // What does not move by its last places, either, is flat here (a decision, a constant, NaN), and in no coarser format.
        noise.epsilon = own;
    }
    let mut step = movable.iter().flatten().copied().fold(own, f64::max);
    while still && own > 0.0 && step < COARSEST {
        step = (step * COARSER).min(COARSEST);
        let mut at = |step: f64| -> crate::Result<Option<f64>> {
            change(f, &nudged_members(x, &movable, step, 0)?, base, (&values, size), own)
        };
        if at(step)?.is_some() {
            // The first values that move are few; a step further all do.
            let change = at((step * COARSER).min(COARSEST))?.unwrap_or(0.0);
            noise.moved = if change <= size * DECISION { change } else { 0.0 };
            still = false;
        }
    }
    Ok(noise)
}

/// The last place of the coarsest format that all these values have in common, where that is coarser than `own`: a model
/// may compute in half precision and return f32.
pub(crate) fn short_format(values: &[f64], own: f64) -> f64 {
    /// So many values are not all short by chance.
    const ENOUGH: usize = 16;
    let values = || values.iter().copied().filter(|v| v.is_finite() && *v != 0.0);
    if own == 0.0 || values().filter(|v| v.fract() != 0.0).count() < ENOUGH {
        return own;
    }
    let all_are = |short: &dyn Fn(f64) -> f64| values().all(|v| short(v) == v);
    let format = match () {
        () if all_are(&|v| half::bf16::from_f64(v).to_f64()) => DType::BF16,
        () if all_are(&|v| half::f16::from_f64(v).to_f64()) => DType::F16,
        () if all_are(&|v| f64::from(v as f32)) => DType::F32,
        () => return own,
    };
    epsilon(format).map_or(own, |short| short.max(own))
}

/// The last place of a coarser format than `own` to which the input can be rounded without a change of the output.
///
/// `movable` has the last place of each input, and none for those that must stay.
pub(crate) fn inner_format(
    f: &mut dyn FnMut(&[Tensor]) -> crate::Result<Tensor>,
    x: &[Tensor],
    movable: &[Option<f64>],
    base: &Tensor,
    own: f64,
) -> crate::Result<Option<f64>> {
    for format in [DType::BF16, DType::F16, DType::F32] {
        let Some(inner) = epsilon(format).filter(|inner| *inner > own) else { continue };
        let mut other = false;
        let mut rounded = Vec::with_capacity(x.len());
        for (tensor, movable) in x.iter().zip(movable) {
            if movable.is_none_or(|place| place >= inner) {
                rounded.push(tensor.clone());
                continue;
            }
            let coarse = tensor.to_dtype(format)?.to_dtype(tensor.dtype())?;
            other = other || !same_bits(&coarse, tensor)?;
            rounded.push(coarse);
        }
        if other && f(&rounded).is_ok_and(|output| same_bits(&output, base).unwrap_or(false)) {
            return Ok(Some(inner));
        }
    }
    Ok(None)
}

/// The input with what is movable nudged by its last place, or that of a coarser format.
fn nudged_members(
    x: &[Tensor],
    movable: &[Option<f64>],
    least: f64,
    draw: u64,
) -> Result<Vec<Tensor>> {
    let seed = Seed::new(draw).split("noise");
    let nudge = |(i, (tensor, movable)): (usize, (&Tensor, &Option<f64>))| match movable {
        Some(epsilon) => nudged_by(tensor, epsilon.max(least), seed, &format!("input {i}")),
        None => Ok(tensor.clone()),
    };
    x.iter().zip(movable).enumerate().map(nudge).collect()
}

/// The largest change of an output value beyond its own last place, masks left out; `None` where no bit changes or the
/// function fails.
fn change(
    f: &mut dyn FnMut(&[Tensor]) -> crate::Result<Tensor>,
    x: &[Tensor],
    base: &Tensor,
    (values, size): (&[f64], f64),
    own: f64,
) -> crate::Result<Option<f64>> {
    let Ok(output) = f(x) else { return Ok(None) };
    if output.dims() != base.dims() || same_bits(&output, base)? {
        return Ok(None);
    }
    let changes = to_f64_vec(&output)?.into_iter().zip(values).map(|(a, b)| {
        let change = (a - b).abs();
        let counts = b.abs() <= size && change.is_finite() && change > own * b.abs();
        if counts { change } else { 0.0 }
    });
    Ok(Some(changes.fold(0.0, f64::max)))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn noise(f: impl Fn(&Tensor) -> Result<Tensor>, x: &Tensor) -> crate::Result<Noise> {
        let mut f = |x: &[Tensor]| Ok(f(&x[0])?);
        let base = f(std::slice::from_ref(x))?;
        of_function(&mut f, std::slice::from_ref(x), &base, 0.0)
    }

    #[test]
    fn a_format_inside_is_recognised() -> crate::Result<()> {
        let x = Seed::new(1).normal("x", (8, 64), DType::F32, &Device::Cpu)?;
        let plain = noise(|x| x.sum(1), &x)?;
        assert_eq!(Some(plain.epsilon), epsilon(DType::F32));
        assert!(plain.nudged && plain.moved > 1e-8 && plain.moved < 1e-5, "{plain:?}");
        for format in [DType::F16, DType::BF16] {
            let inside = noise(|x| x.to_dtype(format)?.sum(1)?.to_dtype(DType::F32), &x)?;
            assert_eq!(Some(inside.epsilon), epsilon(format));
            assert!(inside.moved > 100.0 * plain.moved, "{inside:?}");
        }
        Ok(())
    }

    #[test]
    fn masks_have_no_size() {
        assert_eq!(size(&[1.0, -2.0, 0.0, -1e9, -1e9, -1e9, -2e9, f64::NEG_INFINITY]), 2.0);
        assert_eq!(size(&[30.0, -1e4, -10_010.0, f64::NAN]), 30.0);
        // Values of many sizes are none, and neither is a large positive one.
        assert_eq!(size(&[1e-9, 1.0, -12.0]), 12.0);
        assert_eq!(size(&[1e6, 1.0]), 1e6);
        assert_eq!(size(&[-1e9, -1e9]), 1e9);
        assert_eq!(size(&[]), 0.0);
    }

    #[test]
    fn what_is_flat_has_no_format_inside() -> crate::Result<()> {
        let x = Seed::new(1).normal("x", (8, 64), DType::F32, &Device::Cpu)?;
        let decided = noise(|x| x.ge(0.0)?.to_dtype(DType::F32), &x)?;
        assert_eq!(Some(decided.epsilon), epsilon(DType::F32));
        let nan = noise(|x| (x.abs()? + 1.0)?.neg()?.sqrt(), &x)?;
        assert_eq!(Some(nan.epsilon), epsilon(DType::F32));
        Ok(())
    }

    #[test]
    fn decisions_ids_and_integers_are_no_noise() -> crate::Result<()> {
        let x = Seed::new(1).normal("x", (8, 64), DType::F32, &Device::Cpu)?;
        assert_eq!(noise(|x| x.argmax(1), &x)?.epsilon, 0.0);
        assert_eq!(noise(|x| x.ge(0.0)?.to_dtype(DType::F32), &x)?.moved, 0.0);
        let ids = Tensor::new(&[3f32, 1.0, 2.0], &Device::Cpu)?;
        let looked_up = noise(|ids| ids.to_dtype(DType::U32)?.to_dtype(DType::F32), &ids)?;
        assert!(!looked_up.nudged && looked_up.moved == 0.0);
        Ok(())
    }
}
