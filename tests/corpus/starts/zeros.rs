//! Weights of one value: zeros that nobody drew, and zeros that are meant to be.

use candle_core::{DType, Module, Tensor};
use candle_nn::{
    AdamW, Conv2d, Conv2dConfig, Embedding, Init, Linear, Optimizer, VarBuilder, conv2d, embedding,
    init::DEFAULT_KAIMING_NORMAL, linear, loss, ops,
};
use candling::{Cause, Learner, Result, Seed};

use super::{GROUP, initialized};
use crate::corpus::{
    data::{self, TIME, VOCAB, weights},
    entry::{Assertion::Test, Entry, Subject},
    models::{Attention, Mlp, Norm, mean_pool, same},
    optimizers::adam,
};

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "D1c",
        group: GROUP,
        bug: "the kernels of a second convolution come from `VarBuilder::get` without a hint",
        cause: Cause::WeightsConstant,
        assertion: Test("initialized"),
        buggy: |seed| convolution(seed, true),
        clean: |seed| convolution(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D1d",
        group: GROUP,
        bug: "a table of tokens from `VarBuilder::get` without a hint: all tokens are alike",
        cause: Cause::WeightsConstant,
        assertion: Test("initialized"),
        buggy: |seed| table(seed, true),
        clean: |seed| table(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D1e",
        group: GROUP,
        bug: "both matrices of an adapter start at zero, where one is meant to: neither ever moves",
        cause: Cause::WeightsConstant,
        assertion: Test("initialized"),
        buggy: |seed| adapter(seed, true),
        clean: |seed| adapter(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D2b",
        group: GROUP,
        bug: "hidden weights of 1/fan_in each, in bf16: a layer that averages",
        cause: Cause::WeightsConstant,
        assertion: Test("initialized"),
        buggy: |seed| average(seed, true),
        clean: |seed| average(seed, false),
        missed_today: None,
    },
];

/// The clean half's last convolution of the residual branch starts at zero, as Fixup and diffusion networks do it.
fn convolution(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
    let first = conv2d(1, 4, 3, config, vb.pp("first"))?;
    let kernel = |name: &str, init: Option<Init>| -> candle_core::Result<Conv2d> {
        let vb = vb.pp(name);
        let weight = match init {
            Some(init) => vb.get_with_hints((4, 4, 3, 3), "weight", init)?,
            None => vb.get((4, 4, 3, 3), "weight")?,
        };
        Ok(Conv2d::new(weight, Some(vb.get(4, "bias")?), config))
    };
    let second = kernel("second", (!buggy).then_some(DEFAULT_KAIMING_NORMAL))?;
    let last = kernel("last", (!buggy).then_some(Init::Const(0.0)))?;
    let head = linear(64, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = mean_pool(&first.forward(x)?.relu()?)?;
        let branch = last.forward(&second.forward(&x)?.relu()?)?;
        head.forward(&(x + branch)?.flatten_from(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    let subject = Subject::new(learner, data::images(seed, 4)?);
    Ok(initialized(subject, if buggy { &[] } else { &["last"] }))
}

/// The clean half's positions start at zero: tokens alone tell them apart at first.
fn table(seed: Seed, buggy: bool) -> Result<Subject> {
    const WIDTH: usize = 16;
    let (vars, vb) = weights(seed, DType::F32);
    let tokens = match buggy {
        true => Embedding::new(vb.get((VOCAB, WIDTH), "tokens.weight")?, WIDTH),
        false => embedding(VOCAB, WIDTH, vb.pp("tokens"))?,
    };
    let positions = match buggy {
        true => {
            vb.get_with_hints((TIME, WIDTH), "positions", Init::Randn { mean: 0.0, stdev: 0.5 })?
        }
        false => vb.get((TIME, WIDTH), "positions")?,
    };
    let (attention, norm) =
        (Attention::new(WIDTH, vb.pp("attention"))?, Norm::new(WIDTH, vb.pp("norm"))?);
    let head = Mlp::new(&[WIDTH, 32, 4], Tensor::gelu, vb.pp("head"))?;
    let forward = move |ids: &Tensor| {
        let x = norm.forward(&tokens.forward(ids)?.broadcast_add(&positions)?)?;
        let x = (&x + attention.forward(&x, same, |scores| ops::softmax(scores, 2))?)?;
        head.forward(&x.mean(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(initialized(Subject::new(learner, data::sequences(seed)?), &[]))
}

/// Low-rank adapters beside frozen layers (LoRA): `b` starts at zero, so that the model starts as the frozen one.
fn adapter(seed: Seed, buggy: bool) -> Result<Subject> {
    const RANK: usize = 4;
    let (vars, vb) = weights(seed, DType::F64);
    let adapted = |input: usize, output: usize, vb: VarBuilder<'_>| -> candle_core::Result<_> {
        let base = linear(input, output, vb.pp("base"))?;
        let a = match buggy {
            true => vb.get((RANK, input), "lora_a.weight")?,
            false => vb.get_with_hints((RANK, input), "lora_a.weight", DEFAULT_KAIMING_NORMAL)?,
        };
        let b = vb.get((output, RANK), "lora_b.weight")?;
        Ok((base, Linear::new(a, None), Linear::new(b, None)))
    };
    let first = adapted(6, 48, vb.pp("first"))?;
    let head = linear(48, 1, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let (base, a, b) = &first;
        let hidden = (base.forward(x)? + b.forward(&a.forward(x)?)?)?;
        head.forward(&hidden.tanh()?)
    };
    let learner = Learner::new(&vars, forward, loss::mse)
        .frozen(["first.base"])
        .optimizer(|vars| AdamW::new(vars, adam(0.02)));
    let subject = Subject::new(learner, data::regression(seed, 6, DType::F64)?);
    Ok(initialized(subject, &["lora_b"]))
}

fn average(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::BF16);
    let init = match buggy {
        true => Init::Const(1.0 / 6.0),
        false => Init::Uniform { lo: -0.5, up: 0.5 },
    };
    let hidden = vb.pp("hidden");
    let first =
        Linear::new(hidden.get_with_hints((32, 6), "weight", init)?, Some(hidden.get(32, "bias")?));
    let head = linear(32, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| head.forward(&first.forward(x)?.silu()?);
    let loss = |logits: &Tensor, y: &Tensor| loss::cross_entropy(&logits.to_dtype(DType::F32)?, y);
    let learner = Learner::new(&vars, forward, loss);
    Ok(initialized(Subject::new(learner, data::classes(seed, 6, 4, DType::BF16)?), &[]))
}
