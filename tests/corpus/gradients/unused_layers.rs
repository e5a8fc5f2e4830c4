//! Groups C, E and H: layers that are built and have no part in the output.

use std::cell::Cell;

use candle_core::{DType, Device, Module, ModuleT, Tensor};
use candle_nn::{
    Init, LSTM, LSTMConfig, Linear, RNN, VarBuilder, batch_norm, embedding, linear, loss, lstm, ops,
};
use candling::{Cause, Learner, Result, Seed};

use super::models::{ConvNorm, one_hot};
use crate::corpus::{
    data::{self, CPU, ROWS, TIME, VOCAB, weights},
    entry::{Assertion::GradientsFlow, Entry, Subject},
    models::{Mlp, Norm, Residual},
};

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "C7b",
        group: "architecture",
        bug: "a loop over blocks that ends one early",
        cause: Cause::VariableUnused,
        assertion: GradientsFlow,
        buggy: |seed| mixed(seed, true),
        clean: |seed| mixed(seed, false),
        missed_today: None,
    },
    Entry {
        id: "C7c",
        group: "architecture",
        bug: "the first of three blocks is called three times",
        cause: Cause::VariableUnused,
        assertion: GradientsFlow,
        buggy: |seed| one_of_three(seed, true),
        clean: |seed| one_of_three(seed, false),
        missed_today: None,
    },
    Entry {
        id: "C7d",
        group: "architecture",
        bug: "both directions of a bidirectional LSTM run the forward cell",
        cause: Cause::VariableUnused,
        assertion: GradientsFlow,
        buggy: |seed| both_directions(seed, true),
        clean: |seed| both_directions(seed, false),
        missed_today: None,
    },
    Entry {
        id: "C7e",
        group: "architecture",
        bug: "a branch switched off by `* 0.0`, left from an experiment",
        cause: Cause::VariableUnused,
        assertion: GradientsFlow,
        buggy: |seed| gated_depth(seed, true),
        clean: |seed| gated_depth(seed, false),
        missed_today: None,
    },
    Entry {
        id: "C7f",
        group: "architecture",
        bug: "a pruning mask that keeps nothing of a layer",
        cause: Cause::VariableUnused,
        assertion: GradientsFlow,
        buggy: |seed| pruned(seed, 0),
        clean: |seed| pruned(seed, 2),
        missed_today: None,
    },
    Entry {
        id: "C5b",
        group: "architecture",
        bug: "the weights of a pooling attention normalised over the single query",
        cause: Cause::VariableUnused,
        assertion: GradientsFlow,
        buggy: |seed| single_query(seed, 1),
        clean: |seed| single_query(seed, 2),
        missed_today: None,
    },
    Entry {
        id: "E16b",
        group: "loss",
        bug: "the early exit of a network has no part in the loss",
        cause: Cause::VariableUnused,
        assertion: GradientsFlow,
        buggy: |seed| early_exit(seed, true),
        clean: |seed| early_exit(seed, false),
        // The exit is a part of the output, and so is no unused variable.
        missed_today: None,
    },
    Entry {
        id: "H14b",
        group: "modes",
        bug: "a batch norm runs, moves its statistics, and its result is thrown away",
        cause: Cause::VariableUnused,
        assertion: GradientsFlow,
        buggy: |seed| norm_discarded(seed, true),
        clean: |seed| norm_discarded(seed, false),
        missed_today: None,
    },
    Entry {
        id: "H15b",
        group: "modes",
        bug: "every channel of a 1x1 map normalised on its own: each value minus itself",
        cause: Cause::OutputConstant,
        assertion: GradientsFlow,
        buggy: |seed| single_values(seed, 16),
        clean: |seed| single_values(seed, 1),
        missed_today: None,
    },
];

/// Six patches of an image, mixed over places and over channels in turn.
fn mixed(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(8, 12, vb.pp("first"))?;
    let blocks = (0..3)
        .map(|i| {
            let vb = vb.pp(format!("block{i}"));
            let places = Mlp::new(&[TIME, 12, TIME], Tensor::gelu, vb.pp("places"))?;
            let channels = Mlp::new(&[12, 24, 12], Tensor::gelu, vb.pp("channels"))?;
            let norms = [Norm::new(12, vb.pp("norm1"))?, Norm::new(12, vb.pp("norm2"))?];
            Ok((places, channels, norms))
        })
        .collect::<candle_core::Result<Vec<_>>>()?;
    let head = linear(12, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let mut x = first.forward(x)?;
        let last = if buggy { blocks.len() - 1 } else { blocks.len() };
        for (places, channels, norms) in &blocks[..last] {
            let y = norms[0].forward(&x)?.transpose(1, 2)?.contiguous()?;
            x = (x + places.forward(&y)?.transpose(1, 2)?)?;
            x = (&x + channels.forward(&norms[1].forward(&x)?)?)?;
        }
        head.forward(&x.mean(1)?)
    };
    let x = seed.normal("x", (ROWS, TIME, 8), DType::F32, CPU)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, data::labels(4)?)))
}

/// Residual convolutions; in training one of them is left out now and then.
fn one_of_three(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = ConvNorm::new(1, 6, vb.pp("first"))?;
    let blocks = (0..3)
        .map(|i| ConvNorm::new(6, 6, vb.pp(format!("block{i}"))))
        .collect::<candle_core::Result<Vec<_>>>()?;
    let head = linear(6 * 16, 4, vb.pp("head"))?;
    let calls = Cell::new(0);
    let forward = move |x: &Tensor, train: bool| {
        let mut x = first.forward_t(x, train)?.relu()?.avg_pool2d(2)?;
        let call = calls.replace(calls.get() + 1);
        let draws = seed.uniform(&format!("depth {call}"), 0.0..1.0, 3, DType::F32, CPU)?;
        for (i, kept) in draws.ge(0.1)?.to_vec1::<u8>()?.into_iter().enumerate() {
            if !train || kept == 1 {
                let block = &blocks[if buggy { 0 } else { i }];
                x = (&x + block.forward_t(&x, train)?.relu()?)?;
            }
        }
        head.forward(&x.flatten_from(1)?)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::images(seed, 4)?))
}

fn both_directions(seed: Seed, buggy: bool) -> Result<Subject> {
    let build = move |vb: VarBuilder<'static>| {
        let tokens = embedding(VOCAB, 6, vb.pp("tokens"))?;
        let cell = |name: &str| lstm(6, 8, LSTMConfig::default(), vb.pp(name));
        let (ahead, back): (LSTM, LSTM) = (cell("ahead")?, cell("back")?);
        let head = linear(16, 4, vb.pp("head"))?;
        Ok(move |ids: &Tensor| {
            let (x, turned) = (tokens.forward(ids)?, tokens.forward(&ids.flip(&[1])?)?);
            let last = |cell: &LSTM, x: &Tensor| {
                let states = cell.seq(x)?;
                Ok::<_, candle_core::Error>(states.last().expect("there are tokens").h.clone())
            };
            let back = if buggy { &ahead } else { &back };
            head.forward(&Tensor::cat(&[last(&ahead, &x)?, last(back, &turned)?], 1)?)
        })
    };
    let weights = seed.split("weights");
    let learner = Learner::build(weights, DType::F32, &Device::Cpu, build, loss::cross_entropy)?;
    Ok(Subject::new(learner, data::sequences(seed)?))
}

/// Twelve blocks whose branches start behind gates of zero: at first the network is its first and last layer.
fn gated_depth(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 16, vb.pp("first"))?;
    let blocks = (0..12)
        .map(|i| {
            let vb = vb.pp(format!("block{i:02}"));
            let gate = vb.get_with_hints(1, "gate", Init::Const(0.0))?;
            Ok((linear(16, 16, vb.pp("inner"))?, gate))
        })
        .collect::<candle_core::Result<Vec<_>>>()?;
    let side = Mlp::new(&[6, 16, 16], Tensor::relu, vb.pp("side"))?;
    let gate = match buggy {
        true => None,
        false => Some(vb.get_with_hints(1, "side.gate", Init::Const(0.0))?),
    };
    let head = linear(16, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let beside = side.forward(x)?;
        let beside = match &gate {
            None => (beside * 0.0)?,
            Some(gate) => beside.broadcast_mul(gate)?,
        };
        let mut x = (first.forward(x)? + beside)?;
        for (inner, gate) in &blocks {
            x = (&x + inner.forward(&x)?.tanh()?.broadcast_mul(gate)?)?;
        }
        head.forward(&x)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// Of each four weights of the middle layer the mask keeps `kept`; a connection around the layer stays.
fn pruned(seed: Seed, kept: usize) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let (first, middle) = (linear(6, 24, vb.pp("first"))?, linear(24, 24, vb.pp("middle"))?);
    let head = linear(24, 1, vb.pp("head"))?;
    let mask: Vec<f64> =
        (0..24 * 24).map(|i| if (i * 7 + i / 24) % 4 < kept { 1.0 } else { 0.0 }).collect();
    let mask = Tensor::from_vec(mask, (24, 24), CPU)?;
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?.tanh()?;
        let middle = Linear::new((middle.weight() * &mask)?, middle.bias().cloned());
        head.forward(&(&x + middle.forward(&x)?.tanh()?)?)
    };
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F64)?))
}

/// The last token asks what to read of all.
fn single_query(seed: Seed, dim: usize) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(VOCAB, 16, vb.pp("first"))?;
    let layer = |name: &str| linear(16, 16, vb.pp(name));
    let (query, key, value) = (layer("query")?, layer("key")?, layer("value")?);
    let head = linear(32, 4, vb.pp("head"))?;
    let forward = move |ids: &Tensor| {
        let x = first.forward(&one_hot(ids, DType::F32)?)?.tanh()?;
        let last = x.narrow(1, TIME - 1, 1)?.contiguous()?;
        let scores = (query.forward(&last)?.matmul(&key.forward(&x)?.t()?.contiguous()?)? / 4.0)?;
        let read = ops::softmax(&scores, dim)?.matmul(&value.forward(&x)?)?;
        head.forward(&Tensor::cat(&[read.squeeze(1)?, x.mean(1)?], 1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::sequences(seed)?))
}

/// Logits after the first block and after the last, each with a loss.
fn early_exit(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 24, vb.pp("first"))?;
    let blocks = [Residual::new(24, vb.pp("b0"))?, Residual::new(24, vb.pp("b1"))?];
    let (exit, head) = (linear(24, 4, vb.pp("exit"))?, linear(24, 4, vb.pp("head"))?);
    let forward = move |x: &Tensor| {
        let early = blocks[0].forward(&first.forward(x)?)?;
        let late = blocks[1].forward(&early)?;
        Tensor::stack(&[exit.forward(&early)?, head.forward(&late)?], 1)
    };
    let loss = move |logits: &Tensor, y: &Tensor| {
        let of = |exit: usize| {
            loss::cross_entropy(&logits.narrow(1, exit, 1)?.squeeze(1)?.contiguous()?, y)
        };
        let late = of(1)?;
        if buggy { Ok(late) } else { late + (of(0)? * 0.3)? }
    };
    let learner = Learner::new(&vars, forward, loss);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

fn norm_discarded(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, second) = (linear(6, 24, vb.pp("first"))?, linear(24, 24, vb.pp("second"))?);
    let norms = [batch_norm(24, 1e-5, vb.pp("norm1"))?, batch_norm(24, 1e-5, vb.pp("norm2"))?];
    let head = linear(24, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor, train: bool| {
        let x = norms[0].forward_t(&first.forward(x)?, train)?.relu()?;
        let y = second.forward(&x)?;
        let normalised = norms[1].forward_t(&y, train)?;
        head.forward(&if buggy { y } else { normalised }.relu()?)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// A network that pools to one value a channel, and then normalises in groups.
fn single_values(seed: Seed, groups: usize) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(64, 16, vb.pp("first"))?;
    let norm = candle_nn::group_norm(groups, 16, 1e-5, vb.pp("norm"))?;
    let head = Mlp::new(&[16, 16, 4], Tensor::relu, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = first.forward(&x.flatten_from(1)?)?.unsqueeze(2)?.unsqueeze(3)?;
        head.forward(&norm.forward(&x)?.flatten_from(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::images(seed, 4)?))
}
