//! Reading a tensor's values, whatever its dtype, layout and device.

use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor};

use super::compare::{self, Element, Walk, for_dtype};

/// Whether candle can read values of `dtype`: its four narrowest formats can only be stored.
pub(crate) fn is_readable(dtype: DType) -> bool {
    matches!(
        dtype,
        DType::U8
            | DType::U32
            | DType::I16
            | DType::I32
            | DType::I64
            | DType::BF16
            | DType::F16
            | DType::F32
            | DType::F64
            | DType::F8E4M3
    )
}

pub(crate) fn is_floating(dtype: DType) -> bool {
    !matches!(dtype, DType::U8 | DType::U32 | DType::I16 | DType::I32 | DType::I64)
}

/// The tensor on the CPU, cut from its graph; a tensor that is there already is not copied.
pub(crate) fn on_cpu(tensor: &Tensor) -> Result<Tensor> {
    tensor.detach().to_device(&Device::Cpu)
}

/// The storage of a tensor that [`on_cpu`] returned.
pub(crate) fn cpu_storage(storage: &Storage) -> Result<&CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => candle_core::bail!("a tensor on the CPU has its storage elsewhere"),
    }
}

/// Every value in row-major order as f64.
///
/// Exact for every float; integers beyond 2^53 are rounded. Goes through f32 for f8e4m3, because candle's own
/// conversion of that dtype to f64 never returns.
pub(crate) fn to_f64_vec(tensor: &Tensor) -> Result<Vec<f64>> {
    let flat = on_cpu(tensor)?.flatten_all()?;
    match flat.dtype() {
        DType::F8E4M3 => {
            Ok(flat.to_dtype(DType::F32)?.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
        }
        _ => flat.to_dtype(DType::F64)?.to_vec1(),
    }
}

/// Every value of an integer tensor in row-major order, exact.
pub(crate) fn to_i64_vec(tensor: &Tensor) -> Result<Vec<i64>> {
    on_cpu(tensor)?.flatten_all()?.to_dtype(DType::I64)?.to_vec1()
}

/// The coordinates of the element at `position` in row-major order.
pub(crate) fn multi_index(mut position: usize, dims: &[usize]) -> Vec<usize> {
    let mut index = vec![0; dims.len()];
    for (at, len) in index.iter_mut().zip(dims).rev() {
        *at = position % len;
        position /= len;
    }
    index
}

/// The one value of a scalar.
pub(crate) fn scalar(tensor: &Tensor) -> Result<f64> {
    let value = to_f64_vec(tensor)?;
    match value.as_slice() {
        [value] => Ok(*value),
        _ => candle_core::bail!("{} values where one was expected", value.len()),
    }
}

/// The Euclidean norm, accumulated in f64.
pub(crate) fn norm(tensor: &Tensor) -> Result<f64> {
    if tensor.elem_count() == 0 {
        return Ok(0.0);
    }
    let tensor = on_cpu(tensor)?;
    let (storage, layout) = tensor.storage_and_layout();
    let walk = Walk::new(layout, layout);
    let squares: f64 = for_dtype!(cpu_storage(&storage)?, |values| sum_of_squares(&walk, values));
    Ok(squares.sqrt())
}

fn sum_of_squares<T: Element>(walk: &Walk, values: &[T]) -> f64 {
    let mut buffer = Vec::new();
    let squares = |tile| {
        let block = walk.read(&tile, 0, values, &mut buffer);
        block.iter().map(|value| value.to_f64() * value.to_f64()).sum::<f64>()
    };
    walk.tiles().map(squares).sum()
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
    compare::same_bits(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_readable_dtype_becomes_f64_in_row_major_order() -> Result<()> {
        let x = Tensor::new(&[[0f32, 1., 2.], [3., 4., 5.]], &Device::Cpu)?;
        for dtype in [
            DType::U8,
            DType::U32,
            DType::I16,
            DType::I32,
            DType::I64,
            DType::BF16,
            DType::F16,
            DType::F32,
            DType::F64,
            DType::F8E4M3,
        ] {
            assert!(is_readable(dtype));
            let values = to_f64_vec(&x.to_dtype(dtype)?)?;
            assert_eq!(values, [0., 1., 2., 3., 4., 5.], "{dtype:?}");
        }
        assert_eq!(to_f64_vec(&x.t()?)?, [0., 3., 1., 4., 2., 5.]);
        assert_eq!(to_f64_vec(&x.narrow(1, 1, 1)?)?, [1., 4.]);
        Ok(())
    }

    #[test]
    fn a_position_has_its_coordinates() {
        assert_eq!(multi_index(7, &[2, 3, 4]), [0, 1, 3]);
        assert!(multi_index(0, &[]).is_empty());
    }

    #[test]
    fn bits_tell_what_values_hide() -> Result<()> {
        let new = |v: f32| Tensor::new(&[v], &Device::Cpu);
        assert!(same_bits(&new(f32::NAN)?, &new(f32::NAN)?)?);
        assert!(!same_bits(&new(0.0)?, &new(-0.0)?)?);
        Ok(())
    }
}
