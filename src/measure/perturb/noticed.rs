//! Which cells of an output differ.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::cells::as_cells;
use crate::measure::{
    compare::{self, Element, for_dtype},
    values::{cpu_storage, on_cpu, to_f64_vec},
};

/// Below this many bytes the comparison is over before other threads have woken up.
const WORTH_THREADS: usize = 1 << 20;

/// For every cell, in the order of [`Mix`](super::Mix), whether two outputs of one shape and dtype differ there in any
/// bit. Rows where `dim` is 0, else positions of rows along `dim`.
pub(crate) fn cells_that_differ(a: &Tensor, b: &Tensor, dim: usize) -> Result<Vec<bool>> {
    if a.dims() != b.dims() || a.dtype() != b.dtype() {
        candle_core::bail!(
            "{:?} {} beside {:?} {} for inputs of one shape",
            a.dims(),
            a.dtype().as_str(),
            b.dims(),
            b.dtype().as_str(),
        );
    }
    let (a, b) = (as_cells(&on_cpu(a)?, dim)?, as_cells(&on_cpu(b)?, dim)?);
    let cells = a.dim(0)?;
    if a.elem_count() == 0 {
        return Ok(vec![false; cells]);
    }
    let ((left, left_layout), (right, right_layout)) =
        (a.storage_and_layout(), b.storage_and_layout());
    let starts = (left_layout.start_offset(), right_layout.start_offset());
    for_dtype!(cpu_storage(&left)?, cpu_storage(&right)?, |x, y| {
        let count = a.elem_count();
        Ok(differing(&x[starts.0..starts.0 + count], &y[starts.1..starts.1 + count], cells))
    })
}

fn differing<T: Element>(a: &[T], b: &[T], cells: usize) -> Vec<bool> {
    let width = a.len() / cells;
    let differ = |(a, b): (&[T], &[T])| !compare::same_slice_bits(a, b);
    match size_of_val(a) < WORTH_THREADS {
        true => a.chunks(width).zip(b.chunks(width)).map(differ).collect(),
        false => a.par_chunks(width).zip(b.par_chunks(width)).map(differ).collect(),
    }
}

/// For every cell the largest difference between two outputs of one shape: 0 where all values are equal (a zero is equal
/// to a zero of the other sign), infinite where a number became NaN.
pub(crate) fn differences(a: &Tensor, b: &Tensor, dim: usize) -> Result<Vec<f64>> {
    let of = |t: &Tensor| -> Result<(Vec<f64>, usize)> {
        let cells = as_cells(&on_cpu(t)?, dim)?;
        Ok((to_f64_vec(&cells)?, cells.dim(0)?))
    };
    let ((a, cells), (b, _)) = (of(a)?, of(b)?);
    if a.is_empty() || a.len() != b.len() {
        return Ok(vec![0.0; cells]);
    }
    let apart = |(a, b): (&f64, &f64)| match (a - b).abs() {
        _ if a == b || (a.is_nan() && b.is_nan()) => 0.0,
        apart if apart.is_nan() => f64::INFINITY,
        apart => apart,
    };
    let width = a.len() / cells;
    let most = |(a, b): (&[f64], &[f64])| a.iter().zip(b).map(apart).fold(0.0, f64::max);
    Ok(a.chunks(width).zip(b.chunks(width)).map(most).collect())
}

/// The largest difference in a cell, and the largest size of its values in `a`; NaN where the difference is none.
pub(crate) fn largest_difference(
    a: &Tensor,
    b: &Tensor,
    dim: usize,
    cell: usize,
) -> Result<(f64, f64)> {
    let of = |t: &Tensor| to_f64_vec(&as_cells(&on_cpu(t)?, dim)?.get(cell)?);
    let (a, b) = (of(a)?, of(b)?);
    let apart = |(a, b): (&f64, &f64)| if a == b { 0.0 } else { (a - b).abs() };
    let difference = a.iter().zip(&b).map(apart).fold(0.0, |most: f64, d| match d.is_nan() {
        true => d,
        false => {
            if most.is_nan() {
                most
            } else {
                most.max(d)
            }
        }
    });
    Ok((difference, a.iter().map(|v| v.abs()).fold(0.0, f64::max)))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_bit_in_a_cell_is_seen_whatever_the_layout() -> Result<()> {
        let a = Tensor::arange(0f32, 12.0, &Device::Cpu)?.reshape((2, 3, 2))?;
        let mut values: Vec<f32> = a.flatten_all()?.to_vec1()?;
        values[7] = f32::from_bits(7f32.to_bits() + 1);
        values[0] = -0.0;
        let b = Tensor::from_vec(values, (2, 3, 2), &Device::Cpu)?;
        assert_eq!(cells_that_differ(&a, &b, 0)?, [true, true]);
        assert_eq!(cells_that_differ(&a, &b, 1)?, [true, false, false, true, false, false]);
        assert_eq!(cells_that_differ(&a, &b, 2)?, [true, false, false, true]);
        let (a, b) = (a.transpose(0, 1)?, b.transpose(0, 1)?);
        assert_eq!(cells_that_differ(&a, &b, 0)?, [true, false, false]);
        let (difference, size) = largest_difference(&a, &b, 0, 0)?;
        assert!(difference > 0.0 && difference < 1e-5 && size == 7.0);
        assert!(cells_that_differ(&a, &b.flatten_all()?, 0).is_err());
        Ok(())
    }

    #[test]
    fn differences_are_of_values() -> Result<()> {
        let a = Tensor::new(&[[0f32, f32::INFINITY, 1.0], [f32::NAN, 2.0, 3.0]], &Device::Cpu)?;
        let b =
            Tensor::new(&[[-0f32, f32::INFINITY, 1.5], [f32::NAN, f32::NAN, 3.0]], &Device::Cpu)?;
        assert_eq!(differences(&a, &b, 0)?, [0.5, f64::INFINITY]);
        assert_eq!(differences(&a, &b, 1)?, [0.0, 0.0, 0.5, 0.0, f64::INFINITY, 0.0]);
        Ok(())
    }

    #[test]
    fn nan_is_the_same_nan() -> Result<()> {
        let a = Tensor::new(&[f32::NAN, 1.0], &Device::Cpu)?;
        assert_eq!(cells_that_differ(&a, &a.copy()?, 0)?, [false, false]);
        Ok(())
    }
}
