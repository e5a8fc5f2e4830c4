//! Weights whose size forgets the number of terms that they add up.

use candle_core::{DType, Module, Tensor};
use candle_nn::{
    AdamW, Conv2d, Conv2dConfig, Embedding, Init, LSTMConfig, Linear, Optimizer, RNN, VarBuilder,
    conv2d, embedding, linear, loss, lstm, ops, rnn::LSTM,
};
use candling::{Cause, Learner, Result, Seed};

use super::{GROUP, initialized};
use crate::corpus::{
    data::{self, TIME, VOCAB, weights},
    entry::{Assertion::Test, Entry, Subject},
    models::{Norm, causal_mask, mean_pool},
    optimizers::adam,
};

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "D3e",
        group: GROUP,
        bug: "kernels scaled by their area alone: the channels are forgotten in the fan-in",
        cause: Cause::WeightsScale,
        assertion: Test("initialized"),
        buggy: |seed| kernels(seed, true),
        clean: |seed| kernels(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D3f",
        group: GROUP,
        bug: "weights drawn from 0..1, as a random generator gives them",
        cause: Cause::WeightsScale,
        assertion: Test("initialized"),
        buggy: |seed| from_a_generator(seed, true),
        clean: |seed| from_a_generator(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D3g",
        group: GROUP,
        bug: "a recurrent layer whose weights have a standard deviation of 1",
        cause: Cause::WeightsScale,
        assertion: Test("initialized"),
        buggy: |seed| recurrent(seed, true),
        clean: |seed| recurrent(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D3h",
        group: GROUP,
        bug: "a decoder with 0.0002 where 0.02 was meant",
        cause: Cause::WeightsScale,
        assertion: Test("initialized"),
        buggy: |seed| decoder(seed, 2e-4),
        clean: |seed| decoder(seed, 0.02),
        missed_today: None,
    },
    Entry {
        id: "D3i",
        group: GROUP,
        bug: "the variance is given where the standard deviation is asked for, the wrong way up: sqrt(fan_in)",
        cause: Cause::WeightsScale,
        assertion: Test("initialized"),
        buggy: |seed| one_layer(seed, true),
        clean: |seed| one_layer(seed, false),
        missed_today: None,
    },
];

/// Four convolutions of 16 channels; the clean half's are Kaiming's for the fan-out, as in torchvision's residual nets.
fn kernels(seed: Seed, buggy: bool) -> Result<Subject> {
    const CHANNELS: usize = 16;
    let (vars, vb) = weights(seed, DType::F32);
    let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
    let std = match buggy {
        true => (2.0f64 / 9.0).sqrt(),
        false => (2.0f64 / (9 * CHANNELS) as f64).sqrt(),
    };
    let first = conv2d(1, CHANNELS, 3, config, vb.pp("first"))?;
    let init = Init::Randn { mean: 0.0, stdev: std };
    let weight = vb.get_with_hints((CHANNELS, CHANNELS, 3, 3), "second.weight", init)?;
    let second = Conv2d::new(weight, None, config);
    let head = linear(CHANNELS * 16, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = mean_pool(&first.forward(x)?.relu()?)?;
        head.forward(&second.forward(&x)?.relu()?.flatten_from(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(initialized(Subject::new(learner, data::images(seed, 4)?), &[]))
}

/// The clean half is Xavier's uniform, in f64.
fn from_a_generator(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let layer = |name: &str, input: usize, output: usize| -> candle_core::Result<Linear> {
        let vb = vb.pp(name);
        let bound = (6.0 / (input + output) as f64).sqrt();
        let init = match buggy {
            true => Init::Uniform { lo: 0.0, up: 1.0 },
            false => Init::Uniform { lo: -bound, up: bound },
        };
        Ok(Linear::new(
            vb.get_with_hints((output, input), "weight", init)?,
            Some(vb.get(output, "bias")?),
        ))
    };
    let (first, second, head) =
        (layer("first", 6, 48)?, layer("second", 48, 48)?, layer("head", 48, 1)?);
    let forward =
        move |x: &Tensor| head.forward(&second.forward(&first.forward(x)?.tanh()?)?.tanh()?);
    let learner =
        Learner::new(&vars, forward, loss::mse).optimizer(|vars| AdamW::new(vars, adam(0.01)));
    Ok(initialized(Subject::new(learner, data::regression(seed, 6, DType::F64)?), &[]))
}

fn recurrent(seed: Seed, buggy: bool) -> Result<Subject> {
    const WIDTH: usize = 16;
    let (vars, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB, 8, vb.pp("tokens"))?;
    let one = Init::Randn { mean: 0.0, stdev: 1.0 };
    let config = match buggy {
        true => LSTMConfig { w_ih_init: one, w_hh_init: one, ..LSTMConfig::default() },
        false => LSTMConfig::default(),
    };
    let cell: LSTM = lstm(8, WIDTH, config, vb.pp("lstm"))?;
    let head = linear(WIDTH, 4, vb.pp("head"))?;
    let forward = move |ids: &Tensor| {
        let states = cell.seq(&tokens.forward(ids)?)?;
        head.forward(states.last().expect("sequences are not empty").h())
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(initialized(Subject::new(learner, data::sequences(seed)?), &[]))
}

/// One block of a decoder. The clean half starts as GPT-2: 0.02, and 0.02 / sqrt(2 * layers) before each residual.
fn decoder(seed: Seed, std: f64) -> Result<Subject> {
    const WIDTH: usize = 32;
    let (vars, vb) = weights(seed, DType::F32);
    let normal = |stdev: f64| Init::Randn { mean: 0.0, stdev };
    let layer =
        |name: &str, input: usize, output: usize, std: f64| -> candle_core::Result<Linear> {
            let vb: VarBuilder<'_> = vb.pp(name);
            let weight = vb.get_with_hints((output, input), "weight", normal(std))?;
            Ok(Linear::new(weight, Some(vb.get(output, "bias")?)))
        };
    let small = std / 2f64.sqrt();
    let tokens =
        Embedding::new(vb.get_with_hints((VOCAB, WIDTH), "wte.weight", normal(std))?, WIDTH);
    let positions = vb.get_with_hints((TIME, WIDTH), "wpe.weight", normal(std))?;
    let attend = layer("attn.c_attn", WIDTH, 3 * WIDTH, std)?;
    let out = layer("attn.c_proj", WIDTH, WIDTH, small)?;
    let (up, down) = (layer("mlp.c_fc", WIDTH, 64, std)?, layer("mlp.c_proj", 64, WIDTH, small)?);
    let norms = [
        Norm::new(WIDTH, vb.pp("ln_1"))?,
        Norm::new(WIDTH, vb.pp("ln_2"))?,
        Norm::new(WIDTH, vb.pp("ln_f"))?,
    ];
    let head = layer("lm_head", WIDTH, VOCAB, std)?;
    let mask = causal_mask(DType::F32)?;
    let forward = move |ids: &Tensor| {
        let x = tokens.forward(ids)?.broadcast_add(&positions)?;
        let qkv = attend.forward(&norms[0].forward(&x)?)?;
        let part = |at: usize| qkv.narrow(2, at * WIDTH, WIDTH)?.contiguous();
        let scores = (part(0)?.matmul(&part(1)?.t()?.contiguous()?)? / (WIDTH as f64).sqrt())?;
        let mixed = ops::softmax(&scores.broadcast_add(&mask)?, 2)?.matmul(&part(2)?)?;
        let x = (x + out.forward(&mixed)?)?;
        let x = (&x + down.forward(&up.forward(&norms[1].forward(&x)?)?.gelu()?)?)?;
        head.forward(&norms[2].forward(&x)?)?.flatten_to(1)
    };
    let loss = |logits: &Tensor, y: &Tensor| loss::cross_entropy(logits, &y.flatten_all()?);
    let chains = data::chains(seed)?;
    let part = |start| chains.narrow(1, start, TIME)?.contiguous();
    let subject = Subject::new(Learner::new(&vars, forward, loss), (part(0)?, part(1)?));
    Ok(initialized(subject, &[]))
}

/// The clean half's head is a hundredth of its usual size, as a policy's is (C. Hsu et al., 2020; PPO's details).
fn one_layer(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, second) = (linear(6, 32, vb.pp("first"))?, vb.pp("second"));
    let std = if buggy { 32f64.sqrt() } else { 1.0 / 32f64.sqrt() };
    let init = Init::Randn { mean: 0.0, stdev: std };
    let second = Linear::new(
        second.get_with_hints((32, 32), "weight", init)?,
        Some(second.get(32, "bias")?),
    );
    let policy = Init::Randn { mean: 0.0, stdev: 0.01 / 32f64.sqrt() };
    let head = Linear::new(
        vb.get_with_hints((4, 32), "policy.weight", policy)?,
        Some(vb.get(4, "policy.bias")?),
    );
    let forward =
        move |x: &Tensor| head.forward(&second.forward(&first.forward(x)?.tanh()?)?.tanh()?);
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(initialized(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?), &[]))
}
