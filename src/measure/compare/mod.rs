//! Comparing two tensors element by element, in one pass over their storage.
//!
//! Blocks that are equal bit for bit pass by a comparison of bytes; the others by a loop without branches; only a
//! block with a mismatch is looked at again, while it is still in the cache. Nothing the size of a tensor is allocated.

mod account;
mod element;
mod kernel;
mod narrow;
mod number;
pub(crate) mod pattern;
mod walk;

use std::ops::ControlFlow;

use candle_core::{CpuStorage, Result, Tensor};

pub(crate) use account::{Comparison, Mismatches, Place};
pub(crate) use element::Element;
pub(crate) use kernel::{Level, extent, non_finite, same_bits as same_slice_bits};
pub(crate) use narrow::F8;
pub(crate) use number::Number;
pub(crate) use walk::Walk;

use super::values::{cpu_storage, on_cpu};

/// `|actual - expected| <= absolute + relative * |expected|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) relative: f64,
    pub(crate) absolute: f64,
}

/// Runs one generic expression on the storage of whatever dtype there is, so that callers are compiled once.
macro_rules! for_dtype {
    ($one:expr, |$x:ident| $body:expr) => {
        for_dtype!(@one $one, $x, $body, U8 U32 I16 I32 I64 BF16 F16 F32 F64)
    };
    ($one:expr, $two:expr, |$x:ident, $y:ident| $body:expr) => {
        for_dtype!(@two $one, $two, $x, $y, $body, U8 U32 I16 I32 I64 BF16 F16 F32 F64)
    };
    (@one $one:expr, $x:ident, $body:expr, $($variant:ident)*) => {
        match $one {
            $( candle_core::CpuStorage::$variant($x) => $body, )*
            candle_core::CpuStorage::F8E4M3($x) => {
                let $x = for_dtype!(@bytes $x);
                let $x = $x.as_slice();
                $body
            }
            _ => candle_core::bail!("values of this dtype cannot be read"),
        }
    };
    (@two $one:expr, $two:expr, $x:ident, $y:ident, $body:expr, $($variant:ident)*) => {
        match ($one, $two) {
            $( (candle_core::CpuStorage::$variant($x), candle_core::CpuStorage::$variant($y)) => $body, )*
            (candle_core::CpuStorage::F8E4M3($x), candle_core::CpuStorage::F8E4M3($y)) => {
                let ($x, $y) = (for_dtype!(@bytes $x), for_dtype!(@bytes $y));
                let ($x, $y) = ($x.as_slice(), $y.as_slice());
                $body
            }
            _ => candle_core::bail!("values of this dtype cannot be read"),
        }
    };
    // candle does not export its f8 type, so it cannot be named and implement a trait; its bytes can be copied.
    (@bytes $x:ident) => {
        $x.iter().map(|value| $crate::measure::compare::F8(value.to_bits())).collect::<Vec<_>>()
    };
}
pub(crate) use for_dtype;

/// Compares two tensors of one shape and one dtype that [`is_readable`](super::values::is_readable).
pub(crate) fn compare(actual: &Tensor, expected: &Tensor, bounds: Bounds) -> Result<Comparison> {
    let dims = actual.dims();
    with_storages(actual, expected, |walk, left, right| {
        for_dtype!(left, right, |x, y| Ok(account::take(walk, x, y, bounds, dims)))
    })
    .map(|done| done.unwrap_or_else(Comparison::of_nothing))
}

/// Whether two tensors of one shape and one dtype hold the same bits, so that a NaN equals itself.
pub(crate) fn same_bits(actual: &Tensor, expected: &Tensor) -> Result<bool> {
    with_storages(actual, expected, |walk, left, right| {
        for_dtype!(left, right, |x, y| Ok(same_slices(walk, x, y)))
    })
    .map(|same| same.unwrap_or(true))
}

fn same_slices<T: Element>(walk: &Walk, actual: &[T], expected: &[T]) -> bool {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    walk.tiles().all(|tile| {
        kernel::same_bits(
            walk.read(&tile, 0, actual, &mut left),
            walk.read(&tile, 1, expected, &mut right),
        )
    })
}

/// One pair of elements on its way past a visitor.
pub(crate) struct Pair<'w> {
    pub(crate) actual: f64,
    pub(crate) expected: f64,
    /// Exact where the difference is, even between integers that f64 cannot tell apart.
    pub(crate) difference: f64,
    pub(crate) ulps: Option<u64>,
    pub(crate) within: bool,
    walk: &'w Walk,
    tile: &'w walk::Tile,
    offset: usize,
}

impl Pair<'_> {
    /// Its row-major position.
    pub(crate) fn position(&self) -> usize {
        self.walk.position(self.tile, self.offset)
    }
}

/// Shows every pair to `visitor`, in memory's order, on this thread, until it breaks; whether it never did.
pub(crate) fn visit(
    actual: &Tensor,
    expected: &Tensor,
    bounds: Bounds,
    visitor: &mut dyn FnMut(&Pair<'_>) -> ControlFlow<()>,
) -> Result<bool> {
    with_storages(actual, expected, |walk, left, right| {
        for_dtype!(left, right, |x, y| Ok(visit_slices(walk, x, y, bounds, visitor)))
    })
    .map(|flow| !flow.is_some_and(|flow| flow.is_break()))
}

fn visit_slices<T: Element>(
    walk: &Walk,
    actual: &[T],
    expected: &[T],
    bounds: Bounds,
    visitor: &mut dyn FnMut(&Pair<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let bound = T::bound(bounds.relative, bounds.absolute);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for tile in walk.tiles() {
        let xs = walk.read(&tile, 0, actual, &mut left);
        let ys = walk.read(&tile, 1, expected, &mut right);
        for (offset, (x, y)) in xs.iter().zip(ys).enumerate() {
            let distance = x.distance(*y);
            visitor(&Pair {
                actual: x.to_f64(),
                expected: y.to_f64(),
                difference: T::distance_to_f64(distance),
                ulps: x.ulps(*y),
                within: T::within(distance, *y, bound),
                walk,
                tile: &tile,
                offset,
            })?;
        }
    }
    ControlFlow::Continue(())
}

/// `None` where there is no element to walk over.
fn with_storages<R>(
    actual: &Tensor,
    expected: &Tensor,
    work: impl FnOnce(&Walk, &CpuStorage, &CpuStorage) -> Result<R>,
) -> Result<Option<R>> {
    if actual.shape() != expected.shape() || actual.dtype() != expected.dtype() {
        candle_core::bail!("only tensors of one shape and one dtype can be compared");
    }
    if actual.elem_count() == 0 {
        return Ok(None);
    }
    let (actual, expected) = (on_cpu(actual)?, on_cpu(expected)?);
    let (left, left_layout) = actual.storage_and_layout();
    let (right, right_layout) = expected.storage_and_layout();
    let walk = Walk::new(left_layout, right_layout);
    work(&walk, cpu_storage(&left)?, cpu_storage(&right)?).map(Some)
}

#[cfg(test)]
mod tests;
