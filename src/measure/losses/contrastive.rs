//! Losses of pairs: row i of one tensor belongs to row i of the other, and to none else.

use super::{Point, rows::log_sum_exp};
use crate::measure::vectors::{dot, length};

/// Which rows are compared with which.
///
/// *Source:* InfoNCE, A. van den Oord et al., 2018; both directions, CLIP, A. Radford et al., 2021; two views in one pool,
/// NT-Xent, T. Chen et al. (SimCLR), 2020.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pairs {
    pub(crate) temperature: f64,
    /// The targets look for their predictions, too.
    pub(crate) both_ways: bool,
    /// Predictions and targets are one pool: every row is compared with all others of both.
    pub(crate) one_pool: bool,
    /// In one pool: a row is compared with itself, too.
    pub(crate) with_itself: bool,
}

/// The cost of each pair.
pub(super) fn costs(pairs: Pairs, point: &Point, normalised: bool) -> Vec<f64> {
    let unit = normalised.then(|| point.map_rows(unit));
    let a = unit.as_ref().unwrap_or(point);
    let a: Vec<&[f64]> = a.prediction.chunks_exact(point.width).collect();
    let b: Vec<&[f64]> = point.target.chunks_exact(point.width).collect();
    if !pairs.one_pool {
        let there = one_way(&a, &b, pairs.temperature);
        return match pairs.both_ways {
            true => {
                let back = one_way(&b, &a, pairs.temperature);
                there.iter().zip(back).map(|(there, back)| (there + back) / 2.0).collect()
            }
            false => there,
        };
    }
    let pool: Vec<&[f64]> = a.iter().chain(&b).copied().collect();
    let n = a.len();
    let cost = |i: usize| {
        let score = |j: usize| dot(pool[i], pool[j]) / pairs.temperature;
        let others = (0..2 * n).filter(|j| pairs.with_itself || *j != i).map(score);
        log_sum_exp(others) - score((i + n) % (2 * n))
    };
    (0..n).map(|i| (cost(i) + cost(i + n)) / 2.0).collect()
}

fn unit(row: &[f64]) -> Vec<f64> {
    let size = length(row);
    row.iter().map(|v| v / size).collect()
}

fn one_way(from: &[&[f64]], to: &[&[f64]], temperature: f64) -> Vec<f64> {
    let cost = |(i, row): (usize, &&[f64])| {
        let scores = to.iter().map(|other| dot(row, other) / temperature);
        log_sum_exp(scores) - dot(row, to[i]) / temperature
    };
    from.iter().enumerate().map(cost).collect()
}
