//! The slope of a reference: what a loss closure's gradient must be.

use super::{Point, Reduction, Reference, terms};

/// In f64 a central difference with this step has an error of about 1e-10 for values near 1.
const STEP: f64 = 1e-5;

/// The derivative by each of the named entries of the prediction.
pub(crate) fn slopes(
    reference: &Reference,
    reduction: Reduction,
    point: &Point,
    entries: &[usize],
) -> Vec<f64> {
    let mut moved = point.clone();
    let mut at = |entry: usize, by: f64| {
        let before = moved.prediction[entry];
        moved.prediction[entry] = before + by;
        let value = reduction.of(&terms(reference, &moved), point.width);
        moved.prediction[entry] = before;
        value
    };
    let slope = |entry: &usize| (at(*entry, STEP) - at(*entry, -STEP)) / (2.0 * STEP);
    entries.iter().map(slope).collect()
}
