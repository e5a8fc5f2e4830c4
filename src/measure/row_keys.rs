//! Which rows of two tensors hold the same values: by a hash of each row, in one pass.

use std::collections::HashMap;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::values::{is_floating, to_f64_vec, to_i64_vec};

/// Rows of equal values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shared {
    /// A row of the second tensor and the first row of the first that equals it, in the second's order.
    pub(crate) pairs: Vec<(usize, usize)>,
    /// How many rows of each equal an earlier row of the same.
    pub(crate) repeated: [usize; 2],
}

/// Compares all rows with all, by value: -0 equals 0, NaN equals NaN, and a number equals itself in another dtype.
///
/// Both have rows of the same dimensions, and at least one row.
pub(crate) fn shared(first: &Tensor, second: &Tensor) -> Result<Shared> {
    // Two floats may round to one; what both can hold is compared as it is.
    let integers = !is_floating(first.dtype()) && !is_floating(second.dtype());
    let [first, second] = [keys(first, integers)?, keys(second, integers)?];
    let (known, repeated_first) = index(&first);
    let (_, repeated_second) = index(&second);
    let pairs = (second.iter().enumerate())
        .filter_map(|(row, key)| Some((row, *known.get(key)?)))
        .collect();
    Ok(Shared { pairs, repeated: [repeated_first, repeated_second] })
}

/// The first row of each key, and how many rows are not the first of theirs.
fn index(keys: &[u128]) -> (HashMap<u128, usize>, usize) {
    let mut known = HashMap::with_capacity(keys.len());
    for (row, key) in keys.iter().enumerate() {
        known.entry(*key).or_insert(row);
    }
    let repeated = keys.len() - known.len();
    (known, repeated)
}

/// Values a block holds: small enough for a cache, large enough to be worth a call.
const BLOCK: usize = 1 << 16;

/// 128 bits a row: among a million rows of any data two different ones share a key with a chance of 1e-27.
fn keys(tensor: &Tensor, integers: bool) -> Result<Vec<u128>> {
    let n = tensor.dims()[0];
    let width = tensor.elem_count() / n;
    let rows = (BLOCK / width).max(1);
    let blocks: Vec<usize> = (0..n).step_by(rows).collect();
    let keys = blocks.into_par_iter().map(|start| {
        let block = tensor.narrow(0, start, rows.min(n - start))?;
        let values: Vec<u64> = match integers {
            true => to_i64_vec(&block)?.into_iter().map(|v| v as u64).collect(),
            false => to_f64_vec(&block)?.into_iter().map(canonical).collect(),
        };
        Ok(values.chunks_exact(width).map(key).collect::<Vec<u128>>())
    });
    Ok(keys.collect::<Result<Vec<_>>>()?.concat())
}

fn canonical(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    }
}

/// Two lanes of multiply and fold, each over all values of the row.
fn key(row: &[u64]) -> u128 {
    const LANES: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];
    let mut state = LANES;
    for value in row {
        for (state, odd) in state.iter_mut().zip(LANES) {
            let product = u128::from(*state ^ value).wrapping_mul(u128::from(odd));
            *state = (product as u64).rotate_left(23) ^ (product >> 64) as u64;
        }
    }
    u128::from(state[0]) << 64 | u128::from(state[1])
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn rows_are_compared_by_value() -> Result<()> {
        let a = Tensor::new(&[[0f32, 1.0], [f32::NAN, 2.0], [0.0, 1.0]], &Device::Cpu)?;
        let b = Tensor::new(&[[f64::NAN, 2.0], [-0.0, 1.0], [1.0, 0.0]], &Device::Cpu)?;
        let found = shared(&a, &b)?;
        assert_eq!(found, Shared { pairs: vec![(0, 1), (1, 0)], repeated: [1, 0] });
        let large = Tensor::new(&[[1i64 << 53], [(1 << 53) + 1]], &Device::Cpu)?;
        assert_eq!(shared(&large, &large)?.repeated, [0, 0]);
        assert_eq!(shared(&large, &large.narrow(0, 1, 1)?)?.pairs, [(0, 1)]);
        Ok(())
    }

    #[test]
    fn many_rows_in_many_blocks_have_the_keys_of_their_own() -> Result<()> {
        let values: Vec<u32> = (0..40_000).collect();
        let a = Tensor::from_vec(values, (20_000, 2), &Device::Cpu)?;
        let b = a.narrow(0, 19_990, 10)?.to_dtype(DType::F32)?;
        let found = shared(&a, &b)?;
        assert_eq!(found.pairs, (0..10).map(|i| (i, 19_990 + i)).collect::<Vec<_>>());
        assert_eq!(found.repeated, [0, 0]);
        // A zero more or less in front makes another key.
        let zeros = Tensor::zeros((3, 1), DType::U8, &Device::Cpu)?;
        assert_eq!(shared(&zeros, &zeros)?.repeated, [2, 2]);
        Ok(())
    }
}
