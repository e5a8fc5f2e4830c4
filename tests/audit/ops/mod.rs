//! Every differentiable op that candle's public API reaches, group by group.

mod attention;
mod conv;
mod custom;
mod elementwise;
mod fused;
mod in_place;
mod index;
mod layers;
mod losses;
mod matmul;
mod pool;
mod reduce;
mod shape;

use super::case::Table;

pub(crate) fn fill(table: &mut Table) {
    elementwise::fill(table);
    reduce::fill(table);
    shape::fill(table);
    index::fill(table);
    in_place::fill(table);
    matmul::fill(table);
    conv::fill(table);
    pool::fill(table);
    fused::fill(table);
    attention::fill(table);
    losses::fill(table);
    layers::fill(table);
    custom::fill(table);
}
