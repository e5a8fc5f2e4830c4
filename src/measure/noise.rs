//! How much of an output is rounding.

use candle_core::{DType, Result, Tensor};

use super::values::to_f64_vec;
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
    let Some(epsilon) = epsilon(tensor.dtype()) else { return Ok(tensor.clone()) };
    let direction =
        seed.uniform(label, -1.0..1.0, tensor.shape(), DType::F64, &candle_core::Device::Cpu)?;
    let factor = (direction * epsilon)?.affine(1.0, 1.0)?;
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
