//! Group M: number formats.

use candle_core::{DType, Module, Tensor};
use candle_nn::{AdamW, Linear, Optimizer, linear, loss};
use candling::{Cause, Learner, Result, Seed};

use crate::corpus::{
    data::{self, CPU, weights},
    entry::{
        Assertion::{GradientsFlow, Test},
        Entry, Subject,
    },
    models::{Mlp, Norm},
    optimizers::adam,
    steps::loops::steps_of,
};

const GROUP: &str = "precision";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "M1",
        group: GROUP,
        bug: "variables in bf16 swallow steps of a thousandth: a gain of 1 stays 1",
        cause: Cause::PrecisionLoss,
        assertion: Test("step_updates"),
        buggy: |seed| swallowed(seed, DType::BF16),
        clean: |seed| swallowed(seed, DType::F32),
        missed_today: None,
    },
    Entry {
        id: "M2",
        group: GROUP,
        bug: "a loss in f16, scaled by 65536 to keep gradients from zero: it is infinite",
        cause: Cause::NotFinite,
        assertion: GradientsFlow,
        buggy: |seed| scaled_half(seed, DType::F16),
        clean: |seed| scaled_half(seed, DType::F32),
        missed_today: None,
    },
    Entry {
        id: "M9b",
        group: GROUP,
        bug: "a second loss of a hundred-thousandth in f16: its gradients are below the smallest number",
        cause: Cause::PrecisionLoss,
        assertion: GradientsFlow,
        buggy: |seed| light_loss(seed, DType::F16),
        clean: |seed| light_loss(seed, DType::F32),
        missed_today: None,
    },
];

/// Computed in bf16; the variables may be wider.
fn swallowed(seed: Seed, stored: DType) -> Result<Subject> {
    let (vars, vb) = weights(seed, stored);
    let (first, head) = (linear(6, 64, vb.pp("first"))?, linear(64, 4, vb.pp("head"))?);
    let norm = Norm::new(64, vb.pp("norm"))?;
    let half = |t: &Tensor| t.to_dtype(DType::BF16);
    let narrowed = move |layer: &Linear, x: &Tensor| {
        let bias = layer.bias().map(half).transpose()?;
        Linear::new(half(layer.weight())?, bias).forward(x)
    };
    let forward = move |x: &Tensor| {
        let norm = Norm { weight: half(&norm.weight)?, bias: half(&norm.bias)? };
        let x = norm.forward(&narrowed(&first, x)?)?.silu()?;
        narrowed(&head, &x)?.to_dtype(DType::F32)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy)
        .optimizer(|vars| AdamW::new(vars, adam(3e-3)));
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::BF16)?)
        .test(steps_of(|vars| AdamW::new(vars, adam(1e-3)), |options| options)))
}

/// A network in f16 whose loss is of the dtype given.
fn scaled_half(seed: Seed, of_loss: DType) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F16);
    let model = Mlp::new(&[6, 32, 4], Tensor::silu, vb)?;
    // An optimizer for f16 divides the gradients by the scale; AdamW's steps do not depend on it.
    let scale = if of_loss == DType::F16 { 65536.0 } else { 128.0 };
    let loss = move |logits: &Tensor, y: &Tensor| {
        loss::cross_entropy(&logits.to_dtype(of_loss)?, y)? * scale
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F16)?))
}

/// Classes, and beside them a reconstruction that counts little.
fn light_loss(seed: Seed, dtype: DType) -> Result<Subject> {
    let (vars, vb) = weights(seed, dtype);
    let (first, head) = (linear(6, 32, vb.pp("first"))?, linear(32, 4, vb.pp("head"))?);
    let beside = linear(32, 48, vb.pp("beside"))?;
    let wide = seed.normal("wide", (6, 48), dtype, CPU)?;
    let forward = move |x: &Tensor| {
        let code = first.forward(x)?.silu()?;
        let error = (beside.forward(&code)? - x.matmul(&wide)?)?;
        Tensor::cat(&[head.forward(&code)?, error], 1)
    };
    let loss = |output: &Tensor, y: &Tensor| {
        let classes = loss::cross_entropy(&output.narrow(1, 0, 4)?.contiguous()?, y)?;
        classes + (output.narrow(1, 4, 48)?.sqr()?.mean_all()? * 1e-5)?
    };
    let learner = Learner::new(&vars, forward, loss);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, dtype)?))
}
