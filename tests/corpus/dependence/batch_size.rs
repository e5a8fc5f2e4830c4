//! What the size of a batch, and its statistics, have to do with a row: groups B and H.

use candle_core::{D, DType, IndexOp, Module, Tensor};
use candle_nn::{
    Conv2dConfig, LSTM, LSTMConfig, ModuleT, RNN, batch_norm, conv2d, linear, loss, lstm, ops,
};
use candling::{Cause, Learner, Result, Seed};

use crate::corpus::{
    data::{self, CPU, weights},
    entry::{Assertion::Property, Entry, Subject},
    models::{Mlp, Norm},
    property::Property::BatchIndependent,
};

const GROUP: &str = "dependence";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "B6",
        group: GROUP,
        bug: "`squeeze(0)` on the output: a batch of one loses its dimension",
        cause: Cause::BatchSizeFixed,
        assertion: Property(BatchIndependent),
        buggy: |seed| squeezed(seed, true),
        clean: |seed| squeezed(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B9",
        group: GROUP,
        bug: "the batch size is written into a reshape",
        cause: Cause::BatchSizeFixed,
        assertion: Property(BatchIndependent),
        buggy: |seed| patches(seed, true),
        clean: |seed| patches(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B9b",
        group: GROUP,
        bug: "a recurrent layer's first state is built once, for one batch size",
        cause: Cause::BatchSizeFixed,
        assertion: Property(BatchIndependent),
        buggy: |seed| first_state(seed, true),
        clean: |seed| first_state(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B9c",
        group: GROUP,
        bug: "experts of a capacity for one batch size; that they mix rows is declared",
        cause: Cause::BatchSizeFixed,
        assertion: Property(BatchIndependent),
        buggy: |seed| capacity(seed, true),
        clean: |seed| capacity(seed, false),
        missed_today: None,
    },
    Entry {
        id: "H8b",
        group: GROUP,
        bug: "batch norm after a convolution is always told to train",
        cause: Cause::NormStatsOfBatch,
        assertion: Property(BatchIndependent),
        buggy: |seed| convolution_norm(seed, true),
        clean: |seed| convolution_norm(seed, false),
        missed_today: None,
    },
    Entry {
        id: "H8c",
        group: GROUP,
        bug: "features are standardised by the batch's own mean and deviation",
        cause: Cause::NormStatsOfBatch,
        assertion: Property(BatchIndependent),
        buggy: |seed| standardised(seed, true),
        clean: |seed| standardised(seed, false),
        missed_today: None,
    },
];

fn squeezed(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 24, 4], Tensor::gelu, vb)?;
    let forward = move |x: &Tensor| {
        let logits = model.forward(x)?;
        if buggy { logits.squeeze(0) } else { Ok(logits) }
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// Signals in patches, with a norm and a residual.
fn patches(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let embed = linear(4, 8, vb.pp("embed"))?;
    let (norm, inner) = (Norm::new(8, vb.pp("norm"))?, linear(8, 8, vb.pp("inner"))?);
    let head = linear(24, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let rows = if buggy { 16 } else { x.dim(0)? };
        let x = embed.forward(&x.reshape((rows, 3, 4))?)?;
        let x = (&x + inner.forward(&norm.forward(&x)?)?.relu()?)?;
        head.forward(&x.flatten_from(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 12, 4, DType::F32)?))
}

fn first_state(seed: Seed, buggy: bool) -> Result<Subject> {
    const BATCH: usize = 6;
    let (_, vb) = weights(seed, DType::F64);
    let cell: LSTM = lstm(3, 6, LSTMConfig::default(), vb.pp("lstm"))?;
    let head = linear(6, 2, vb.pp("head"))?;
    let built_once = cell.zero_state(BATCH)?;
    let x = seed.normal("x", (BATCH, 5, 3), DType::F64, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let state = if buggy { built_once.clone() } else { cell.zero_state(x.dim(0)?)? };
        let states = cell.seq_init(x, &state)?;
        head.forward(states.last().expect("sequences are not empty").h())
    }))
}

/// An expert takes the rows that score highest with it, up to its capacity: the others pass it by.
fn capacity(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let router = linear(6, 1, vb.pp("router"))?;
    let expert = Mlp::new(&[6, 24, 6], Tensor::gelu, vb.pp("expert"))?;
    let head = Mlp::new(&[6, 24, 4], Tensor::gelu, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let scores = router.forward(x)?;
        let order = scores.flatten_all()?.arg_sort_last_dim(false)?;
        let capacity = if buggy { 12 } else { (x.dim(0)? * 3).div_ceil(4) };
        let rows = order.narrow(0, 0, capacity)?.contiguous()?;
        let gate = ops::sigmoid(&scores)?.index_select(&rows, 0)?;
        let part = expert.forward(&x.index_select(&rows, 0)?)?.broadcast_mul(&gate)?;
        head.forward(&x.index_add(&rows, &part, 0)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    let subject = Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?);
    Ok(subject.allow(Cause::BatchMixed))
}

fn convolution_norm(seed: Seed, told: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let config = Conv2dConfig { stride: 2, ..Conv2dConfig::default() };
    let conv = conv2d(2, 6, 3, config, vb.pp("conv"))?;
    let norm = batch_norm(6, 1e-3, vb.pp("norm"))?;
    let head = linear(6, 3, vb.pp("head"))?;
    let x = seed.normal("x", (4, 2, 7, 7), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let x = norm.forward_t(&conv.forward(x)?, told)?.relu()?;
        head.forward(&x.i((.., .., .., ..))?.mean((D::Minus2, D::Minus1))?)
    }))
}

fn standardised(seed: Seed, by_batch: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 4], Tensor::tanh, vb)?;
    let (x, y) = data::classes(seed, 6, 4, DType::F32)?;
    let x = x.affine(3.0, 5.0)?;
    let of = |x: &Tensor| -> candle_core::Result<_> {
        Ok((x.mean_keepdim(0)?, x.var_keepdim(0)?.sqrt()?))
    };
    let of_training = of(&x)?;
    let forward = move |x: &Tensor| {
        let (mean, deviation) = if by_batch { of(x)? } else { of_training.clone() };
        model.forward(&x.broadcast_sub(&mean)?.broadcast_div(&(deviation + 1e-5)?)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, y)))
}
