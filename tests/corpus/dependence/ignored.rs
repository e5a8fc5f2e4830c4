//! Inputs and positions that a model does not notice: groups J, B and C.

use std::rc::Rc;

use candle_core::{D, DType, Module, Tensor};
use candle_nn::{LSTMConfig, RNN, embedding, group_norm, linear, loss, lstm, ops, rotary_emb};
use candling::{Cause, Learner, Result, Seed};

use super::models::{Decoder, HIDDEN, Heads, fused_norm, mask, scores, sinusoids, softmax};
use crate::corpus::{
    data::{self, CPU, ROWS, VOCAB, weights},
    entry::{Assertion::Property, Entry, Subject},
    models::{Mlp, Norm, Residual},
    property::{
        Beside,
        Property::{Invariant, PositionSensitive, UsesInput},
    },
};

const GROUP: &str = "dependence";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "B13",
        group: GROUP,
        bug: "the keys are cut from the queries' part of a joint projection",
        cause: Cause::InputIgnored,
        assertion: Property(UsesInput),
        buggy: |seed| joint_projection(seed, true),
        clean: |seed| joint_projection(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B13b",
        group: GROUP,
        bug: "the last feature is the target, and was cut off twice",
        cause: Cause::InputIgnored,
        assertion: Property(UsesInput),
        buggy: |seed| tabular(seed, 5),
        clean: |seed| tabular(seed, 6),
        missed_today: None,
    },
    Entry {
        id: "C5c",
        group: GROUP,
        bug: "softmax over the one output of a classifier of two classes: it is always 1",
        cause: Cause::OutputConstant,
        assertion: Property(UsesInput),
        buggy: |seed| probability(seed, true),
        clean: |seed| probability(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J9",
        group: GROUP,
        bug: "an encoder without positions",
        cause: Cause::PositionIgnored,
        assertion: Property(PositionSensitive),
        buggy: |seed| encoder(seed, true),
        clean: |seed| encoder(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J9b",
        group: GROUP,
        bug: "the ids of positions are all zero: `ids.zeros_like()`",
        cause: Cause::PositionIgnored,
        assertion: Property(PositionSensitive),
        buggy: |seed| position_ids(seed, true),
        clean: |seed| position_ids(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J9c",
        group: GROUP,
        bug: "a position adds the same to all features, and the norm behind it takes that off",
        cause: Cause::PositionIgnored,
        assertion: Property(PositionSensitive),
        buggy: |seed| flat_positions(seed, true),
        clean: |seed| flat_positions(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J12",
        group: GROUP,
        bug: "rotary positions turn the queries and not the keys",
        cause: Cause::NotInvariant,
        assertion: Property(Invariant),
        buggy: |seed| rotary(seed, true),
        clean: |seed| rotary(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J18",
        group: GROUP,
        bug: "cross-attention is given its own input for the memory",
        cause: Cause::InputIgnored,
        assertion: Property(UsesInput),
        buggy: |seed| cross_attention(seed, true),
        clean: |seed| cross_attention(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J18b",
        group: GROUP,
        bug: "the time step of a denoiser is embedded, and the embedding is not added",
        cause: Cause::InputIgnored,
        assertion: Property(UsesInput),
        buggy: |seed| denoiser(seed, true),
        clean: |seed| denoiser(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J18c",
        group: GROUP,
        bug: "a recurrent decoder starts from zeros, not from the encoder's state",
        cause: Cause::InputIgnored,
        assertion: Property(UsesInput),
        buggy: |seed| translator(seed, true),
        clean: |seed| translator(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J24",
        group: GROUP,
        bug: "generation reads the logits of the first position, not of the last",
        cause: Cause::InputIgnored,
        assertion: Property(UsesInput),
        buggy: |seed| next_token(seed, true),
        clean: |seed| next_token(seed, false),
        missed_today: None,
    },
];

/// The core of an attention, asserted on its joint projection `[batch, time, 3 * width]`.
fn joint_projection(seed: Seed, buggy: bool) -> Result<Subject> {
    const WIDTH: usize = 6;
    let (_, vb) = weights(seed, DType::F32);
    let joint = linear(WIDTH, 3 * WIDTH, vb.pp("joint"))?;
    let core = move |joint: &Tensor| {
        let part = |i: usize| joint.narrow(2, i * WIDTH, WIDTH)?.contiguous();
        let (query, key, value) = (part(0)?, part(if buggy { 0 } else { 1 })?, part(2)?);
        softmax(&scores(&query, &key)?)?.matmul(&value)
    };
    let x = seed.normal("x", (3, 4, WIDTH), DType::F32, CPU)?;
    let projected = joint.forward(&x)?;
    let subject = Subject::inference(x, move |x: &Tensor| core(&joint.forward(x)?));
    Ok(subject.part(projected, core))
}

fn probability(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[5, 16, 1], Tensor::relu, vb)?;
    let x = seed.normal("x", (9, 5), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let logit = model.forward(x)?;
        if buggy { ops::softmax(&logit, D::Minus1) } else { ops::sigmoid(&logit) }
    }))
}

fn encoder(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB, 8, vb.pp("tokens"))?;
    let attention = Heads::new(8, 2, vb.pp("attention"))?;
    let norm = fused_norm(8, vb.pp("norm"))?;
    let head = linear(8, 4, vb.pp("head"))?;
    let ids = seed.tokens("x", VOCAB, (4, 6), CPU)?;
    Ok(Subject::inference(ids, move |ids: &Tensor| {
        let x = tokens.forward(ids)?;
        let x = match buggy {
            true => x,
            false => x.broadcast_add(&sinusoids(ids.dim(1)?, 8, DType::F32)?)?,
        };
        let x = norm.forward(&(&x + attention.forward(&x, &x, ops::softmax_last_dim)?)?)?;
        head.forward(&x.mean(1)?)
    }))
}

/// A tag for each token, from learned positions.
fn position_ids(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F64);
    let model = Decoder::tied(vb)?;
    let ids = seed.tokens("x", VOCAB, (3, 5), CPU)?;
    Ok(Subject::inference(ids, move |ids: &Tensor| {
        let (rows, time) = ids.dims2()?;
        let positions = match buggy {
            true => ids.zeros_like()?,
            false => Tensor::arange(0, time as u32, CPU)?.repeat((rows, 1))?,
        };
        let x = model.embed(ids, &positions)?;
        model.block(&x, |attention, x| attention.forward(x, x, softmax))
    }))
}

/// A function of the positions, the rest fixed: all of them moved on by the same changes nothing.
fn rotary(seed: Seed, queries_alone: bool) -> Result<Subject> {
    const TIME: usize = 5;
    let (_, vb) = weights(seed, DType::F64);
    let attention = Rc::new(Heads::new(8, 2, vb.pp("attention"))?);
    let x = seed.normal("x", (3, TIME, 8), DType::F64, CPU)?;
    let positions = Tensor::arange(0, TIME as u32, CPU)?.reshape((1, TIME))?;
    let table = sinusoids(64, 4, DType::F64)?.reshape((64, 2, 2))?;
    let attend = move |x: &Tensor, positions: &Tensor| {
        let angles = table.index_select(&positions.flatten_all()?, 0)?;
        let part = |i| angles.narrow(2, i, 1)?.squeeze(2)?.contiguous();
        let (sin, cos) = (part(0)?, part(1)?);
        let turn = |x: &Tensor| rotary_emb::rope_slow(x, &cos, &sin);
        let [query, key, value] = attention.project(x, x)?;
        let (query, key) = (turn(&attention.split(&query)?)?, attention.split(&key)?);
        let key = if queries_alone { key } else { turn(&key)? };
        let later = mask((TIME, TIME), DType::F64, HIDDEN, |query, key| key > query)?;
        attention.attend(&[query, key, attention.split(&value)?], |scores| {
            softmax(&scores.broadcast_add(&later)?)
        })
    };
    let (at, fixed) = (positions.clone(), x.narrow(0, 0, 1)?);
    let of_positions = attend.clone();
    let subject = Subject::inference(x, move |x: &Tensor| attend(x, &at))
        .part(positions, move |positions| of_positions(&fixed, positions));
    Ok(subject.beside(Beside::Change(Box::new(|positions| {
        positions.broadcast_add(&Tensor::new(7u32, CPU)?)
    }))))
}

/// A decoder's input and an encoder's output.
fn cross_attention(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let (own, cross) = (Heads::new(8, 2, vb.pp("own"))?, Heads::new(8, 2, vb.pp("cross"))?);
    let norms = [Norm::new(8, vb.pp("norm1"))?, Norm::new(8, vb.pp("norm2"))?];
    let x = seed.normal("x", (3, 4, 8), DType::F32, CPU)?;
    let memory = seed.normal("memory", (3, 6, 8), DType::F32, CPU)?;
    Ok(Subject::inference([x, memory], move |[x, memory]: &[Tensor; 2]| {
        let normed = norms[0].forward(x)?;
        let x = (x + own.forward(&normed, &normed, softmax)?)?;
        let normed = norms[1].forward(&x)?;
        &x + cross.forward(&normed, if buggy { &normed } else { memory }, softmax)?
    }))
}

/// Noised signals and their time steps, ids of 0 to 9.
fn denoiser(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let steps = embedding(10, 24, vb.pp("steps"))?;
    let first = linear(4, 24, vb.pp("first"))?;
    let norm = group_norm(4, 24, 1e-5, vb.pp("norm"))?;
    let (block, head) = (Residual::new(24, vb.pp("block"))?, linear(24, 4, vb.pp("head"))?);
    let forward = move |[x, step]: &[Tensor; 2]| {
        let step = steps.forward(step)?.silu()?;
        let x = first.forward(x)?;
        let x = if buggy { x } else { (x + step)? };
        let normed = norm.forward(&x.unsqueeze(2)?)?.squeeze(2)?;
        head.forward(&block.forward(&normed)?)
    };
    let x = seed.normal("x", (ROWS, 4), DType::F32, CPU)?;
    let steps = Tensor::arange(0, ROWS as u32, CPU)?.to_vec1::<u32>()?;
    let steps = Tensor::new(steps.iter().map(|i| i % 10).collect::<Vec<_>>(), CPU)?;
    let noise = seed.normal("noise", (ROWS, 4), DType::F32, CPU)?;
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(learner, ([x, steps], noise)))
}

/// A source, and what is translated so far.
fn translator(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB, 6, vb.pp("tokens"))?;
    let encoder = lstm(6, 8, LSTMConfig::default(), vb.pp("encoder"))?;
    let decoder = lstm(6, 8, LSTMConfig::default(), vb.pp("decoder"))?;
    let head = linear(8, VOCAB, vb.pp("head"))?;
    let source = seed.tokens("source", VOCAB, (4, 5), CPU)?;
    let target = seed.tokens("target", VOCAB, (4, 3), CPU)?;
    Ok(Subject::inference([source, target], move |[source, target]: &[Tensor; 2]| {
        let read = encoder.seq(&tokens.forward(source)?)?;
        let first = match buggy {
            true => decoder.zero_state(target.dim(0)?)?,
            false => read.last().expect("sequences are not empty").clone(),
        };
        let states = decoder.seq_init(&tokens.forward(target)?, &first)?;
        let states: Vec<&Tensor> = states.iter().map(|state| state.h()).collect();
        head.forward(&Tensor::stack(&states, 1)?)
    }))
}

/// The logits of the token that comes next, `[batch, vocabulary]`.
fn next_token(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Decoder::new(vb)?;
    let forward = move |ids: &Tensor| {
        let time = ids.dim(1)?;
        let later = mask((time, time), DType::F32, HIDDEN, |query, key| key > query)?;
        let logits = model.forward(ids, |scores| softmax(&scores.broadcast_add(&later)?))?;
        logits.narrow(1, if buggy { 0 } else { time - 1 }, 1)?.squeeze(1)
    };
    let (ids, y) = data::sequences(seed)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (ids.narrow(0, 0, 6)?, y.narrow(0, 0, 6)?)))
}

/// Columns of a table, and the features that a model is to use.
fn tabular(seed: Seed, features: usize) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[features, 32, 1], Tensor::relu, vb)?;
    let forward = move |x: &Tensor| model.forward(&x.narrow(1, 0, features)?.contiguous()?);
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F32)?))
}

fn flat_positions(seed: Seed, flat: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB, 8, vb.pp("tokens"))?;
    let attention = Heads::new(8, 2, vb.pp("attention"))?;
    let norm = Norm::new(8, vb.pp("norm"))?;
    let head = linear(8, 3, vb.pp("head"))?;
    let ids = seed.tokens("x", VOCAB, (5, 6), CPU)?;
    Ok(Subject::inference(ids, move |ids: &Tensor| {
        let time = ids.dim(1)?;
        let positions = match flat {
            true => {
                (Tensor::arange(0f32, time as f32, CPU)? / time as f64)?.reshape((1, time, 1))?
            }
            false => sinusoids(time, 8, DType::F32)?.unsqueeze(0)?,
        };
        let x = norm.forward(&tokens.forward(ids)?.broadcast_add(&positions)?)?;
        head.forward(&(&x + attention.forward(&x, &x, softmax)?)?.mean(1)?)
    }))
}
