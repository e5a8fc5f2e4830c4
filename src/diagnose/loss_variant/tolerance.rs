//! How close a loss closure must come to a formula.

use crate::measure::losses::{Point, Reduction, Terms};

/// A small constant inside a logarithm, 1e-8 to 1e-6 as is usual, is a form of the same loss: it moves the value by less
/// than this share. The mistakes looked for move it by a hundred times as much.
const SHARE: f64 = 1e-4;

/// Roundings in the cost of one row: a maximum taken off, an exponential, a sum, a logarithm.
const ROUNDINGS: f64 = 8.0;

/// What rounding may add to this loss. `epsilon` is the distance from 1 to the next number of the dtype; half of it is the
/// largest error of one operation. Those of a sum of n terms add up as a random walk of n steps does.
pub(crate) fn tolerance(terms: &Terms, point: &Point, reduction: Reduction, epsilon: f64) -> f64 {
    let largest = point.prediction.iter().map(|v| v.abs()).fold(0.0, f64::max);
    let sizes = Terms {
        costs: terms
            .costs
            .iter()
            .zip(&terms.weights)
            .map(|(c, w)| c.abs() + w.abs() * largest.min(4.0))
            .collect(),
        weights: terms.weights.clone(),
        rows: terms.rows,
    };
    let size = reduction.of(&sizes, point.width).abs();
    let value = reduction.of(terms, point.width).abs();
    let steps = ROUNDINGS + (terms.costs.len() as f64).sqrt();
    SHARE * value + epsilon / 2.0 * steps * size
}
