//! What a call leaves behind, what chance adds, and networks that are no networks: groups N, C and J.

use std::cell::{Cell, RefCell};

use candle_core::{DType, Module, Tensor};
use candle_nn::{
    Conv2dConfig, Embedding, Init, LSTMConfig, Linear, RNN, conv2d, embedding, linear, loss, lstm,
};
use candling::{Cause, Learner, Result, Seed};

use super::models::{HIDDEN, Heads, fused_norm, mask, softmax, token_loss};
use crate::corpus::{
    data::{self, CPU, VOCAB, weights},
    entry::{
        Assertion::{GradientsFlow, Property},
        Entry, Subject,
    },
    models::{Activation, Mlp, Norm, same},
    property::Property::{BatchIndependent, Deterministic, Nonlinear},
};

const GROUP: &str = "properties";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "C1b",
        group: GROUP,
        bug: "convolutions without an activation between them",
        cause: Cause::NetworkLinear,
        assertion: Property(Nonlinear),
        buggy: |seed| convolutions(seed, same),
        clean: |seed| convolutions(seed, Tensor::relu),
        missed_today: None,
    },
    Entry {
        id: "C1c",
        group: GROUP,
        bug: "the activation's result is thrown away: `let _ = x.gelu()`",
        cause: Cause::NetworkLinear,
        assertion: Property(Nonlinear),
        buggy: |seed| residual(seed, true),
        clean: |seed| residual(seed, false),
        missed_today: None,
    },
    Entry {
        id: "C1d",
        group: GROUP,
        bug: "a time series model whose blocks have lost their `tanh`",
        cause: Cause::NetworkLinear,
        assertion: Property(Nonlinear),
        buggy: |seed| series(seed, same),
        clean: |seed| series(seed, Tensor::tanh),
        missed_today: None,
    },
    Entry {
        id: "C1e",
        group: GROUP,
        bug: "a leaky activation of slope 1",
        cause: Cause::NetworkLinear,
        assertion: Property(Nonlinear),
        buggy: |seed| leaky(seed, 1.0),
        clean: |seed| leaky(seed, 0.2),
        missed_today: None,
    },
    Entry {
        id: "J25",
        group: GROUP,
        bug: "the head is tied to a copy of the table of tokens, which does not train",
        cause: Cause::VariableUntracked,
        assertion: GradientsFlow,
        buggy: |seed| tied(seed, true),
        clean: |seed| tied(seed, false),
        // The copy is no variable, and the table has its gradients from the tokens.
        missed_today: Some("assert_architecture"),
    },
    Entry {
        id: "N1",
        group: GROUP,
        bug: "evaluation moves the running mean that it subtracts",
        cause: Cause::StateKept,
        assertion: Property(Deterministic),
        buggy: |seed| running_mean(seed, true),
        clean: |seed| running_mean(seed, false),
        missed_today: None,
    },
    Entry {
        id: "N1b",
        group: GROUP,
        bug: "a recurrent layer starts from the state that the last call ended in",
        cause: Cause::StateKept,
        assertion: Property(Deterministic),
        buggy: |seed| recurrent(seed, true),
        clean: |seed| recurrent(seed, false),
        missed_today: None,
    },
    Entry {
        id: "N1c",
        group: GROUP,
        bug: "a mask is kept from the first call, and fits that call's padding alone",
        cause: Cause::StateKept,
        assertion: Property(BatchIndependent),
        buggy: |seed| kept_mask(seed, true),
        clean: |seed| kept_mask(seed, false),
        missed_today: None,
    },
    Entry {
        id: "N1d",
        group: GROUP,
        bug: "outputs are smoothed with those of the last call",
        cause: Cause::StateKept,
        assertion: Property(Deterministic),
        buggy: |seed| smoothed(seed, true),
        clean: |seed| smoothed(seed, false),
        missed_today: None,
    },
    Entry {
        id: "N2",
        group: GROUP,
        bug: "an autoencoder draws its code in evaluation too",
        cause: Cause::NotReproducible,
        assertion: Property(Deterministic),
        buggy: |seed| autoencoder(seed, true),
        clean: |seed| autoencoder(seed, false),
        missed_today: None,
    },
    Entry {
        id: "N2b",
        group: GROUP,
        bug: "a router's exploration noise stays on: the expert is another one in some calls",
        cause: Cause::NotReproducible,
        assertion: Property(Deterministic),
        buggy: |seed| routed(seed, true),
        clean: |seed| routed(seed, false),
        missed_today: None,
    },
];

fn convolutions(seed: Seed, activation: Activation) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
    let layers = [conv2d(1, 4, 3, config, vb.pp("c0"))?, conv2d(4, 4, 3, config, vb.pp("c1"))?];
    let head = linear(4, 3, vb.pp("head"))?;
    let x = seed.normal("x", (4, 1, 6, 6), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let x = layers[1].forward(&activation(&layers[0].forward(x)?)?)?;
        head.forward(&x.mean((2, 3))?)
    }))
}

fn residual(seed: Seed, discarded: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F64);
    let layers: Vec<Linear> =
        (0..4).map(|i| linear(8, 8, vb.pp(i))).collect::<candle_core::Result<_>>()?;
    let x = seed.normal("x", (11, 8), DType::F64, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let mut x = x.clone();
        for layer in &layers {
            let inner = layer.forward(&x)?;
            let active = inner.gelu()?;
            x = (x + if discarded { inner } else { active })?;
        }
        Ok(x)
    }))
}

/// Forecasts from a window: trends are linear on purpose, what is added to them is not.
fn series(seed: Seed, activation: Activation) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 24, vb.pp("first"))?;
    let trend = linear(12, 1, vb.pp("trend"))?;
    let block = Mlp::new(&[48, 24, 1], activation, vb.pp("block"))?;
    let x = seed.normal("x", (8, 2, 6), DType::F32, CPU)?;
    let y = seed.normal("y", (8, 1), DType::F32, CPU)?;
    let forward = move |x: &Tensor| {
        let inner = activation(&first.forward(x)?)?;
        block.forward(&inner.flatten_from(1)?)? + trend.forward(&x.flatten_from(1)?)?
    };
    Ok(Subject::new(Learner::new(&vars, forward, loss::mse), (x, y)))
}

fn tied(seed: Seed, copied: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let init = Init::Randn { mean: 0.0, stdev: 0.25 };
    let tokens = Embedding::new(vb.get_with_hints((VOCAB, 16), "tokens.weight", init)?, 16);
    let block = Mlp::new(&[16, 32, 16], Tensor::gelu, vb.pp("block"))?;
    let table = tokens.embeddings();
    let head = Linear::new(if copied { table.copy()?.detach() } else { table.clone() }, None);
    let forward = move |ids: &Tensor| {
        let x = tokens.forward(ids)?;
        head.forward(&(&x + block.forward(&x)?)?)
    };
    let chains = data::chains(seed)?;
    let part = |from| chains.narrow(1, from, 6)?.contiguous();
    let learner = Learner::new(&vars, forward, token_loss);
    Ok(Subject::new(learner, (part(0)?, part(1)?)))
}

fn running_mean(seed: Seed, moves: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 4], Tensor::silu, vb)?;
    let (x, y) = data::classes(seed, 6, 4, DType::F32)?;
    let mean = RefCell::new(x.mean_keepdim(0)?);
    let forward = move |x: &Tensor, train: bool| {
        let old = mean.borrow().clone();
        if train || moves {
            mean.replace(((&old * 0.9)? + (x.detach().mean_keepdim(0)? * 0.1)?)?);
        }
        model.forward(&x.broadcast_sub(&old)?)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    // The mean so far is of all rows: one without the last moves it.
    let part = (x.narrow(0, 0, 15)?, y.narrow(0, 0, 15)?);
    Ok(Subject::new(learner, part))
}

fn recurrent(seed: Seed, keeps: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let cell = lstm(3, 6, LSTMConfig::default(), vb.pp("lstm"))?;
    let head = linear(6, 2, vb.pp("head"))?;
    let state = RefCell::new(None);
    let x = seed.normal("x", (4, 5, 3), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let first = match state.take() {
            Some(state) if keeps => state,
            _ => cell.zero_state(x.dim(0)?)?,
        };
        let states = cell.seq_init(x, &first)?;
        let last = states.last().expect("sequences are not empty").clone();
        state.replace(Some(last.clone()));
        head.forward(last.h())
    }))
}

/// Ids with padding of 0, which attention leaves out.
fn kept_mask(seed: Seed, keeps: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB, 8, vb.pp("tokens"))?;
    let attention = Heads::new(8, 2, vb.pp("attention"))?;
    let norm = fused_norm(8, vb.pp("norm"))?;
    let kept = RefCell::new(None::<Tensor>);
    let (ids, _) = data::tagged(seed)?;
    Ok(Subject::inference(ids, move |ids: &Tensor| {
        let padding = match kept.borrow().clone() {
            Some(kept) if keeps => kept,
            _ => (ids.eq(0u32)?.to_dtype(DType::F32)? * HIDDEN)?,
        };
        kept.replace(Some(padding.clone()));
        let (_, time) = ids.dims2()?;
        let later = mask((time, time), DType::F32, HIDDEN, |query, key| key > query)?;
        let x = tokens.forward(ids)?;
        let normed = norm.forward(&x)?;
        let hidden = padding.unsqueeze(1)?.unsqueeze(1)?.broadcast_add(&later)?;
        &x + attention.forward(&normed, &normed, |s| softmax(&s.broadcast_add(&hidden)?))?
    }))
}

fn autoencoder(seed: Seed, draws: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let encoder = Mlp::new(&[6, 16, 8], Tensor::relu, vb.pp("encoder"))?;
    let decoder = Mlp::new(&[4, 16, 6], Tensor::relu, vb.pp("decoder"))?;
    let x = seed.normal("x", (10, 6), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let code = encoder.forward(x)?;
        let mean = code.narrow(1, 0, 4)?.contiguous()?;
        let deviation = (code.narrow(1, 4, 4)?.contiguous()? * 0.5)?.exp()?;
        let code = if draws { (&mean + (mean.randn_like(0.0, 1.0)? * deviation)?)? } else { mean };
        decoder.forward(&code)
    }))
}

/// One expert of three for each row. The noise is drawn from a seed, another one for each call.
fn routed(seed: Seed, noisy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let router = linear(6, 3, vb.pp("router"))?;
    let experts = (0..3).map(|i| linear(6, 6, vb.pp(format!("expert{i}"))));
    let experts = experts.collect::<candle_core::Result<Vec<_>>>()?;
    let norm = Norm::new(6, vb.pp("norm"))?;
    let calls = Cell::new(0);
    let x = seed.normal("x", (8, 6), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let mut scores = router.forward(&norm.forward(x)?)?;
        if noisy {
            let call = calls.replace(calls.get() + 1);
            let noise = seed.normal(&format!("noise {call}"), scores.shape(), DType::F32, CPU)?;
            scores = (scores + (noise * 0.3)?)?;
        }
        let chosen = scores.argmax_keepdim(1)?;
        let gate = softmax(&scores)?.gather(&chosen, 1)?;
        let outputs = experts.iter().map(|expert| expert.forward(x));
        let outputs = Tensor::stack(&outputs.collect::<candle_core::Result<Vec<_>>>()?, 1)?;
        let chosen = chosen.unsqueeze(2)?.broadcast_as((x.dim(0)?, 1, 6))?.contiguous()?;
        x + outputs.gather(&chosen, 1)?.squeeze(1)?.broadcast_mul(&gate)?
    }))
}

fn leaky(seed: Seed, slope: f64) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::BF16);
    let layers = [linear(6, 12, vb.pp("l0"))?, linear(12, 12, vb.pp("l1"))?];
    let head = linear(12, 4, vb.pp("head"))?;
    let x = seed.normal("x", (9, 6), DType::BF16, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let mut x = x.clone();
        for layer in &layers {
            x = candle_nn::ops::leaky_relu(&layer.forward(&x)?, slope)?;
        }
        head.forward(&x)
    }))
}

/// Scores of a stream, which the caller may smooth.
fn smoothed(seed: Seed, smooths: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[5, 12, 2], Tensor::gelu, vb)?;
    let last = RefCell::new(None::<Tensor>);
    let x = seed.normal("x", (2, 5), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let scores = model.forward(x)?;
        let smooth = match last.take() {
            Some(last) if smooths && last.dims() == scores.dims() => {
                ((&scores * 0.7)? + (last * 0.3)?)?
            }
            _ => scores,
        };
        last.replace(Some(smooth.clone()));
        Ok(smooth)
    }))
}
