//! Group F: operations of candle whose gradient is wrong, in other nets.

use candle_core::{DType, Device, Module, Tensor};
use candle_nn::{
    Conv1dConfig, Conv2dConfig, Init, VarBuilder, conv1d, conv2d, embedding, linear, loss,
};
use candling::{Cause, Learner, Result, Seed};

use super::models::token_loss;
use crate::corpus::{
    data::{self, CPU, ROWS, TIME, VOCAB, weights},
    entry::{Assertion::GradientsCorrect, Entry, Subject},
    models::{Mlp, Norm},
};

const GROUP: &str = "gradients";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "F12b",
        group: GROUP,
        bug: "max_pool2d by 3: a ninth of the gradient",
        cause: Cause::GradientEngine,
        assertion: GradientsCorrect,
        buggy: |seed| pooled_by_three(seed, true),
        clean: |seed| pooled_by_three(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F12c",
        group: GROUP,
        bug: "avg_pool2d of a map that its window does not divide: gradients of other cells",
        cause: Cause::GradientEngine,
        assertion: GradientsCorrect,
        buggy: |seed| odd_map(seed, true),
        clean: |seed| odd_map(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F12d",
        group: GROUP,
        bug: "conv1d on more than one row",
        cause: Cause::GradientEngine,
        assertion: GradientsCorrect,
        buggy: |seed| convolved_text(seed, true),
        clean: |seed| convolved_text(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F12e",
        group: GROUP,
        bug: "a stack of dilated conv1d",
        cause: Cause::GradientEngine,
        assertion: GradientsCorrect,
        buggy: |seed| dilated(seed, true),
        clean: |seed| dilated(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F13b",
        group: GROUP,
        bug: "upsample_nearest1d beside a skip connection, in a network that narrows time and widens it again",
        cause: Cause::GradientEngine,
        assertion: GradientsCorrect,
        buggy: |seed| widened(seed, true),
        clean: |seed| widened(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F13c",
        group: GROUP,
        bug: "windows by `unfold` along time, which is not the last dimension",
        cause: Cause::GradientEngine,
        assertion: GradientsCorrect,
        buggy: |seed| windows(seed, true),
        clean: |seed| windows(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F13d",
        group: GROUP,
        bug: "messages summed into their nodes by scatter_add: the nodes lose their own gradient",
        cause: Cause::GradientEngine,
        assertion: GradientsCorrect,
        buggy: |seed| messages(seed, true),
        clean: |seed| messages(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F13e",
        group: GROUP,
        bug: "a linear layer on a transposed tensor: candle multiplies other values than it holds",
        cause: Cause::LayoutDependent,
        assertion: GradientsCorrect,
        buggy: |seed| transposed(seed, true),
        clean: |seed| transposed(seed, false),
        missed_today: None,
    },
];

/// The largest of each window by a reshape: as `max_pool2d`, with its gradient.
fn largest(x: &Tensor, size: usize) -> candle_core::Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    x.reshape((b, c, h / size, size, w / size, size))?.max(5)?.max(3)
}

/// Pooling comes after the ReLU, so windows where nothing fires are ties of zeros.
fn pooled_by_three(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let config = Conv2dConfig { padding: 1, ..Default::default() };
    let first = conv2d(2, 6, 3, config, vb.pp("first"))?;
    let head = linear(6 * 4, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?.relu()?;
        let x = if buggy { x.max_pool2d(3)? } else { largest(&x, 3)? };
        head.forward(&x.flatten_from(1)?)
    };
    let x = seed.normal("x", (ROWS, 2, 6, 6), DType::F64, CPU)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, data::labels(4)?)))
}

fn odd_map(seed: Seed, buggy: bool) -> Result<Subject> {
    let build = move |vb: VarBuilder<'static>| {
        let config = Conv2dConfig { padding: 1, ..Default::default() };
        let first = conv2d(1, 4, 3, config, vb.pp("first"))?;
        let second = conv2d(4, 4, 3, config, vb.pp("second"))?;
        let head = linear(4 * 9, 4, vb.pp("head"))?;
        Ok(move |x: &Tensor| {
            let x = first.forward(x)?.silu()?;
            // 7 by 7; the last row and column are no part of a window.
            let x = if buggy { x } else { x.narrow(2, 0, 6)?.narrow(3, 0, 6)? };
            let x = second.forward(&x.contiguous()?.avg_pool2d(2)?)?.silu()?;
            head.forward(&x.flatten_from(1)?)
        })
    };
    let x = seed.normal("x", (ROWS, 1, 7, 7), DType::F32, CPU)?;
    let weights = seed.split("weights");
    let learner = Learner::build(weights, DType::F32, &Device::Cpu, build, loss::cross_entropy)?;
    Ok(Subject::new(learner, (x, data::labels(4)?)))
}

/// Convolutions over tokens, and their mean over time. The twin's are two-dimensional, of height 1.
fn convolved_text(seed: Seed, buggy: bool) -> Result<Subject> {
    let build = move |vb: VarBuilder<'static>| {
        let tokens = embedding(VOCAB, 6, vb.pp("tokens"))?;
        let config = Conv1dConfig { padding: 1, ..Default::default() };
        let conv = conv1d(6, 16, 3, config, vb.pp("conv"))?;
        let head = linear(16, 4, vb.pp("head"))?;
        Ok(move |ids: &Tensor| {
            let x = tokens.forward(ids)?.transpose(1, 2)?.contiguous()?;
            let x = match buggy {
                true => conv.forward(&x)?,
                false => {
                    // Padding by hand: a conv2d pads height as well.
                    let x = x.pad_with_zeros(2, 1, 1)?.unsqueeze(2)?;
                    let weight = conv.weight().unsqueeze(2)?;
                    let bias = conv.bias().expect("a bias").reshape((1, 16, 1))?;
                    x.conv2d(&weight, 0, 1, 1, 1)?.squeeze(2)?.broadcast_add(&bias)?
                }
            };
            head.forward(&x.gelu_erf()?.mean(2)?)
        })
    };
    let weights = seed.split("weights");
    let learner = Learner::build(weights, DType::F64, &Device::Cpu, build, loss::cross_entropy)?;
    Ok(Subject::new(learner, data::sequences(seed)?))
}

/// Each layer sees a step, and the one 1, 2, 4 before it. The twin multiplies by each half of the kernel on its own.
fn dilated(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let width = 8;
    let tokens = embedding(VOCAB, width, vb.pp("tokens"))?;
    let config = |i: usize| Conv1dConfig { dilation: 1 << i, ..Default::default() };
    let layers = (0..3)
        .map(|i| conv1d(width, width, 2, config(i), vb.pp(format!("conv{i}"))))
        .collect::<candle_core::Result<Vec<_>>>()?;
    let head = linear(width, VOCAB, vb.pp("head"))?;
    let forward = move |ids: &Tensor| {
        let mut x = tokens.forward(ids)?;
        for (i, conv) in layers.iter().enumerate() {
            let early = x.pad_with_zeros(1, 1 << i, 0)?;
            let y = match buggy {
                true => conv.forward(&early.transpose(1, 2)?.contiguous()?)?.transpose(1, 2)?,
                false => {
                    let half = |i| conv.weight().narrow(2, i, 1)?.squeeze(2)?.t()?.contiguous();
                    let early = early.narrow(1, 0, TIME)?.contiguous()?;
                    let sum =
                        (early.broadcast_matmul(&half(0)?)? + x.broadcast_matmul(&half(1)?)?)?;
                    sum.broadcast_add(conv.bias().expect("a bias"))?
                }
            };
            x = (x + y.contiguous()?.silu()?)?;
        }
        head.forward(&x)
    };
    let ids = data::chains(seed)?;
    let (now, next) = (ids.narrow(1, 0, TIME)?, ids.narrow(1, 1, TIME)?);
    let learner = Learner::new(&vars, forward, token_loss);
    Ok(Subject::new(learner, (now.contiguous()?, next.contiguous()?)))
}

/// `[rows, channels, 8]`, halved and doubled again: coarse values are used as they are, and spread out.
fn widened(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let (first, deep) = (linear(8, 4, vb.pp("first"))?, linear(4, 4, vb.pp("deep"))?);
    let last = linear(8, 8, vb.pp("last"))?;
    let head = linear(6 * 8, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let coarse = first.forward(x)?.tanh()?;
        let (b, c, t) = coarse.dims3()?;
        let fine = match buggy {
            true => coarse.upsample_nearest1d(2 * t)?,
            false => coarse.unsqueeze(3)?.broadcast_as((b, c, t, 2))?.reshape((b, c, 2 * t))?,
        };
        let deep = deep.forward(&coarse)?.tanh()?;
        let deep = Tensor::cat(&[&deep, &coarse], 2)?;
        head.forward(&(last.forward(&fine)?.tanh()? + deep)?.flatten_from(1)?)
    };
    let x = seed.normal("x", (ROWS, 6, 8), DType::F64, CPU)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, data::labels(4)?)))
}

/// Three windows of two steps each, over `[rows, 6, width]`.
fn windows(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let (first, norm) = (linear(5, 8, vb.pp("first"))?, Norm::new(8, vb.pp("norm"))?);
    let window = linear(16, 8, vb.pp("window"))?;
    let head = linear(24, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = norm.forward(&first.forward(x)?)?;
        let x = match buggy {
            true => x.unfold(1, 2, 2)?,
            false => x.reshape(((), TIME / 2, 2, 8))?.transpose(2, 3)?,
        };
        let x = x.contiguous()?.flatten_from(2)?;
        head.forward(&window.forward(&x)?.gelu_erf()?.flatten_from(1)?)
    };
    let x = seed.normal("x", (ROWS, TIME, 5), DType::F64, CPU)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, data::labels(4)?)))
}

/// Each node sends to the node at seven times its number; some receive nothing, and one much.
fn messages(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let width = 12;
    let own = Mlp::new(&[6, width], Tensor::relu, vb.pp("own"))?;
    let sent = Mlp::new(&[6, 16, width], Tensor::relu, vb.pp("sent"))?;
    let head = linear(width, 4, vb.pp("head"))?;
    let to: Vec<u32> = (0..ROWS as u32).map(|i| if i < 4 { 0 } else { (7 * i + 1) % 11 }).collect();
    let to = Tensor::new(to, CPU)?;
    let everywhere = to.unsqueeze(1)?.broadcast_as((ROWS, width))?.contiguous()?;
    let forward = move |x: &Tensor| {
        let (own, sent) = (own.forward(x)?, sent.forward(x)?);
        let x = match buggy {
            true => own.scatter_add(&everywhere, &sent, 0)?,
            false => own.index_add(&to, &sent, 0)?,
        };
        head.forward(&x.tanh()?)
    };
    let x = seed.normal("x", (ROWS, 6), DType::F64, CPU)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, data::labels(4)?))
        .allow(Cause::BatchMixed)
        .allow(Cause::BatchSizeFixed))
}

/// Places mixed by a linear layer, as in an MLP-Mixer.
fn transposed(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let norm = Norm::new(8, vb.pp("norm"))?;
    let scale = vb.get_with_hints((TIME, 8), "positions", Init::Randn { mean: 0.0, stdev: 0.1 })?;
    let places = linear(TIME, TIME, vb.pp("places"))?;
    let head = linear(TIME * 8, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = x.broadcast_add(&scale)?;
        let y = norm.forward(&x)?.transpose(1, 2)?;
        let y = if buggy { y } else { y.contiguous()? };
        let y = places.forward(&y)?.tanh()?.transpose(1, 2)?;
        head.forward(&(x + y)?.flatten_from(1)?)
    };
    let x = seed.normal("x", (ROWS, TIME, 8), DType::F64, CPU)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, data::labels(4)?)))
}
