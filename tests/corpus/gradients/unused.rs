//! Groups F and M: the model computes with a copy of its variables, or with variables that the learner does not have.

use candle_core::{
    DType, Module, Tensor, Var,
    quantized::{GgmlDType, QMatMul, QTensor},
};
use candle_nn::{AdamW, Embedding, Init, Linear, Optimizer, embedding, linear, loss};
use candling::{Cause, Learner, Result, Seed};

use super::models::LowRank;
use crate::corpus::{
    data::{self, CPU, TIME, VOCAB, weights},
    entry::{Assertion::GradientsFlow, Entry, Subject},
    models::Mlp,
    optimizers::adam,
};

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "F8b",
        group: "gradients",
        bug: "weight normalisation computed once, when the model is built: gradients arrive, and change nothing",
        cause: Cause::VariableUnused,
        assertion: GradientsFlow,
        buggy: |seed| weight_norm(seed, true),
        clean: |seed| weight_norm(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F8c",
        group: "gradients",
        bug: "adapters that are variables of their own, outside the VarMap that the optimizer is given",
        cause: Cause::OptimizerMissesVariable,
        assertion: GradientsFlow,
        buggy: |seed| adapters(seed, true),
        clean: |seed| adapters(seed, false),
        missed_today: Some("assert_architecture"),
    },
    Entry {
        id: "F8d",
        group: "gradients",
        bug: "an embedding of a new variable, made from a copy of the VarMap's",
        cause: Cause::VariableUnused,
        assertion: GradientsFlow,
        buggy: |seed| copied_table(seed, true),
        clean: |seed| copied_table(seed, false),
        missed_today: None,
    },
    Entry {
        id: "M6",
        group: "precision",
        bug: "a quantised copy of the weights, made when the model is built, is what runs",
        cause: Cause::VariableUnused,
        assertion: GradientsFlow,
        buggy: |seed| stale_copy(seed, true),
        clean: |seed| stale_copy(seed, false),
        missed_today: None,
    },
    Entry {
        id: "M7",
        group: "precision",
        bug: "adapters on top of QMatMul, which has no backward pass: those below it never train",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| quantised_base(seed, true),
        clean: |seed| quantised_base(seed, false),
        // The second layer's adapter lets a gradient through, once it has moved.
        missed_today: Some("assert_gradients_correct"),
    },
];

/// `gain * direction / |direction|`, row by row.
fn weight_norm(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let direction =
        vb.get_with_hints((32, 6), "first.direction", Init::Randn { mean: 0.0, stdev: 1.0 })?;
    let gain = vb.get_with_hints((32, 1), "first.gain", Init::Const(1.0))?;
    let bias = vb.get_with_hints(32, "first.bias", Init::Const(0.0))?;
    let head = linear(32, 1, vb.pp("head"))?;
    let weight = move || {
        let norm = direction.sqr()?.sum_keepdim(1)?.sqrt()?;
        direction.broadcast_div(&norm)?.broadcast_mul(&gain)
    };
    let built = weight()?;
    let forward = move |x: &Tensor| {
        let weight = if buggy { built.clone() } else { weight()? };
        head.forward(&Linear::new(weight, Some(bias.clone())).forward(x)?.tanh()?)
    };
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F64)?))
}

/// A frozen layer with an adapter that starts at zero, and a head that trains.
fn adapters(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let base = linear(6, 32, vb.pp("base"))?;
    let head = linear(32, 4, vb.pp("head"))?;
    let [up, down] = match buggy {
        true => {
            let down = seed.normal("down", (4, 6), DType::F32, CPU)?;
            let up = Tensor::zeros((32, 4), DType::F32, CPU)?;
            [Var::from_tensor(&up)?, Var::from_tensor(&(down * 0.3)?)?].map(Var::into_inner)
        }
        false => {
            let init = Init::Randn { mean: 0.0, stdev: 0.3 };
            let vb = vb.pp("adapter");
            let up = vb.get_with_hints((32, 4), "up", Init::Const(0.0))?;
            [up, vb.get_with_hints((4, 6), "down", init)?]
        }
    };
    let forward = move |x: &Tensor| {
        let added = x.matmul(&down.t()?)?.matmul(&up.t()?)?;
        head.forward(&(base.forward(x)? + added)?.relu()?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy)
        .frozen(["base."])
        .optimizer(|vars| AdamW::new(vars, adam(0.01)));
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// Pretrained rows are to be set in the table, so it is copied.
fn copied_table(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let mut tokens = embedding(VOCAB + 20, 8, vb.pp("tokens"))?;
    if buggy {
        let copy = Var::from_tensor(&tokens.embeddings().copy()?.detach())?;
        tokens = Embedding::new(copy.into_inner(), 8);
    }
    let head = Mlp::new(&[8 * TIME, 16, 4], Tensor::gelu, vb.pp("head"))?;
    let forward = move |ids: &Tensor| head.forward(&tokens.forward(ids)?.flatten_from(1)?);
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::sequences(seed)?))
}

/// Training that knows of the quantisation to come: weights in 8 bits ahead, and a straight-through gradient.
fn stale_copy(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, middle) = (linear(6, 32, vb.pp("first"))?, linear(32, 32, vb.pp("middle"))?);
    let head = linear(32, 4, vb.pp("head"))?;
    let weight = middle.weight().clone();
    let quantised = move || QTensor::quantize(&weight.detach(), GgmlDType::Q8_0)?.dequantize(CPU);
    let built = quantised()?;
    let forward = move |x: &Tensor| {
        let weight = match buggy {
            true => built.clone(),
            false => (middle.weight() + (quantised()? - middle.weight())?.detach())?,
        };
        let x = first.forward(x)?.relu()?;
        head.forward(&Linear::new(weight, middle.bias().cloned()).forward(&x)?.relu()?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// Two fixed layers in 8 bits, each with an adapter that starts at zero.
fn quantised_base(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let layer = |name: &str| -> candle_core::Result<_> {
        let base = (seed.normal(name, (32, 32), DType::F32, CPU)? * 0.2)?;
        let stored = QTensor::quantize(&base, GgmlDType::Q8_0)?;
        let init = Init::Randn { mean: 0.0, stdev: 0.2 };
        let vb = vb.pp(name);
        let low = LowRank {
            base: stored.dequantize(CPU)?,
            down: vb.get_with_hints((LowRank::RANK, 32), "down", init)?,
            up: vb.get_with_hints((32, LowRank::RANK), "up", Init::Const(0.0))?,
        };
        Ok((QMatMul::from_qtensor(stored)?, low))
    };
    let layers = [layer("first")?, layer("second")?];
    let head = linear(32, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let mut x = x.clone();
        for (quantised, low) in &layers {
            let fixed = match buggy {
                true => quantised.forward(&x)?,
                false => x.matmul(&low.base.t()?)?,
            };
            x = (fixed + low.added(&x)?)?.silu()?;
        }
        head.forward(&x)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 32, 4, DType::F32)?))
}
