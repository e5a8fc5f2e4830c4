//! What the full pass says at every position.

use candle_core::{DType, Tensor};

use super::super::{
    grid::{Apart, Grid},
    rounding::Rounding,
};
use crate::{
    Failure, Result, Seed,
    check::function::{self, Function},
    measure::perturb::Mix,
};

pub(super) struct Reference {
    /// The full pass over all tokens.
    pub(super) whole: Tensor,
    /// Whether it returns all positions; else the last alone.
    pub(super) everywhere: bool,
    /// All positions, each at the end of a prefix where the full pass returns the last alone.
    pub(super) grid: Grid,
    pub(super) dtype: DType,
    pub(super) rounding: Rounding,
    /// Where a pass over the first tokens alone says something else than the pass over all.
    pub(super) sees_future: Option<Apart>,
}

impl Reference {
    pub(super) fn of(full: &mut Function<'_>, tokens: &Tensor, seed: Seed) -> Result<Self> {
        let (rows, len) = (tokens.dim(0)?, tokens.dim(1)?);
        let whole = function::steady_rows(full, std::slice::from_ref(tokens), 2)?;
        let mut prefix = |n: usize| -> Result<Tensor> {
            let output = full(&[tokens.narrow(1, 0, n)?.contiguous()?])
                .map_err(|failure| failure.fact("tokens", format!("the first {n} of {len}")))?;
            match output.dims().first() == Some(&rows) && output.rank() >= 2 {
                true => Ok(output),
                false => Err(shape(&whole, &output, len, n)),
            }
        };
        let shorter = prefix(len - 1)?;
        let everywhere = whole.dim(1)? == len
            && shorter.dim(1)? == len - 1
            && whole.dims()[2..] == shorter.dims()[2..];
        if !everywhere && whole.dims() != shorter.dims() {
            return Err(shape(&whole, &shorter, len, len - 1));
        }
        let dtype = whole.dtype();
        if everywhere {
            let grid = Grid::of_positions(&whole)?;
            let mut rounding = Rounding::of(&grid, dtype, tokens.dtype());
            let mut sees_future = None;
            let mut lengths = vec![1, len / 2, len - 1];
            lengths.dedup();
            for n in lengths.into_iter().filter(|n| *n > 0) {
                let part = Grid::of_positions(&prefix(n)?)?;
                let same: Vec<usize> = (0..n).collect();
                rounding.saw(part.distance(&grid.taking(&same)));
                let bound = rounding.bound();
                let cells = (0..n).flat_map(|at| (0..rows).map(move |row| (row, at, at)));
                let mut apart =
                    cells.filter_map(|cell| Apart::in_cell((&part, &grid), cell, &bound));
                sees_future = sees_future.or(apart.next());
            }
            rounding.measure(full, std::slice::from_ref(tokens), &whole, seed)?;
            return Ok(Self { whole, everywhere, grid, dtype, rounding, sees_future });
        }
        let ends =
            (1..=len).map(|n| Ok(Grid::of_rows(&prefix(n)?)?)).collect::<Result<Vec<_>>>()?;
        let Some(grid) = Grid::side_by_side(&ends) else {
            return Err(Failure::not_run(
                "the full pass returns another number of values for every length",
            ));
        };
        let mut rounding = Rounding::of(&grid, dtype, tokens.dtype());
        rounding.measure(full, std::slice::from_ref(tokens), &whole, seed)?;
        Ok(Self { whole, everywhere, grid, dtype, rounding, sees_future: None })
    }

    /// Which of the earlier tokens the full pass at the last position sees: other values there move it.
    pub(super) fn seen(
        &self,
        full: &mut Function<'_>,
        mix: &Mix,
        positions: &[usize],
    ) -> Result<Vec<usize>> {
        let len = self.grid.positions();
        let last = |output: &Tensor| -> Result<Grid> {
            Ok(match self.everywhere {
                true => Grid::of_positions(output)?.taking(&[len - 1]),
                false => Grid::of_rows(output)?,
            })
        };
        let own = last(&full(&mix.base()?)?)?;
        let mut seen = Vec::new();
        for at in positions {
            if last(&full(&mix.replacing(|cell| cell % len == *at)?)?)? != own {
                seen.push(*at);
            }
        }
        Ok(seen)
    }
}

fn shape(whole: &Tensor, part: &Tensor, len: usize, n: usize) -> Failure {
    Failure::not_run(format!(
        "the full pass returned dims {:?} for {len} tokens and {:?} for {n}; allowed: [batch, time, ..] for all positions, or \
         [batch, ..] or [batch, 1, ..] for the last",
        whole.dims(),
        part.dims(),
    ))
    .help("where positions lie side by side, as candle's `states_to_tensor` leaves them, reshape to [batch, time, ..]")
}
