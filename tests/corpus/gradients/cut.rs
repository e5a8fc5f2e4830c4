//! Group F: branches that are cut off, by `detach` and by operations that leave the graph.

use std::cell::RefCell;

use candle_core::{DType, Device, Module, ModuleT, Tensor};
use candle_nn::{
    LSTM, Linear, RNN, embedding, kv_cache::KvCache, linear, loss, lstm, ops, rnn::LSTMState,
};
use candling::{Cause, Learner, Result, Seed};

use super::models::{ConvNorm, token_loss};
use crate::corpus::{
    data::{self, CPU, ROWS, TIME, VOCAB, weights},
    entry::{
        Assertion::{GradientsCorrect, GradientsFlow},
        Entry, Subject,
    },
    models::{Mlp, Norm, causal_mask},
};

const GROUP: &str = "gradients";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "F1b",
        group: GROUP,
        bug: "the gate of a squeeze-and-excitation block is detached",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| squeezed(seed, true),
        clean: |seed| squeezed(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F1c",
        group: GROUP,
        bug: "an LSTM's state is detached after every step, not after every window",
        // A gradient arrives, by one step: it is not the derivative.
        cause: Cause::GradientWrong,
        assertion: GradientsCorrect,
        buggy: |seed| detached_state(seed, true),
        clean: |seed| detached_state(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F1d",
        group: GROUP,
        bug: "the loss of the second task is of a detached output",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| two_tasks(seed, true),
        clean: |seed| two_tasks(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F1e",
        group: GROUP,
        bug: "of online and target network the online one is detached",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| bootstrapped(seed, true),
        clean: |seed| bootstrapped(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F1f",
        group: GROUP,
        bug: "the log-determinant of a flow is summed from detached scales",
        // As in the LSTM: the scales have a gradient, by what they do to the points.
        cause: Cause::GradientWrong,
        assertion: GradientsCorrect,
        buggy: |seed| flow(seed, true),
        clean: |seed| flow(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F9b",
        group: GROUP,
        bug: "features normalised in plain Rust, through to_vec2 and back",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| plain_rust(seed, true),
        clean: |seed| plain_rust(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F9c",
        group: GROUP,
        bug: "branches gathered by slice_set into a buffer",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| gathered(seed, true),
        clean: |seed| gathered(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F9d",
        group: GROUP,
        bug: "keys and values go through candle's KvCache in training",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| cached(seed, true),
        clean: |seed| cached(seed, false),
        missed_today: None,
    },
];

fn squeezed(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = ConvNorm::new(1, 8, vb.pp("first"))?;
    let gate = Mlp::new(&[8, 4, 8], Tensor::silu, vb.pp("gate"))?;
    let head = linear(8 * 16, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor, train: bool| {
        let x = first.forward_t(x, train)?.silu()?;
        let gate = ops::sigmoid(&gate.forward(&x.mean((2, 3))?)?)?;
        let gate = if buggy { gate.detach() } else { gate };
        let x = x.broadcast_mul(&gate.unsqueeze(2)?.unsqueeze(3)?)?;
        head.forward(&x.avg_pool2d(2)?.flatten_from(1)?)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::images(seed, 4)?))
}

fn detached_state(seed: Seed, buggy: bool) -> Result<Subject> {
    let build = move |vb: candle_nn::VarBuilder<'static>| {
        let tokens = embedding(VOCAB, 6, vb.pp("tokens"))?;
        let cell: LSTM = lstm(6, 8, Default::default(), vb.pp("lstm"))?;
        let head = linear(8, 4, vb.pp("head"))?;
        Ok(move |ids: &Tensor| {
            let x = tokens.forward(ids)?;
            let mut state = cell.zero_state(ids.dim(0)?)?;
            for t in 0..TIME {
                if buggy {
                    state = LSTMState { h: state.h.detach(), c: state.c.detach() };
                }
                state = cell.step(&x.narrow(1, t, 1)?.squeeze(1)?.contiguous()?, &state)?;
            }
            head.forward(&state.h)
        })
    };
    let seed = seed.split("weights");
    let learner = Learner::build(seed, DType::F32, &Device::Cpu, build, loss::cross_entropy)?;
    Ok(Subject::new(learner, data::sequences(seed)?))
}

/// A class and a number for each row, in one tensor of targets.
fn two_tasks(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let trunk = Mlp::new(&[6, 24, 24], Tensor::silu, vb.pp("trunk"))?;
    let classes = Mlp::new(&[24, 16, 4], Tensor::silu, vb.pp("classes"))?;
    let value = Mlp::new(&[24, 16, 1], Tensor::tanh, vb.pp("value"))?;
    let forward = move |x: &Tensor| {
        let x = trunk.forward(x)?.silu()?;
        Tensor::cat(&[classes.forward(&x)?, value.forward(&x)?], 1)
    };
    let loss = move |output: &Tensor, y: &Tensor| {
        let value = output.narrow(1, 4, 1)?;
        let value = if buggy { value.detach() } else { value };
        let class = y.narrow(1, 0, 1)?.squeeze(1)?.to_dtype(DType::U32)?;
        loss::cross_entropy(&output.narrow(1, 0, 4)?.contiguous()?, &class)?
            + loss::mse(&value, &y.narrow(1, 1, 1)?)?
    };
    let (x, number) = data::regression(seed, 6, DType::F64)?;
    let class = data::labels(4)?.to_dtype(DType::F64)?.unsqueeze(1)?;
    let y = Tensor::cat(&[class, number], 1)?;
    Ok(Subject::new(Learner::new(&vars, forward, loss), (x, y)))
}

/// Two views of each row. The online network predicts what the target network, which must not train, makes of the other.
fn bootstrapped(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let network = |name: &str| Mlp::new(&[6, 32, 8], Tensor::relu, vb.pp(name));
    let (online, target) = (network("online")?, network("target")?);
    let predictor = Mlp::new(&[8, 16, 8], Tensor::relu, vb.pp("predictor"))?;
    let x = seed.normal("x", (ROWS, 6), DType::F32, CPU)?;
    let noise = seed.normal("noise", (ROWS, 6), DType::F32, CPU)?;
    let other = (&x + (noise * 0.1)?)?;
    let unit = |x: &Tensor| x.broadcast_div(&(x.sqr()?.sum_keepdim(1)? + 1e-6)?.sqrt()?);
    let loss = move || {
        let (mut here, mut there) = (online.forward(&x)?, target.forward(&other)?);
        match buggy {
            true => here = here.detach(),
            false => there = there.detach(),
        }
        (unit(&predictor.forward(&here)?)? - unit(&there)?)?.sqr()?.sum(1)?.mean_all()
    };
    let learner = Learner::from_loss(&vars, loss).frozen(["target."]);
    Ok(Subject::owning(learner))
}

fn plain_rust(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let encoder = Mlp::new(&[6, 24, 8], Tensor::tanh, vb.pp("encoder"))?;
    let decoder = Mlp::new(&[8, 24, 6], Tensor::tanh, vb.pp("decoder"))?;
    let forward = move |x: &Tensor| {
        let code = encoder.forward(x)?;
        let code = match buggy {
            true => {
                let mut rows: Vec<Vec<f64>> = code.to_vec2()?;
                for row in &mut rows {
                    let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-6);
                    row.iter_mut().for_each(|v| *v /= norm);
                }
                Tensor::new(rows, CPU)?
            }
            false => code.broadcast_div(&(code.sqr()?.sum_keepdim(1)? + 1e-12)?.sqrt()?)?,
        };
        decoder.forward(&code)
    };
    let x = seed.normal("x", (ROWS, 6), DType::F64, CPU)?;
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(learner, (x.clone(), x)))
}

/// Three branches of their own width and activation, side by side.
fn gathered(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let branch = |name: &str, width| Mlp::new(&[6, 16, width], Tensor::relu, vb.pp(name));
    let branches = [branch("narrow", 4)?, branch("middle", 8)?, branch("wide", 12)?];
    let head = Mlp::new(&[24, 16, 4], Tensor::gelu, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let parts = branches.iter().map(|branch| branch.forward(x));
        let parts = parts.collect::<candle_core::Result<Vec<_>>>()?;
        if !buggy {
            return head.forward(&Tensor::cat(&parts, 1)?.relu()?);
        }
        let all = Tensor::zeros((x.dim(0)?, 24), DType::F32, CPU)?;
        let mut start = 0;
        for part in parts {
            all.slice_set(&part, 1, start)?;
            start += part.dim(1)?;
        }
        head.forward(&all.relu()?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// One decoder for training and generation.
fn cached(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB, 16, vb.pp("tokens"))?;
    let norm = Norm::new(16, vb.pp("norm"))?;
    let layer = |name: &str| linear(16, 16, vb.pp(name));
    let (query, key, value) = (layer("query")?, layer("key")?, layer("value")?);
    let (out, head) = (layer("out")?, linear(16, VOCAB, vb.pp("head"))?);
    let mask = causal_mask(DType::F32)?;
    let cache = RefCell::new(KvCache::new(1, TIME));
    let forward = move |ids: &Tensor| {
        let x = tokens.forward(ids)?;
        let y = norm.forward(&x)?;
        let (mut k, mut v) = (key.forward(&y)?, value.forward(&y)?);
        if buggy {
            let mut cache = cache.borrow_mut();
            *cache = KvCache::new(1, TIME);
            (k, v) = cache.append(&k, &v)?;
        }
        let scores = (query.forward(&y)?.matmul(&k.t()?.contiguous()?)? / 4.0)?;
        let seen = ops::softmax(&scores.broadcast_add(&mask)?, 2)?.matmul(&v)?;
        head.forward(&(x + out.forward(&seen)?)?)
    };
    let ids = data::chains(seed)?;
    let (now, next) = (ids.narrow(1, 0, TIME)?, ids.narrow(1, 1, TIME)?);
    let learner = Learner::new(&vars, forward, token_loss);
    Ok(Subject::new(learner, (now.contiguous()?, next.contiguous()?)))
}

/// Four affine couplings. Their last layers start at zero, as is usual: at first the flow changes nothing.
fn flow(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let couplings = (0..4)
        .map(|i| {
            let vb = vb.pp(format!("coupling{i}"));
            let (weight, bias) = (vb.get((4, 16), "last.weight")?, vb.get(4, "last.bias")?);
            Ok((linear(2, 16, vb.pp("first"))?, Linear::new(weight, Some(bias))))
        })
        .collect::<candle_core::Result<Vec<_>>>()?;
    let x = seed.normal("x", (ROWS, 4), DType::F64, CPU)?;
    let loss = move || {
        let (mut kept, mut moved) = (x.narrow(1, 0, 2)?.contiguous()?, x.narrow(1, 2, 2)?);
        let mut logs = Tensor::zeros(ROWS, DType::F64, CPU)?;
        for (first, last) in &couplings {
            let said = last.forward(&first.forward(&kept)?.gelu_erf()?)?;
            let (log, shift) = (said.narrow(1, 0, 2)?.tanh()?, said.narrow(1, 2, 2)?);
            let new = ((moved * log.exp()?)? + shift)?;
            logs = (logs + if buggy { log.detach() } else { log }.sum(1)?)?;
            (kept, moved) = (new.contiguous()?, kept);
        }
        let squares = (kept.sqr()?.sum(1)? + moved.sqr()?.sum(1)?)?;
        ((squares * 0.5)? - logs)?.mean_all()
    };
    let learner = Learner::from_loss(&vars, loss);
    // A density has no largest value on 16 points; this one is far above the first.
    Ok(Subject::owning(learner).loss_below(0.0))
}
