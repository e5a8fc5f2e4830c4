//! Reading numbers out of tensors of any dtype, in f64.

use candle_core::{DType, Device, Result, Tensor};

/// The values in logical order.
pub(crate) fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    in_f64(tensor)?.flatten_all()?.to_vec1()
}

/// The one value of a scalar.
pub(crate) fn scalar(tensor: &Tensor) -> Result<f64> {
    in_f64(tensor)?.to_scalar()
}

fn in_f64(tensor: &Tensor) -> Result<Tensor> {
    let tensor = tensor.detach().to_device(&Device::Cpu)?;
    match tensor.dtype() {
        DType::F64 => Ok(tensor),
        // candle's conversion from f8 to f64 calls itself for ever; to f32 it is right.
        DType::F8E4M3 => tensor.to_dtype(DType::F32)?.to_dtype(DType::F64),
        _ => tensor.to_dtype(DType::F64),
    }
}

/// Whether every value is finite. Integers always are.
pub(crate) fn is_finite(tensor: &Tensor) -> Result<bool> {
    Ok(!tensor.dtype().is_float() || values(tensor)?.iter().all(|v| v.is_finite()))
}

/// The Euclidean norm, accumulated in f64.
pub(crate) fn norm(tensor: &Tensor) -> Result<f64> {
    Ok(values(tensor)?.iter().map(|v| v * v).sum::<f64>().sqrt())
}

/// The smallest and the largest value; `None` for an empty tensor.
pub(crate) fn extent(values: &[f64]) -> Option<(f64, f64)> {
    let low = values.iter().copied().reduce(f64::min)?;
    let high = values.iter().copied().reduce(f64::max)?;
    Some((low, high))
}

/// Whether two tensors of one shape and dtype hold the same bits, so that a NaN equals itself.
pub(crate) fn same_bits(a: &Tensor, b: &Tensor) -> Result<bool> {
    if a.dims() != b.dims() || a.dtype() != b.dtype() {
        return Ok(false);
    }
    // Every float format converts to f64 without loss; NaN is told by its bits there.
    let (a, b) = (values(a)?, values(b)?);
    Ok(a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dtype_is_read_and_f8_returns() -> Result<()> {
        let exact = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
        let dtypes = [
            DType::U8,
            DType::U32,
            DType::I64,
            DType::BF16,
            DType::F16,
            DType::F32,
            DType::F64,
            DType::F8E4M3,
        ];
        for dtype in dtypes {
            assert_eq!(values(&exact.to_dtype(dtype)?)?, [1.0, 2.0, 3.0, 4.0], "{dtype:?}");
        }
        assert_eq!(values(&exact.t()?)?, [1.0, 3.0, 2.0, 4.0]);
        assert_eq!(norm(&exact)?, 30f64.sqrt());
        Ok(())
    }

    #[test]
    fn bits_tell_what_values_hide() -> Result<()> {
        let new = |v: f32| Tensor::new(&[v], &Device::Cpu);
        assert!(same_bits(&new(f32::NAN)?, &new(f32::NAN)?)?);
        assert!(!same_bits(&new(0.0)?, &new(-0.0)?)?);
        assert!(!is_finite(&new(f32::INFINITY)?)?);
        Ok(())
    }
}
