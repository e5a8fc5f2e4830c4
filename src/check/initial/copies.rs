//! Rows of one weight, or whole weights, that are equal bit for bit and should have been drawn.

use std::{
    collections::{HashMap, HashSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};

use candle_core::DType;

use crate::measure::noise::{epsilon, short_format};

/// Equal by chance less often than this.
const BY_CHANCE: f64 = 1e-9;

/// A weight's values are a format's: draws of few bits meet by chance.
#[derive(Clone, Copy)]
pub(super) struct Grain {
    /// How likely it is that two draws are equal.
    meet: f64,
}

impl Grain {
    /// Draws of a format with `m` bits behind the point meet about once in `2^m`, or less often. Values that were cast up
    /// from a shorter format have that one's.
    pub(super) fn of(dtype: DType, values: &[f64]) -> Self {
        let own = epsilon(dtype).unwrap_or(1.0);
        // candle's and PyTorch's f32 draws have 24 bits, whatever they are cast to.
        let drawn = own.max(f64::powi(2.0, -23));
        Self { meet: short_format(values, drawn) }
    }

    /// Whether `pairs` of `length` draws each hold no equal one by chance.
    fn tells(self, length: usize, pairs: f64) -> bool {
        pairs * self.meet.powf(length as f64) < BY_CHANCE
    }
}

/// Rows that are equal.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EqualRows {
    /// The first group of equal rows.
    pub(super) first: Vec<usize>,
    /// How many rows have another like them, before them.
    pub(super) repeated: usize,
    pub(super) rows: usize,
}

/// Rows of `width` values that are equal and look drawn. Rows of zeros are left alone: padding, reserved ids, gates.
pub(super) fn equal_rows(values: &[f64], width: usize, grain: Grain) -> Option<EqualRows> {
    let rows = values.len() / width.max(1);
    let pairs = rows as f64 * (rows as f64 - 1.0) / 2.0;
    if width < 2 || rows < 2 || !grain.tells(width, pairs) {
        return None;
    }
    let mut seen: HashMap<u64, Vec<Vec<usize>>> = HashMap::new();
    for (at, row) in values.chunks_exact(width).enumerate() {
        if row.iter().all(|value| *value == 0.0) {
            continue;
        }
        let groups = seen.entry(hash(row)).or_default();
        let same = |group: &&mut Vec<usize>| {
            let first = group[0] * width;
            same(&values[first..first + width], row)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(at),
            None => groups.push(vec![at]),
        }
    }
    let mut groups: Vec<Vec<usize>> = seen.into_values().flatten().collect();
    groups.retain(|group| {
        let first = group[0] * width;
        group.len() > 1 && looks_drawn(&values[first..first + width])
    });
    groups.sort();
    let repeated = groups.iter().map(|group| group.len() - 1).sum();
    groups.into_iter().next().map(|first| EqualRows { first, repeated, rows })
}

/// Values that no formula of a few numbers gives: an identity, a mask, a Dirac kernel hold two.
pub(super) fn looks_drawn(values: &[f64]) -> bool {
    const ENOUGH: usize = 64;
    let mut distinct = HashSet::with_capacity(ENOUGH);
    values.iter().any(|value| {
        // -0 is 0.
        distinct.insert((value + 0.0).to_bits());
        2 * distinct.len() > values.len() || distinct.len() >= ENOUGH
    })
}

/// Whether two whole weights of so many values cannot be equal by chance.
pub(super) fn tells_weights(values: &[f64], grain: Grain, weights: usize) -> bool {
    let pairs = (weights * weights) as f64 / 2.0;
    looks_drawn(values) && grain.tells(values.len(), pairs)
}

/// The same on every run: groups are found by it, and shown in the order of names.
pub(super) fn hash(values: &[f64]) -> u64 {
    let mut hasher = DefaultHasher::new();
    values.iter().for_each(|value| value.to_bits().hash(&mut hasher));
    hasher.finish()
}

fn same(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result};

    use super::*;
    use crate::{Seed, measure::values::to_f64_vec};

    fn drawn(shape: (usize, usize), dtype: DType) -> Result<Vec<f64>> {
        to_f64_vec(&Seed::new(1).normal("w", shape, dtype, &Device::Cpu)?)
    }

    #[test]
    fn a_repeated_row_is_found_in_every_format() -> Result<()> {
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            let mut values = drawn((20, 16), dtype)?;
            let grain = Grain::of(dtype, &values);
            assert_eq!(equal_rows(&values, 16, grain), None);
            values.copy_within(0..16, 7 * 16);
            values.copy_within(0..16, 9 * 16);
            let found = EqualRows { first: vec![0, 7, 9], repeated: 2, rows: 20 };
            assert_eq!(equal_rows(&values, 16, grain), Some(found), "{dtype:?}");
        }
        Ok(())
    }

    #[test]
    fn what_meets_by_chance_or_by_formula_is_no_copy() -> Result<()> {
        // Two of 500 pairs of bf16 numbers are often equal.
        let narrow = drawn((500, 2), DType::BF16)?;
        let grain = Grain::of(DType::BF16, &narrow);
        assert_eq!(equal_rows(&narrow, 2, grain), None);
        // The same numbers, cast up.
        assert_eq!(equal_rows(&narrow, 2, Grain::of(DType::F32, &narrow)), None);
        let wide = Grain { meet: 1e-7 };
        let ternary = [1.0, -1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 1.0, 1.0, -1.0, 1.0, 1.0];
        assert_eq!(equal_rows(&ternary, 6, wide), None);
        let mut zeros = drawn((3, 8), DType::F32)?;
        zeros[8..].fill(0.0);
        assert_eq!(equal_rows(&zeros, 8, wide), None);
        Ok(())
    }
}
