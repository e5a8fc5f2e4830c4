//! Data pipelines over marker samples.

mod bad_input;
mod clean;
mod delivered;
mod prepared;

use candle_core::{D, Result};
use candling::{prelude::*, synthetic};
use rand::seq::SliceRandom;

use super::text;

const CPU: &Device = &Device::Cpu;
const N: usize = 20;

type Batches = candling::Result<Vec<(Tensor, Tensor)>>;

/// What a check that must fail says, in one line.
fn said<R: std::fmt::Debug>(result: candling::Result<R>) -> String {
    text(result).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A permutation of an epoch's own.
fn order(n: usize, epoch: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    order.shuffle(&mut Seed::new(5).rng(&format!("epoch {epoch}")));
    order
}

fn pick(t: &Tensor, order: &[u32]) -> Result<Tensor> {
    t.index_select(&Tensor::new(order, CPU)?, 0)
}

fn cut(x: &Tensor, y: &Tensor, size: usize) -> Result<Vec<(Tensor, Tensor)>> {
    let n = x.dim(0)?;
    let batch = |start: usize| {
        let rows = size.min(n - start);
        Ok((x.narrow(0, start, rows)?, y.narrow(0, start, rows)?))
    };
    (0..n).step_by(size).map(batch).collect()
}

/// What most loaders do: shuffle, cut, and something to each batch's inputs.
fn loader(
    x: &Tensor,
    y: &Tensor,
    epoch: usize,
    each: impl Fn(&Tensor, usize) -> Result<Tensor>,
) -> Batches {
    let order = order(x.dim(0)?, epoch);
    let batches = cut(&pick(x, &order)?, &pick(y, &order)?, 6)?;
    let each = batches.into_iter().enumerate().map(|(i, (x, y))| Ok((each(&x, i)?, y)));
    Ok(each.collect::<Result<Vec<_>>>()?)
}

fn same(x: &Tensor, _: usize) -> Result<Tensor> {
    Ok(x.clone())
}

fn images() -> candling::Result<(Tensor, Tensor)> {
    synthetic::markers(N, (3, 6, 6))
}

fn flip(x: &Tensor) -> Result<Tensor> {
    let w = x.dim(D::Minus1)? as u32;
    x.index_select(&Tensor::from_vec((0..w).rev().collect(), w as usize, CPU)?, x.rank() - 1)
}

/// Each row flipped or not, by a coin of the seed's.
fn flips(x: &Tensor, label: &str) -> Result<Tensor> {
    let coins: Vec<u32> = Seed::new(9).tokens(label, 2, x.dim(0)?, CPU)?.to_vec1()?;
    let rows = coins.iter().enumerate().map(|(i, coin)| {
        let row = x.narrow(0, i, 1)?;
        if *coin == 1 { flip(&row) } else { Ok(row) }
    });
    Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)
}
