//! Looking through one tensor for values that are not finite, or not in a range.

use candle_core::{Result, Tensor};

use super::{
    compare::{Element, Level, Number, Walk, extent, for_dtype, non_finite},
    values::{cpu_storage, multi_index, on_cpu},
};

/// The values of a tensor that are not finite.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NonFinite {
    pub(crate) elements: usize,
    pub(crate) nan: usize,
    pub(crate) positive_infinity: usize,
    pub(crate) negative_infinity: usize,
    /// The first in row-major order, and what it is.
    pub(crate) first: Option<(Vec<usize>, f64)>,
}

impl NonFinite {
    pub(crate) fn count(&self) -> usize {
        self.nan + self.positive_infinity + self.negative_infinity
    }
}

/// Counts the values that are not finite; integers have none.
pub(crate) fn non_finite_values(tensor: &Tensor) -> Result<NonFinite> {
    let dims = tensor.dims();
    if tensor.elem_count() == 0 {
        return Ok(NonFinite::default());
    }
    let tensor = on_cpu(tensor)?;
    let (storage, layout) = tensor.storage_and_layout();
    let walk = Walk::new(layout, layout);
    for_dtype!(cpu_storage(&storage)?, |values| Ok(count_non_finite(&walk, values, dims)))
}

/// Whether every value is finite. Integers always are.
pub(crate) fn is_finite(tensor: &Tensor) -> Result<bool> {
    Ok(non_finite_values(tensor)?.count() == 0)
}

fn count_non_finite<T: Element>(walk: &Walk, values: &[T], dims: &[usize]) -> NonFinite {
    #[derive(Default)]
    struct Count {
        nan: usize,
        positive: usize,
        negative: usize,
        first: Option<(usize, f64)>,
    }
    let level = Level::detect();
    let count = walk.fold(
        Count::default,
        |count, tile| {
            let mut buffer = Vec::new();
            let block = walk.read(tile, 0, values, &mut buffer);
            if !T::FLOATING || non_finite(level, block) == 0 {
                return;
            }
            for (offset, value) in block.iter().enumerate().filter(|(_, v)| !v.is_finite()) {
                let value = value.to_f64();
                if value.is_nan() {
                    count.nan += 1;
                } else if value > 0.0 {
                    count.positive += 1;
                } else {
                    count.negative += 1;
                }
                let position = walk.position(tile, offset);
                if count.first.is_none_or(|(known, _)| position < known) {
                    count.first = Some((position, value));
                }
            }
        },
        |a, b| Count {
            nan: a.nan + b.nan,
            positive: a.positive + b.positive,
            negative: a.negative + b.negative,
            first: match (a.first, b.first) {
                (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }),
                (a, b) => a.or(b),
            },
        },
    );
    NonFinite {
        elements: dims.iter().product(),
        nan: count.nan,
        positive_infinity: count.positive,
        negative_infinity: count.negative,
        first: count.first.map(|(position, value)| (multi_index(position, dims), value)),
    }
}

/// One end of a range; `None` in its place is no bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct End {
    pub(crate) value: f64,
    pub(crate) excluded: bool,
}

/// How a tensor's values lie about a range.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Extent {
    pub(crate) elements: usize,
    pub(crate) outside: usize,
    pub(crate) nan: usize,
    /// The least and the greatest value with their places, NaN left out.
    pub(crate) least: Option<(Vec<usize>, Number)>,
    pub(crate) greatest: Option<(Vec<usize>, Number)>,
    /// The first NaN in row-major order.
    pub(crate) first_nan: Option<Vec<usize>>,
    /// Whether the least and the greatest value are the ends themselves, as the dtype rounds them.
    pub(crate) reaches_low: bool,
    pub(crate) reaches_high: bool,
}

/// Where the values lie; the ends are rounded to the tensor's dtype first, so that an f32 of 0.1 is not above 0.1.
pub(crate) fn extent_about(tensor: &Tensor, low: Option<End>, high: Option<End>) -> Result<Extent> {
    let dims = tensor.dims();
    let tensor = on_cpu(tensor)?;
    let (storage, layout) = tensor.storage_and_layout();
    if dims.contains(&0) {
        candle_core::bail!("an empty tensor has no least and no greatest value");
    }
    let walk = Walk::new(layout, layout);
    for_dtype!(cpu_storage(&storage)?, |values| Ok(extent_of(&walk, values, low, high, dims)))
}

fn extent_of<T: Element>(
    walk: &Walk,
    values: &[T],
    low: Option<End>,
    high: Option<End>,
    dims: &[usize],
) -> Extent {
    struct Found<T> {
        outside: usize,
        nan: usize,
        first_nan: Option<usize>,
        least: Option<(usize, T)>,
        greatest: Option<(usize, T)>,
    }
    // Of equal values the one further to the front, whatever the threads did.
    fn better<T: Element>(
        a: Option<(usize, T)>,
        b: Option<(usize, T)>,
        beats: fn(T::Wide, T::Wide) -> bool,
    ) -> Option<(usize, T)> {
        match (a, b) {
            (Some(a), Some(b)) => {
                let (x, y) = (a.1.wide(), b.1.wide());
                Some(if beats(y, x) || (x == y && b.0 < a.0) { b } else { a })
            }
            (a, b) => a.or(b),
        }
    }
    let level = Level::detect();
    let unbounded = |value| End { value, excluded: false };
    let low = low.unwrap_or(unbounded(f64::NEG_INFINITY));
    let high = high.unwrap_or(unbounded(f64::INFINITY));
    let lowest = T::lowest(low.value, low.excluded);
    let highest = T::highest(high.value, high.excluded);
    let found = walk.fold(
        || Found::<T> { outside: 0, nan: 0, first_nan: None, least: None, greatest: None },
        |found, tile| {
            let mut buffer = Vec::new();
            let block = walk.read(tile, 0, values, &mut buffer);
            let (outside, ends) = extent(level, block, lowest, highest);
            found.outside += outside as usize;
            if outside > 0 && T::FLOATING {
                for (offset, _) in block.iter().enumerate().filter(|(_, v)| v.is_nan()) {
                    found.nan += 1;
                    let position = walk.position(tile, offset);
                    found.first_nan = Some(found.first_nan.map_or(position, |p| p.min(position)));
                }
            }
            let Some((least, greatest)) = ends else {
                return;
            };
            let site = |wanted: T::Wide| {
                let offset = block.iter().position(|value| value.wide() == wanted)?;
                Some((walk.position(tile, offset), block[offset]))
            };
            if found.least.is_none_or(|(_, known)| least < known.wide()) {
                found.least = site(least);
            }
            if found.greatest.is_none_or(|(_, known)| greatest > known.wide()) {
                found.greatest = site(greatest);
            }
        },
        |a, b| Found {
            outside: a.outside + b.outside,
            nan: a.nan + b.nan,
            first_nan: a.first_nan.into_iter().chain(b.first_nan).min(),
            least: better(a.least, b.least, |x, y| x < y),
            greatest: better(a.greatest, b.greatest, |x, y| x > y),
        },
    );
    let place = |site: (usize, T)| (multi_index(site.0, dims), site.1.number());
    Extent {
        elements: dims.iter().product(),
        outside: found.outside,
        nan: found.nan,
        first_nan: found.first_nan.map(|position| multi_index(position, dims)),
        reaches_low: found.least.is_some_and(|(_, value)| value.wide() == lowest),
        reaches_high: found.greatest.is_some_and(|(_, value)| value.wide() == highest),
        least: found.least.map(place),
        greatest: found.greatest.map(place),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;

    #[test]
    fn each_kind_of_non_finite_value_is_counted_and_the_first_is_placed() -> Result<()> {
        let x = Tensor::new(&[[0., 1., -INF], [NAN, INF, NAN]], &Device::Cpu)?;
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            let found = non_finite_values(&x.to_dtype(dtype)?)?;
            assert_eq!((found.nan, found.positive_infinity, found.negative_infinity), (2, 1, 1));
            assert_eq!(found.first, Some((vec![0, 2], f64::NEG_INFINITY)));
            assert_eq!(found.count(), 4);
        }
        let turned = non_finite_values(&x.t()?)?;
        assert_eq!(turned.first.map(|(index, _)| index), Some(vec![0, 1]));
        let integers = Tensor::new(&[1u32, 2], &Device::Cpu)?;
        assert_eq!(non_finite_values(&integers)?.count(), 0);
        let f8 = Tensor::new(&[1f32, NAN], &Device::Cpu)?.to_dtype(DType::F8E4M3)?;
        assert_eq!(non_finite_values(&f8)?.nan, 1);
        Ok(())
    }

    #[test]
    fn a_large_tensor_is_scanned_on_several_threads_with_one_answer() -> Result<()> {
        let mut values = vec![0.5f32; 300_000];
        values[123_456] = NAN;
        values[250_000] = -3.0;
        let x = Tensor::from_vec(values, (300, 1000), &Device::Cpu)?;
        assert_eq!(non_finite_values(&x)?.first.map(|f| f.0), Some(vec![123, 456]));
        let inside = End { value: 0.0, excluded: false };
        let found = extent_about(&x, Some(inside), None)?;
        assert_eq!((found.outside, found.nan), (2, 1));
        assert_eq!(found.least, Some((vec![250, 0], Number::Single(-3.0))));
        assert_eq!(found.greatest.map(|(index, _)| index), Some(vec![0, 0]));
        Ok(())
    }
}
