//! The slope of a reference: what a loss closure's gradient must be.

use super::{Kind, Point, Reduction, Reference, terms};

/// In f64 a central difference with this step has an error of about 1e-10 for values near 1.
const STEP: f64 = 1e-5;

/// The derivative by each of the named entries of the prediction.
pub(crate) fn slopes(
    reference: &Reference,
    reduction: Reduction,
    point: &Point,
    entries: &[usize],
) -> Vec<f64> {
    let whole = terms(reference, point);
    let row_len = point.row_len().max(1);
    let alone = !matches!(reference.kind, Kind::Contrastive(_) | Kind::Batch(_));
    let value = |entry: usize, by: f64| {
        let moved = |point: &mut Point, entry: usize| point.prediction[entry] += by;
        if !alone {
            let mut point = point.clone();
            moved(&mut point, entry);
            return reduction.of(&terms(reference, &point), point.width);
        }
        // Another row's costs do not change.
        let row = entry / row_len;
        let mut point = point.row(row);
        moved(&mut point, entry % row_len);
        let mut all = whole.clone();
        let at = row * all.per_row();
        for (i, cost) in terms(reference, &point).costs.into_iter().enumerate() {
            all.costs[at + i] = cost;
        }
        reduction.of(&all, point.width)
    };
    let slope = |entry: &usize| (value(*entry, STEP) - value(*entry, -STEP)) / (2.0 * STEP);
    entries.iter().map(slope).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_of_a_mean_of_squares_is_known() {
        let point = Point {
            prediction: vec![1.0, 2.0, -1.0, 0.5],
            target: vec![0.0; 4],
            rows: 2,
            positions: 1,
            width: 2,
            soft: false,
        };
        let found = slopes(&Reference::new(Kind::Squared), Reduction::Mean, &point, &[0, 1, 2, 3]);
        for (found, expected) in found.iter().zip([0.5, 1.0, -0.5, 0.25]) {
            assert!((found - expected).abs() < 1e-8, "{found} {expected}");
        }
    }
}
