//! Going over two layouts of one shape together, in tiles of at most one block, in an order that suits memory.

use candle_core::Layout;
use rayon::prelude::*;

use super::{element::Element, kernel::BLOCK};

/// The edge of a square tile: where one side runs along rows and the other along columns, a square lets each side
/// use whole cache lines.
const EDGE: usize = 64;

/// Below this many tiles the work is over before other threads have woken up.
const TILES_WORTH_THREADS: usize = 32;

/// One dimension of the walk: its length, each side's stride, and the stride in row-major order.
#[derive(Clone, Copy, Debug)]
struct Axis {
    len: usize,
    strides: [usize; 2],
    logical: usize,
}

/// How two layouts of one shape are walked.
#[derive(Debug)]
pub(crate) struct Walk {
    starts: [usize; 2],
    /// In walking order, for turning a step of the walk into a position.
    axes: Vec<Axis>,
    /// The axes outside a tile, with what they take part in the walk per step.
    outer: Vec<(Axis, usize)>,
    /// A tile's two axes: its rows, one behind the other, and its columns.
    rows: (Axis, usize),
    columns: Axis,
    tile_rows: usize,
    tile_columns: usize,
    tiles: usize,
}

/// A rectangle of the walk: where it starts on each side, and in steps of the walk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile {
    starts: [usize; 2],
    step: usize,
    rows: usize,
    columns: usize,
}

impl Tile {
    /// How many steps of the walk lie before the tile's first element.
    pub(crate) fn step(&self) -> usize {
        self.step
    }
}

impl Walk {
    /// Both layouts have the same dimensions, none of them zero.
    pub(crate) fn new(actual: &Layout, expected: &Layout) -> Self {
        let axes = sorted_axes(actual, expected);
        let mut merged = merge(&axes);
        let columns = merged.pop().unwrap_or(Axis { len: 1, strides: [1, 1], logical: 1 });
        // Steps of the walk are row-major over the merged axes: the last one takes steps of one.
        let mut steps = columns.len;
        let mut outer: Vec<(Axis, usize)> = merged
            .into_iter()
            .rev()
            .map(|axis| {
                let step = steps;
                steps *= axis.len;
                (axis, step)
            })
            .collect();
        outer.reverse();
        let crossing = outer.iter().position(|(axis, _)| {
            (0..2).any(|side| axis.strides[side] == 1 && columns.strides[side] > 1)
        });
        let tile_columns = columns.len.min(if crossing.is_some() { EDGE } else { BLOCK });
        let rows = match crossing {
            Some(at) => outer.remove(at),
            None => outer.pop().unwrap_or((Axis { len: 1, strides: [0, 0], logical: 0 }, 0)),
        };
        // A long row is read where it lies; only short ones are worth gathering.
        let long = crossing.is_none() && tile_columns >= BLOCK / 4;
        let tile_rows = if long { 1 } else { rows.0.len.min(BLOCK / tile_columns) };
        let tiles = outer.iter().map(|(axis, _)| axis.len).product::<usize>()
            * rows.0.len.div_ceil(tile_rows)
            * columns.len.div_ceil(tile_columns);
        Self {
            starts: [actual.start_offset(), expected.start_offset()],
            axes,
            outer,
            rows,
            columns,
            tile_rows,
            tile_columns,
            tiles,
        }
    }

    pub(crate) fn tiles(&self) -> impl Iterator<Item = Tile> {
        (0..self.tiles).map(|index| self.tile(index))
    }

    fn tile(&self, mut index: usize) -> Tile {
        let across = self.columns.len.div_ceil(self.tile_columns);
        let down = self.rows.0.len.div_ceil(self.tile_rows);
        let column = index % across * self.tile_columns;
        index /= across;
        let row = index % down * self.tile_rows;
        index /= down;
        let mut tile = Tile {
            starts: self.starts,
            step: row * self.rows.1 + column,
            rows: self.tile_rows.min(self.rows.0.len - row),
            columns: self.tile_columns.min(self.columns.len - column),
        };
        for side in 0..2 {
            tile.starts[side] +=
                row * self.rows.0.strides[side] + column * self.columns.strides[side];
        }
        for (axis, step) in self.outer.iter().rev() {
            let at = index % axis.len;
            index /= axis.len;
            tile.step += at * step;
            for side in 0..2 {
                tile.starts[side] += at * axis.strides[side];
            }
        }
        tile
    }

    /// One side's values of a tile: where they lie, if they lie together, or gathered into `buffer`.
    pub(crate) fn read<'v, T: Element>(
        &self,
        tile: &Tile,
        side: usize,
        values: &'v [T],
        buffer: &'v mut Vec<T>,
    ) -> &'v [T] {
        let Tile { rows, columns, .. } = *tile;
        let start = tile.starts[side];
        let (row, column) = (self.rows.0.strides[side], self.columns.strides[side]);
        if column == 1 && (rows == 1 || row == columns) {
            return &values[start..start + rows * columns];
        }
        buffer.clear();
        if column == 1 {
            for r in 0..rows {
                let at = start + r * row;
                buffer.extend_from_slice(&values[at..at + columns]);
            }
        } else if row == 1 {
            buffer.resize(rows * columns, T::default());
            turn(values, start, column, buffer, rows, columns);
        } else {
            for r in 0..rows {
                let at = start + r * row;
                buffer.extend((0..columns).map(|c| values[at + c * column]));
            }
        }
        buffer
    }

    /// The row-major position of a tile's element.
    pub(crate) fn position(&self, tile: &Tile, offset: usize) -> usize {
        let mut step = tile.step + offset / tile.columns * self.rows.1 + offset % tile.columns;
        let mut position = 0;
        for axis in self.axes.iter().rev() {
            position += step % axis.len * axis.logical;
            step /= axis.len;
        }
        position
    }

    /// Folds over all tiles, on several threads where that pays.
    ///
    /// `merge` must not care for the order, so that the result is the same for every number of threads.
    pub(crate) fn fold<A: Send>(
        &self,
        new: impl Fn() -> A + Send + Sync,
        step: impl Fn(&mut A, &Tile) + Send + Sync,
        merge: impl Fn(A, A) -> A + Send + Sync,
    ) -> A {
        let take = |mut account: A, index: usize| {
            step(&mut account, &self.tile(index));
            account
        };
        if self.tiles < TILES_WORTH_THREADS {
            return (0..self.tiles).fold(new(), take);
        }
        (0..self.tiles)
            .into_par_iter()
            .with_min_len(TILES_WORTH_THREADS / 2)
            .fold(&new, take)
            .reduce(&new, merge)
    }
}

/// Reads columns, writes rows, in squares small enough to stay in registers.
fn turn<T: Element>(
    values: &[T],
    start: usize,
    stride: usize,
    buffer: &mut [T],
    rows: usize,
    columns: usize,
) {
    // Lines of 16 bytes: what every 64-bit CPU has vector registers for, and enough of.
    match size_of::<T>() {
        8 => turn_squares::<T, 2>(values, start, stride, buffer, rows, columns),
        4 => turn_squares::<T, 4>(values, start, stride, buffer, rows, columns),
        _ => turn_squares::<T, 8>(values, start, stride, buffer, rows, columns),
    }
}

fn turn_squares<T: Element, const SQUARE: usize>(
    values: &[T],
    start: usize,
    stride: usize,
    buffer: &mut [T],
    rows: usize,
    columns: usize,
) {
    let (whole_rows, whole_columns) = (rows / SQUARE * SQUARE, columns / SQUARE * SQUARE);
    for c in (0..whole_columns).step_by(SQUARE) {
        for r in (0..whole_rows).step_by(SQUARE) {
            let source: [[T; SQUARE]; SQUARE] = std::array::from_fn(|k| {
                let line = &values[start + (c + k) * stride + r..][..SQUARE];
                std::array::from_fn(|i| line[i])
            });
            for k in 0..SQUARE {
                let line: [T; SQUARE] = std::array::from_fn(|i| source[i][k]);
                buffer[(r + k) * columns + c..][..SQUARE].copy_from_slice(&line);
            }
        }
    }
    for c in 0..columns {
        let first = if c < whole_columns { whole_rows } else { 0 };
        for r in first..rows {
            buffer[r * columns + c] = values[start + c * stride + r];
        }
    }
}

/// The axes longer than one, those with the widest stride first: the order in which memory lies.
fn sorted_axes(actual: &Layout, expected: &Layout) -> Vec<Axis> {
    let dims = actual.dims();
    let mut logical = 1;
    let mut axes = Vec::with_capacity(dims.len());
    for at in (0..dims.len()).rev() {
        if dims[at] > 1 {
            axes.push(Axis {
                len: dims[at],
                strides: [actual.stride()[at], expected.stride()[at]],
                logical,
            });
        }
        logical *= dims[at];
    }
    axes.reverse();
    // A broadcast dimension has stride zero on its side; the other side then decides.
    axes.sort_by_key(|axis| {
        let [first, second] = axis.strides;
        std::cmp::Reverse(if first != 0 { first } else { second })
    });
    axes
}

/// Neighbouring axes that both sides run through without a seam become one.
fn merge(axes: &[Axis]) -> Vec<Axis> {
    let mut merged: Vec<Axis> = Vec::with_capacity(axes.len());
    for axis in axes {
        match merged.last_mut() {
            Some(last) if (0..2).all(|s| last.strides[s] == axis.strides[s] * axis.len) => {
                last.len *= axis.len;
                last.strides = axis.strides;
            }
            _ => merged.push(*axis),
        }
    }
    merged
}
