//! Outputs by row and position.

use candle_core::{Result, Tensor};

use super::rounding::Bound;
use crate::{measure::values::to_f64_vec, verdict::number};

/// The values of an output: `[rows, positions, width]`.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    rows: usize,
    positions: usize,
    width: usize,
    values: Vec<f64>,
}

impl Grid {
    /// An output with its positions as the second dimension.
    pub(super) fn of_positions(output: &Tensor) -> Result<Self> {
        let (rows, positions) = (output.dim(0)?, output.dim(1)?);
        Self::shaped(output, rows, positions)
    }

    /// One output a row.
    pub(super) fn of_rows(output: &Tensor) -> Result<Self> {
        Self::shaped(output, output.dim(0)?, 1)
    }

    fn shaped(output: &Tensor, rows: usize, positions: usize) -> Result<Self> {
        let width = output.elem_count() / (rows * positions).max(1);
        Ok(Self { rows, positions, width, values: to_f64_vec(output)? })
    }

    /// Grids of one position each, side by side.
    pub(super) fn side_by_side(grids: &[Grid]) -> Option<Self> {
        let first = grids.first()?;
        let (rows, width, positions) = (first.rows, first.width, grids.len());
        let cells = (0..rows).flat_map(|row| grids.iter().map(move |grid| grid.cell(row, 0)));
        let values: Vec<f64> = cells.flatten().copied().collect();
        (values.len() == rows * width * positions).then_some(Self {
            rows,
            positions,
            width,
            values,
        })
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn positions(&self) -> usize {
        self.positions
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn values(&self) -> &[f64] {
        &self.values
    }

    pub(super) fn cell(&self, row: usize, position: usize) -> &[f64] {
        let start = (row * self.positions + position) * self.width;
        &self.values[start..start + self.width]
    }

    /// The values of some positions, in the order given.
    pub(super) fn taking(&self, positions: &[usize]) -> Self {
        let cells =
            (0..self.rows).flat_map(|row| positions.iter().map(move |at| self.cell(row, *at)));
        let values = cells.flatten().copied().collect();
        Self { positions: positions.len(), values, ..*self }
    }

    /// The values of some rows, in the order given.
    pub(super) fn taking_rows(&self, rows: &[usize]) -> Self {
        let size = self.positions * self.width;
        let values = rows.iter().flat_map(|row| &self.values[row * size..(row + 1) * size]);
        Self { rows: rows.len(), values: values.copied().collect(), ..*self }
    }

    /// The largest difference; NaN where one side alone is NaN, infinite where sizes differ.
    pub(super) fn distance(&self, other: &Self) -> f64 {
        if self.values.len() != other.values.len() {
            return f64::INFINITY;
        }
        let pairs = self.values.iter().zip(&other.values);
        pairs.map(|(a, b)| apart(*a, *b)).fold(0.0, worse)
    }
}

/// The same values, NaN included.
impl PartialEq for Grid {
    fn eq(&self, other: &Self) -> bool {
        let dims = |grid: &Self| (grid.rows, grid.positions, grid.width);
        dims(self) == dims(other) && self.distance(other) == 0.0
    }
}

/// NaN equals itself here: whoever minds NaN looks for it.
fn apart(a: f64, b: f64) -> f64 {
    if a == b || (a.is_nan() && b.is_nan()) { 0.0 } else { (a - b).abs() }
}

/// The larger of two distances, NaN above all.
pub(super) fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Where two outputs differ by more than a bound, and most.
#[derive(Clone, Debug)]
pub(super) struct Apart {
    pub(super) row: usize,
    pub(super) position: usize,
    pub(super) index: usize,
    pub(super) was: f64,
    pub(super) expected: f64,
    /// Of one value a position there is no index to name.
    pub(super) alone: bool,
}

impl Apart {
    /// The value of one row and position that is furthest beyond its bound.
    pub(super) fn in_cell(
        (was, expected): (&Grid, &Grid),
        (row, at, expected_at): (usize, usize, usize),
        bound: &Bound,
    ) -> Option<Self> {
        let (actual, wanted) = (was.cell(row, at), expected.cell(row, expected_at));
        let pairs = actual.iter().zip(wanted).enumerate();
        let beyond = pairs.filter(|(_, (a, b))| !bound.allows(**a, **b));
        let worst = beyond.max_by(|(_, (a, b)), (_, (c, d))| {
            // `total_cmp` puts NaN above all numbers.
            apart(**a, **b).abs().total_cmp(&apart(**c, **d).abs())
        });
        worst.map(|(index, (was, expected))| Self {
            row,
            position: expected_at,
            index,
            was: *was,
            expected: *expected,
            alone: actual.len() == 1,
        })
    }

    pub(super) fn size(&self) -> f64 {
        apart(self.was, self.expected)
    }

    /// `row 0, position 2, output 5`.
    pub(super) fn place(&self) -> String {
        match self.alone {
            true => format!("row {}, position {}", self.row, self.position),
            false => format!("row {}, position {}, output {}", self.row, self.position, self.index),
        }
    }

    /// `0.31 instead of 0.52`.
    pub(super) fn values(&self) -> String {
        let (was, expected) = (number(self.was), number(self.expected));
        if was == expected {
            let by = number(self.size());
            return format!("{expected}, {by} away");
        }
        format!("{was} instead of {expected}")
    }
}
