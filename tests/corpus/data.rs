//! Batches of 16 rows, each row with one target, so that a model of some width can hold all of them.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use candling::Seed;

pub(crate) const CPU: &Device = &Device::Cpu;
pub(crate) const ROWS: usize = 16;

pub(crate) fn weights(seed: Seed, dtype: DType) -> (VarMap, VarBuilder<'static>) {
    seed.split("weights").var_builder(dtype, CPU)
}

/// Random features in classes that come up equally often.
pub(crate) fn classes(
    seed: Seed,
    features: usize,
    classes: usize,
    dtype: DType,
) -> Result<(Tensor, Tensor)> {
    let x = seed.normal("x", (ROWS, features), dtype, CPU)?;
    Ok((x, labels(classes)?))
}

/// Each class as often as the others, in an order without a pattern of rows.
pub(crate) fn labels(classes: usize) -> Result<Tensor> {
    let labels: Vec<u32> = (0..ROWS).map(|i| ((i * 7 + i / 4) % classes) as u32).collect();
    Tensor::from_vec(labels, ROWS, CPU)
}

/// A smooth function of the features, `[rows, 1]`.
pub(crate) fn regression(seed: Seed, features: usize, dtype: DType) -> Result<(Tensor, Tensor)> {
    let x = seed.normal("x", (ROWS, features), DType::F64, CPU)?;
    let direction = seed.normal("direction", (features, 1), DType::F64, CPU)?;
    let y = x.matmul(&direction)?.sin()?;
    Ok((x.to_dtype(dtype)?, y.to_dtype(dtype)?))
}

/// Random features, half of them 1 and half 0, `[rows, 1]`.
pub(crate) fn binary(seed: Seed, features: usize) -> Result<(Tensor, Tensor)> {
    let x = seed.normal("x", (ROWS, features), DType::F32, CPU)?;
    Ok((x, labels(2)?.to_dtype(DType::F32)?.unsqueeze(1)?))
}

/// Images of 8 by 8 in `classes` classes.
pub(crate) fn images(seed: Seed, classes: usize) -> Result<(Tensor, Tensor)> {
    let x = seed.normal("x", (ROWS, 1, 8, 8), DType::F32, CPU)?;
    Ok((x, labels(classes)?))
}

pub(crate) const VOCAB: usize = 12;
pub(crate) const TIME: usize = 6;

/// Sequences of tokens, each in one of 4 classes. No two are equal: the first two tokens count the rows.
pub(crate) fn sequences(seed: Seed) -> Result<(Tensor, Tensor)> {
    let mut ids: Vec<u32> = seed.tokens("x", VOCAB, ROWS * TIME, CPU)?.to_vec1()?;
    for (row, ids) in ids.chunks_exact_mut(TIME).enumerate() {
        (ids[0], ids[1]) = ((row % VOCAB) as u32, (row / VOCAB) as u32);
    }
    Ok((Tensor::from_vec(ids, (ROWS, TIME), CPU)?, labels(4)?))
}

/// Sequences in which each token follows from the one before, `[rows, time + 1]`: input and next tokens are views.
pub(crate) fn chains(seed: Seed) -> Result<Tensor> {
    let mut ids: Vec<u32> = Vec::new();
    for first in seed.tokens("first", VOCAB, ROWS, CPU)?.to_vec1::<u32>()? {
        let next = |id: &u32| Some((id * 5 + 1) % VOCAB as u32);
        ids.extend(std::iter::successors(Some(first), next).take(TIME + 1));
    }
    Tensor::from_vec(ids, (ROWS, TIME + 1), CPU)
}

/// The token that fills a sequence up to the batch's length.
pub(crate) const PAD: u32 = 0;

/// Sequences of different lengths, padded, and a tag for each token: the padding's tag is 0, which is no token's.
pub(crate) fn tagged(seed: Seed) -> Result<(Tensor, Tensor)> {
    let ids: Vec<u32> = seed.tokens("x", VOCAB - 1, ROWS * TIME, CPU)?.to_vec1()?;
    let place = |i: usize, id: u32| {
        let (row, t) = (i / TIME, i % TIME);
        let length = 2 + row % (TIME - 1);
        if t < length { (id + 1, 1 + id % 4) } else { (PAD, 0) }
    };
    let (ids, tags): (Vec<u32>, Vec<u32>) =
        ids.into_iter().enumerate().map(|(i, id)| place(i, id)).unzip();
    Ok((Tensor::from_vec(ids, (ROWS, TIME), CPU)?, Tensor::from_vec(tags, (ROWS, TIME), CPU)?))
}
