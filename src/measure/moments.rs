//! Mean and deviation of a tensor or of its channels, and how exactly its rows tell them.

use candle_core::{Result, Tensor};

use super::values::to_f64_vec;

/// The values of one channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Channel {
    /// How many values.
    pub(crate) elements: usize,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
    pub(crate) mean: f64,
    /// The mean square distance from the mean.
    pub(crate) variance: f64,
    /// The standard errors of both, from the spread between rows: values of one row (the pixels of an image) tell of each
    /// other, so they do not count as samples (cluster-robust errors: Liang and Zeger 1986).
    pub(crate) mean_error: f64,
    pub(crate) variance_error: f64,
    /// How many rows have a root mean square above each of [`LARGE`].
    pub(crate) large: [usize; LARGE.len()],
}

/// Sizes of a row that are rare in data of mean square 1.
pub(crate) const LARGE: [f64; 4] = [2.0, 4.0, 8.0, 16.0];

/// The channels of `x`: the indices of dimension `dim`, which is not the first; without it, one channel of everything.
///
/// `x` has at least one row, one element and no value that is not finite.
pub(crate) fn channels(x: &Tensor, dim: Option<usize>) -> Result<Vec<Channel>> {
    let dims = x.dims();
    let rows = dims[0];
    let width = x.elem_count() / rows;
    let (count, after) = match dim {
        Some(dim) => (dims[dim], dims[dim + 1..].iter().product::<usize>()),
        None => (1, 1),
    };
    let part = (width / count) as f64;
    let mut sums = vec![0.0; count];
    let mut ends = vec![(f64::INFINITY, f64::NEG_INFINITY); count];
    blocks(x, |block| {
        for (position, value) in block.iter().enumerate() {
            let channel = position / after % count;
            sums[channel] += value;
            let (least, greatest) = &mut ends[channel];
            *least = least.min(*value);
            *greatest = greatest.max(*value);
        }
    })?;
    let n = rows as f64;
    let means: Vec<f64> = sums.iter().map(|sum| sum / (n * part)).collect();
    // Of each row: its mean's and its mean square's distance from the channel's mean.
    let mut spread = vec![[0.0; 3]; count];
    let mut row_sums = vec![[0.0; 2]; count];
    let mut large = vec![[0; LARGE.len()]; count];
    blocks(x, |block| {
        for row in block.chunks_exact(width) {
            row_sums.fill([0.0; 2]);
            for (position, value) in row.iter().enumerate() {
                let channel = position / after % count;
                let apart = value - means[channel];
                row_sums[channel][0] += apart;
                row_sums[channel][1] += apart * apart;
            }
            for (channel, ([apart, square], spread)) in row_sums.iter().zip(&mut spread).enumerate()
            {
                let (apart, square) = (apart / part, square / part);
                let mean = means[channel];
                let about_zero = square + 2.0 * mean * apart + mean * mean;
                for (count, size) in large[channel].iter_mut().zip(LARGE) {
                    *count += usize::from(about_zero > size * size);
                }
                spread[0] += apart * apart;
                spread[1] += square;
                spread[2] += square * square;
            }
        }
    })?;
    // One row tells nothing of the spread between rows.
    let error = |squares: f64| match rows {
        1 => f64::INFINITY,
        _ => (squares.max(0.0) / (n - 1.0) / n).sqrt(),
    };
    Ok((0..count)
        .map(|channel| {
            let [apart, squares, fourths] = spread[channel];
            let variance = squares / n;
            Channel {
                elements: rows * (width / count),
                least: ends[channel].0,
                greatest: ends[channel].1,
                mean: means[channel],
                variance,
                mean_error: error(apart),
                variance_error: error(fourths - n * variance * variance),
                large: large[channel],
            }
        })
        .collect())
}

/// Values a block holds, in whole rows.
const BLOCK: usize = 1 << 18;

/// Gives all values in row-major order, some rows at a time: a copy in f64 of everything may not fit.
fn blocks(x: &Tensor, mut look: impl FnMut(&[f64])) -> Result<()> {
    let rows = x.dims()[0];
    let at_once = (BLOCK * rows / x.elem_count()).max(1);
    for start in (0..rows).step_by(at_once) {
        look(&to_f64_vec(&x.narrow(0, start, at_once.min(rows - start))?)?);
    }
    Ok(())
}

/// How the values lie on the grids that bytes leave behind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Grid {
    /// All are whole numbers.
    pub(crate) whole: bool,
    /// All are whole numbers divided by 255, to the rounding of f32.
    pub(crate) of_255: bool,
    /// All are whole numbers divided by 255 twice.
    pub(crate) of_255_twice: bool,
}

pub(crate) fn grid(x: &Tensor) -> Result<Grid> {
    let mut grid = Grid { whole: true, of_255: true, of_255_twice: true };
    let near = |value: f64| (value - value.round()).abs() < 1e-3;
    blocks(x, |block| {
        for value in block {
            grid.whole &= *value == value.round();
            grid.of_255 &= near(value * 255.0);
            grid.of_255_twice &= near(value * 255.0 * 255.0);
        }
    })?;
    Ok(grid)
}

/// A value that stands apart, exactly repeated or not, and the moments of all others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Apart {
    pub(crate) value: f64,
    pub(crate) times: usize,
    pub(crate) first: usize,
    pub(crate) mean: f64,
    pub(crate) variance: f64,
    /// Whether the others are of more than two values.
    pub(crate) varied: bool,
}

/// The least or the greatest value, whichever is farther from the mean of all others. `x` has at least one row.
pub(crate) fn farthest(x: &Tensor) -> Result<Option<Apart>> {
    let mut ends = [f64::INFINITY, f64::NEG_INFINITY];
    blocks(x, |block| {
        for value in block {
            ends = [ends[0].min(*value), ends[1].max(*value)];
        }
    })?;
    if x.elem_count() == 0 || ends[0] == ends[1] {
        return Ok(None);
    }
    let apart = [without(x, ends[0])?, without(x, ends[1])?];
    let distance = |apart: &Apart| (apart.value - apart.mean).abs();
    let [low, high] = apart;
    Ok(Some(if distance(&low) > distance(&high) { low } else { high }))
}

/// The moments of all values that are not `value`, of which there is at least one.
fn without(x: &Tensor, value: f64) -> Result<Apart> {
    let (mut times, mut first, mut seen, mut sum) = (0, None, 0, 0.0);
    let (mut one, mut two, mut varied) = (None, None, false);
    blocks(x, |block| {
        for v in block {
            if *v == value {
                times += 1;
                first.get_or_insert(seen);
            } else {
                sum += v;
                let one = *one.get_or_insert(*v);
                varied |= *v != one && *v != *two.get_or_insert(*v);
            }
            seen += 1;
        }
    })?;
    let n = (seen - times) as f64;
    let mean = sum / n;
    let mut squares = 0.0;
    blocks(x, |block| {
        let others = block.iter().filter(|v| **v != value);
        squares += others.map(|v| (v - mean).powi(2)).sum::<f64>();
    })?;
    let first = first.unwrap_or(0);
    Ok(Apart { value, times, first, mean, variance: squares / n, varied })
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn channels_have_their_own_moments() -> Result<()> {
        let x =
            Tensor::new(&[[[1f32, 3.0], [10.0, 10.0]], [[5.0, 7.0], [20.0, 20.0]]], &Device::Cpu)?;
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            let x = x.to_dtype(dtype)?;
            let found = channels(&x, Some(1))?;
            assert_eq!((found[0].mean, found[0].variance), (4.0, 5.0));
            assert_eq!((found[1].mean, found[1].variance, found[1].elements), (15.0, 25.0, 4));
            assert_eq!((found[1].least, found[1].greatest), (10.0, 20.0));
            // Row means 2 and 6: a deviation of sqrt(8), over sqrt(2) rows.
            assert!((found[0].mean_error - 2.0).abs() < 1e-12);
            assert_eq!(found[0].variance_error, 0.0);
            let all = channels(&x, None)?;
            assert_eq!((all.len(), all[0].mean), (1, 9.5));
            assert_eq!(channels(&x.transpose(1, 2)?, Some(2))?, found);
        }
        Ok(())
    }

    #[test]
    fn the_farthest_value_is_told_from_all_others() -> Result<()> {
        let x = Tensor::new(&[[1f32, 2.0, -999.0], [3.0, -999.0, 2.0]], &Device::Cpu)?;
        let found = farthest(&x)?;
        let (mean, variance) = (2.0, 0.5);
        let wanted = Apart { value: -999.0, times: 2, first: 2, mean, variance, varied: true };
        assert_eq!(found, Some(wanted));
        let two = Tensor::new(&[[0f32, 1.0, 99.0, 1.0]], &Device::Cpu)?;
        assert!(farthest(&two)?.is_some_and(|apart| apart.value == 99.0 && !apart.varied));
        assert_eq!(farthest(&Tensor::ones((2, 2), DType::F32, &Device::Cpu)?)?, None);
        Ok(())
    }

    #[test]
    fn many_rows_are_read_in_blocks() -> Result<()> {
        let x = Tensor::arange(0u32, 600_000, &Device::Cpu)?.reshape((200_000, 3))?;
        let found = channels(&x, Some(1))?;
        assert_eq!(found[1].mean, 299_999.5);
        assert_eq!((found[2].least, found[2].greatest), (2.0, 599_999.0));
        Ok(())
    }
}
