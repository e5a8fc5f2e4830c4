//! What data loaders are made of: an order, batches, and what is done to each.

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::loss;
use candling::{Learner, Seed};
use rand::seq::SliceRandom;

use super::super::{
    data::{self, CPU, weights},
    entry::Subject,
    models::{ConvNet, Mlp, mean_pool, same},
};

/// The batches of an epoch.
pub(super) type Batches = Result<Vec<(Tensor, Tensor)>>;
/// A data pipeline: the whole set and the epoch's number.
pub(super) type Load = fn(Seed, &Tensor, &Tensor, usize) -> Batches;

/// Marker samples of a test: two batches and a half.
pub(super) const SAMPLES: usize = 40;
pub(super) const SIZE: usize = 16;

/// A permutation of its own for every label.
pub(super) fn permutation(seed: Seed, label: &str, n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    order.shuffle(&mut seed.rng(label));
    order
}

pub(super) fn pick(t: &Tensor, order: &[u32]) -> Result<Tensor> {
    t.index_select(&Tensor::new(order, CPU)?, 0)
}

/// Batches of [`SIZE`], the last one shorter.
pub(super) fn cut(x: &Tensor, y: &Tensor) -> Batches {
    let n = x.dim(0)?;
    let batch = |start: usize| {
        let rows = SIZE.min(n - start);
        Ok((x.narrow(0, start, rows)?, y.narrow(0, start, rows)?))
    };
    (0..n).step_by(SIZE).map(batch).collect()
}

/// Shuffled anew for every epoch, both sides by one permutation.
pub(super) fn shuffled(seed: Seed, x: &Tensor, y: &Tensor, epoch: usize) -> Batches {
    let order = permutation(seed, &format!("epoch {epoch}"), x.dim(0)?);
    cut(&pick(x, &order)?, &pick(y, &order)?)
}

/// Something done to the inputs of each batch, which is told its number.
pub(super) fn each(batches: Batches, change: impl Fn(usize, &Tensor) -> Result<Tensor>) -> Batches {
    let batches = batches?.into_iter().enumerate();
    batches.map(|(i, (x, y))| Ok((change(i, &x)?, y))).collect()
}

/// Each row mirrored or not, by coins of the label's.
pub(super) fn flipped(seed: Seed, label: &str, x: &Tensor) -> Result<Tensor> {
    let coins: Vec<u32> = seed.tokens(label, 2, x.dim(0)?, CPU)?.to_vec1()?;
    let last = x.rank() - 1;
    let width = x.dim(last)? as u32;
    let mirror = Tensor::new((0..width).rev().collect::<Vec<_>>(), CPU)?;
    let rows = coins.iter().enumerate().map(|(i, coin)| {
        let row = x.narrow(0, i, 1)?;
        if *coin == 1 { row.index_select(&mirror, last) } else { Ok(row) }
    });
    Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)
}

/// What of the model's own data is trained on: the first batch of the pipeline.
pub(super) fn first(batches: Batches) -> candling::Result<(Tensor, Tensor)> {
    let first = batches?.into_iter().next();
    Ok(first.map_or_else(|| candle_core::bail!("no batch"), Ok)?)
}

/// A perceptron on a table, behind a pipeline. `[rows, 6]`.
pub(super) fn table(seed: Seed, dtype: DType, load: Load) -> candling::Result<Subject> {
    let (vars, vb) = weights(seed, dtype);
    let (x, y) = data::classes(seed, 6, 4, dtype)?;
    let (x, y) = first(load(seed, &x, &y, 0))?;
    let model = Mlp::new(&[x.dim(1)?, 32, 4], Tensor::gelu, vb)?;
    let learner = Learner::new(&vars, move |x: &Tensor| model.forward(x), loss::cross_entropy);
    Ok(Subject::new(learner, (x, y)))
}

/// Convolutions on images, behind a pipeline. `[rows, 1, 8, 8]`.
pub(super) fn images(seed: Seed, load: Load) -> candling::Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (x, y) = data::images(seed, 4)?;
    let (x, y) = first(load(seed, &x, &y, 0))?;
    let model = ConvNet::new(4, vb)?;
    let forward = move |x: &Tensor| model.forward(x, same, mean_pool);
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, y)))
}
