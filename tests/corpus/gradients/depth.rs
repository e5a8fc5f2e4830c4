//! Groups D and F: gradients that shrink or grow on their way back.

use candle_core::{DType, Device, Module, Tensor};
use candle_nn::{
    AdamW, Init, Linear, Optimizer, VarBuilder, init::DEFAULT_KAIMING_NORMAL, linear, loss, ops,
};
use candling::{Cause, Learner, Result, Seed};

use super::models::Block;
use crate::corpus::{
    data::{self, CPU, ROWS, TIME, weights},
    entry::{Assertion::GradientsFlow, Entry, Subject},
    models::{Mlp, Norm, Residual},
    optimizers::adam,
};

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "F15b",
        group: "gradients",
        bug: "twenty tanh layers with weights of standard deviation 0.05",
        cause: Cause::GradientVanishing,
        assertion: GradientsFlow,
        buggy: small_tanh,
        clean: half_precision_residual,
        missed_today: None,
    },
    Entry {
        id: "F15c",
        group: "gradients",
        bug: "an autoencoder of twelve sigmoid layers",
        cause: Cause::GradientVanishing,
        assertion: GradientsFlow,
        buggy: |seed| autoencoder(seed, true),
        clean: |seed| autoencoder(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F15d",
        group: "gradients",
        bug: "an encoder of twelve blocks, with a sigmoid after each",
        cause: Cause::GradientVanishing,
        assertion: GradientsFlow,
        buggy: |seed| deep_encoder(seed, true),
        clean: |seed| deep_encoder(seed, false),
        missed_today: Some("assert_sensitive"),
    },
    Entry {
        id: "F16b",
        group: "gradients",
        bug: "twenty-four steps of a recurrent layer whose weight has a standard deviation of 1",
        cause: Cause::GradientExploding,
        assertion: GradientsFlow,
        buggy: |seed| unrolled(seed, 1.0),
        // A spectral radius of 0.8.
        clean: |seed| unrolled(seed, 0.2),
        missed_today: None,
    },
    Entry {
        id: "D1b",
        group: "initialisation",
        bug: "an attention whose four weights come from `VarBuilder::get` without a hint: two zeros in a row never move",
        cause: Cause::WeightsConstant,
        assertion: GradientsFlow,
        buggy: |seed| zero_attention(seed, true),
        clean: |seed| zero_attention(seed, false),
        missed_today: None,
    },
];

fn drawn(from: usize, to: usize, stdev: f64, vb: VarBuilder<'_>) -> candle_core::Result<Linear> {
    let weight = vb.get_with_hints((to, from), "weight", Init::Randn { mean: 0.0, stdev })?;
    Ok(Linear::new(weight, Some(vb.get_with_hints(to, "bias", Init::Const(0.0))?)))
}

fn small_tanh(seed: Seed) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 16, vb.pp("first"))?;
    let layers = (0..20)
        .map(|i| drawn(16, 16, 0.05, vb.pp(format!("l{i:02}"))))
        .collect::<candle_core::Result<Vec<_>>>()?;
    let head = linear(16, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?.tanh()?;
        head.forward(&layers.iter().try_fold(x, |x, layer| layer.forward(&x)?.tanh())?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// Fourteen blocks in bf16, and a head that starts small.
fn half_precision_residual(seed: Seed) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::BF16);
    let first = linear(6, 16, vb.pp("first"))?;
    let blocks = (0..14)
        .map(|i| Residual::new(16, vb.pp(format!("b{i:02}"))))
        .collect::<candle_core::Result<Vec<_>>>()?;
    let (norm, head) = (Norm::new(16, vb.pp("norm"))?, drawn(16, 4, 0.02, vb.pp("head"))?);
    let forward = move |x: &Tensor| {
        let x = blocks.iter().try_fold(first.forward(x)?, |x, block| block.forward(&x))?;
        head.forward(&norm.forward(&x)?)
    };
    let loss = |logits: &Tensor, y: &Tensor| loss::cross_entropy(&logits.to_dtype(DType::F32)?, y);
    let learner = Learner::new(&vars, forward, loss);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::BF16)?))
}

fn autoencoder(seed: Seed, buggy: bool) -> Result<Subject> {
    let build = move |vb: VarBuilder<'static>| {
        let sizes = [8, 24, 22, 20, 18, 16, 14, 14, 16, 18, 20, 22, 24];
        let layers = (sizes.windows(2).enumerate())
            .map(|(i, w)| {
                let vb = vb.pp(format!("l{i:02}"));
                let weight = vb.get_with_hints((w[1], w[0]), "weight", DEFAULT_KAIMING_NORMAL)?;
                Ok(Linear::new(weight, Some(vb.get_with_hints(w[1], "bias", Init::Const(0.0))?)))
            })
            .collect::<candle_core::Result<Vec<_>>>()?;
        let last = linear(24, 8, vb.pp("last"))?;
        Ok(move |x: &Tensor| {
            let mut x = x.clone();
            for layer in &layers {
                let y = layer.forward(&x)?;
                x = if buggy { ops::sigmoid(&y)? } else { y.gelu_erf()? };
            }
            last.forward(&x)
        })
    };
    let x = seed.normal("x", (ROWS, 8), DType::F64, CPU)?;
    let weights = seed.split("weights");
    let learner = Learner::build(weights, DType::F64, &Device::Cpu, build, loss::mse)?
        .optimizer(|vars| AdamW::new(vars, adam(5e-3)));
    Ok(Subject::new(learner, (x.clone(), x)))
}

fn deep_encoder(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(5, 8, vb.pp("first"))?;
    let blocks = (0..12)
        .map(|i| Block::new(8, Tensor::relu, vb.pp(format!("b{i:02}"))))
        .collect::<candle_core::Result<Vec<_>>>()?;
    let head = linear(8 * TIME, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let mut x = first.forward(x)?;
        for block in &blocks {
            x = match buggy {
                true => ops::sigmoid(&block.forward(&x, None)?)?,
                false => block.forward(&x, None)?,
            };
        }
        head.forward(&x.flatten_from(1)?)
    };
    let x = seed.normal("x", (ROWS, TIME, 5), DType::F32, CPU)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, data::labels(4)?)))
}

/// The state starts at zero.
fn unrolled(seed: Seed, stdev: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (enter, again) = (linear(4, 16, vb.pp("enter"))?, drawn(16, 16, stdev, vb.pp("again"))?);
    let head = linear(16, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = enter.forward(x)?;
        let mut state = Tensor::zeros((x.dim(0)?, 16), DType::F32, CPU)?;
        for t in 0..x.dim(1)? {
            state = (x.narrow(1, t, 1)?.squeeze(1)? + again.forward(&state)?)?.relu()?;
        }
        head.forward(&state)
    };
    let x = seed.normal("x", (ROWS, 24, 4), DType::F32, CPU)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy)
        .optimizer(|vars| AdamW::new(vars, adam(3e-3)));
    Ok(Subject::new(learner, (x, data::labels(4)?)))
}

/// The twin's output projection alone starts at zero, and so does its head, as is usual.
fn zero_attention(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(5, 12, vb.pp("first"))?;
    let zeros = |name: &str, to: usize| -> candle_core::Result<_> {
        let vb = vb.pp(name);
        Ok(Linear::new(vb.get((to, 12), "weight")?, Some(vb.get(to, "bias")?)))
    };
    let layer = |name: &str| match buggy {
        true => zeros(name, 12),
        false => linear(12, 12, vb.pp(name)),
    };
    let (query, key, value) = (layer("query")?, layer("key")?, layer("value")?);
    let out = zeros("out", 12)?;
    let feed = Mlp::new(&[12, 24, 12], Tensor::silu, vb.pp("feed"))?;
    let head = if buggy { linear(12, 4, vb.pp("head"))? } else { zeros("head", 4)? };
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?;
        let scores = query.forward(&x)?.matmul(&key.forward(&x)?.t()?.contiguous()?)?;
        let seen = ops::softmax(&(scores / 12f64.sqrt())?, 2)?.matmul(&value.forward(&x)?)?;
        let x = (&x + out.forward(&seen)?)?;
        head.forward(&(&x + feed.forward(&x)?)?.mean(1)?)
    };
    let x = seed.normal("x", (ROWS, TIME, 5), DType::F32, CPU)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, data::labels(4)?)))
}
