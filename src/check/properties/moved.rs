//! Which values of an output move, and where to.

use candle_core::Tensor;

use super::sensitive::{Direction, SensitiveReport};
use crate::{
    Result,
    check::tensors::percentage,
    measure::{
        compare::Bounds,
        values::{multi_index, to_f64_vec},
    },
    verdict::{count, number},
};

/// An output before and after.
pub(super) struct Change {
    pub(super) before: Vec<f64>,
    pub(super) after: Vec<f64>,
    pub(super) dims: Vec<usize>,
    pub(super) rows: usize,
}

/// What of it counts.
pub(super) struct Seen {
    pub(super) threshold: f64,
    pub(super) elements_moved: usize,
    pub(super) rows_moved: usize,
    /// The rows without a moved value.
    pub(super) still: Vec<usize>,
    /// The largest change.
    pub(super) largest: f64,
    /// How many values moved against the direction, and the one that did so furthest.
    pub(super) against: usize,
    pub(super) wrong: Option<usize>,
}

impl Change {
    pub(super) fn new(before: &Tensor, after: &Tensor) -> Result<Self> {
        Ok(Self {
            before: to_f64_vec(before)?,
            after: to_f64_vec(after)?,
            dims: before.dims().to_vec(),
            rows: before.dims().first().copied().unwrap_or(1),
        })
    }

    pub(super) fn place(&self, at: usize) -> String {
        match self.dims.is_empty() {
            true => "the output".to_owned(),
            false => format!("{:?}", multi_index(at, &self.dims)),
        }
    }

    /// `least` is what a move must reach, `against` what one the wrong way must exceed.
    pub(super) fn judged(
        &self,
        least: Bounds,
        against: Bounds,
        direction: Option<Direction>,
    ) -> Seen {
        let width = self.before.len() / self.rows;
        let mut seen = Seen {
            threshold: least.absolute,
            elements_moved: 0,
            rows_moved: 0,
            still: Vec::new(),
            largest: 0.0,
            against: 0,
            wrong: None,
        };
        let mut furthest = 0.0;
        for row in 0..self.rows {
            let mut moved = false;
            for at in row * width..(row + 1) * width {
                let (before, after) = (self.before[at], self.after[at]);
                // Equal infinities differ by NaN.
                let change = if before == after { 0.0 } else { after - before };
                seen.largest = seen.largest.max(change.abs());
                let along = match direction {
                    Some(Direction::Up) => change,
                    Some(Direction::Down) => -change,
                    None => change.abs(),
                };
                // An infinite value has no last place: only the other infinity, or a number, is another.
                let size = if before.is_finite() { before.abs() } else { 0.0 };
                let allowed = |bounds: Bounds| bounds.absolute + bounds.relative * size;
                if along > 0.0 && along >= allowed(least) {
                    seen.elements_moved += 1;
                    moved = true;
                }
                if -along > allowed(against) {
                    seen.against += 1;
                    if -along > furthest {
                        (furthest, seen.wrong) = (-along, Some(at));
                    }
                }
            }
            seen.rows_moved += usize::from(moved);
            if !moved {
                seen.still.push(row);
            }
        }
        seen
    }
}

impl Seen {
    pub(super) fn shares(&self, change: &Change) -> String {
        let n = change.before.len();
        format!(
            "{} of {} ({}), in {} of {}; the largest change is {}",
            self.elements_moved,
            count(n, "value"),
            percentage(self.elements_moved, n),
            self.rows_moved,
            count(change.rows, "row"),
            number(self.largest),
        )
    }

    pub(super) fn report(&self, change: &Change) -> SensitiveReport {
        SensitiveReport {
            perturbations: 1,
            elements: change.before.len(),
            elements_moved: self.elements_moved,
            rows: change.rows,
            rows_moved: self.rows_moved,
            max_absolute_difference: self.largest,
            threshold: self.threshold,
        }
    }
}
