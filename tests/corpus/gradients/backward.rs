//! Group F: backward passes written by hand.

use candle_core::{DType, Device, Module, Result as Candle, Tensor};
use candle_nn::{Init, Linear, VarBuilder, conv2d, embedding, linear, loss, ops};
use candling::{Cause, Learner, Result, Seed};

use super::custom_ops::{Elementwise, Gain, Gained, Product, ScaleGradient};
use crate::corpus::{
    data::{self, CPU, ROWS, TIME, VOCAB, weights},
    entry::{
        Assertion,
        Assertion::{GradientsCorrect, GradientsFlow},
        Entry, Subject,
    },
    models::{Mlp, Norm},
};

const GROUP: &str = "gradients";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "F14b",
        group: GROUP,
        bug: "the backward pass of a leaky ReLU that knows the positive side alone",
        cause: Cause::GradientWrong,
        assertion: GradientsCorrect,
        buggy: |seed| leaky(seed, |x| x.ge(0.0)?.to_dtype(x.dtype())),
        clean: |seed| leaky(seed, |x| x.ge(0.0)?.to_dtype(x.dtype())?.affine(0.9, 0.1)),
        missed_today: None,
    },
    Entry {
        id: "F14c",
        group: GROUP,
        bug: "an operation of two operands whose backward pass returns `None` for the second",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| gained_norm(seed, Gain::Forgotten),
        clean: |seed| gained_norm(seed, Gain::Summed),
        missed_today: None,
    },
    Entry {
        id: "F14d",
        group: GROUP,
        bug: "a backward pass whose gradient for the second operand is still a placeholder of zeros",
        cause: Cause::GradientWrong,
        assertion: GradientsCorrect,
        buggy: |seed| gained_head(seed, Gain::Zeros),
        clean: |seed| gained_head(seed, Gain::Summed),
        missed_today: None,
    },
    Entry {
        id: "F14e",
        group: GROUP,
        bug: "the gradient of a square recurrent weight, transposed",
        cause: Cause::GradientWrong,
        assertion: GradientsCorrect,
        buggy: |seed| recurrent(seed, true),
        clean: |seed| recurrent(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F14f",
        group: GROUP,
        bug: "two digits swapped in a backward pass: 1.720 for 1.702",
        cause: Cause::GradientWrong,
        assertion: GradientsCorrect,
        buggy: |seed| quick_gelu(seed, |x| quick_gelu_slope(x, 1.720)),
        clean: |seed| quick_gelu(seed, |x| quick_gelu_slope(x, 1.702)),
        missed_today: None,
    },
    Entry {
        id: "F14g",
        group: GROUP,
        bug: "a gradient averaged over the rows it was broadcast to, not summed",
        cause: Cause::GradientWrong,
        assertion: GradientsCorrect,
        buggy: |seed| gained_residual(seed, Gain::Averaged),
        clean: |seed| gained_residual(seed, Gain::Summed),
        missed_today: None,
    },
    Entry {
        id: "F14h",
        group: GROUP,
        bug: "the minus sign is missing in the derivative of 1/x",
        cause: Cause::GradientWrong,
        assertion: GradientsCorrect,
        buggy: |seed| radial(seed, |x| x.sqr()?.recip()),
        clean: |seed| radial(seed, |x| x.sqr()?.recip()?.neg()),
        missed_today: None,
    },
    Entry {
        id: "F14i",
        group: GROUP,
        bug: "half of a product rule, in a network of f32 variables that is computed in bf16",
        cause: Cause::GradientWrong,
        assertion: Assertion::GradientsFlow,
        buggy: |seed| mixed_precision(seed, |x| ops::sigmoid(&(x * 1.702)?)),
        clean: |seed| mixed_precision(seed, |x| quick_gelu_slope(x, 1.702)),
        // In bf16 the loss is a staircase: no slope can be measured on it.
        missed_today: Some("assert_parity"),
    },
    Entry {
        id: "M9",
        group: "precision",
        bug: "gradients scaled by 1024 on their way back, and not scaled down again",
        cause: Cause::GradientWrong,
        assertion: GradientsCorrect,
        buggy: |seed| loss_scale(seed, true),
        clean: |seed| loss_scale(seed, false),
        missed_today: None,
    },
];

type Slope = fn(&Tensor) -> Candle<Tensor>;

fn leaky(seed: Seed, derivative: Slope) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let config = candle_nn::Conv2dConfig { padding: 1, ..Default::default() };
    let (first, second) =
        (conv2d(1, 4, 3, config, vb.pp("first"))?, conv2d(4, 4, 3, config, vb.pp("second"))?);
    let head = linear(64, 4, vb.pp("head"))?;
    let value = |x| if x >= 0.0 { x } else { 0.1 * x };
    let forward = move |x: &Tensor| {
        let leaky =
            |x: Tensor| x.contiguous()?.apply_op1(Elementwise { name: "leaky", value, derivative });
        let x = leaky(first.forward(x)?)?.avg_pool2d(2)?;
        head.forward(&leaky(second.forward(&x)?)?.flatten_from(1)?)
    };
    let (x, y) = data::images(seed, 4)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x.to_dtype(DType::F64)?, y)))
}

/// A norm without its mean, over tokens, with a gain of one's own.
fn gained_norm(seed: Seed, gain: Gain) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB, 12, vb.pp("tokens"))?;
    let weight = vb.get_with_hints(12, "norm.weight", Init::Const(1.0))?;
    let mix = Mlp::new(&[12 * TIME, 24, 4], Tensor::relu, vb.pp("mix"))?;
    let forward = move |ids: &Tensor| {
        let x = tokens.forward(ids)?;
        let size = (x.sqr()?.mean_keepdim(2)? + 1e-6)?.sqrt()?;
        let x = x.broadcast_div(&size)?.apply_op2(&weight, Gained(gain))?;
        mix.forward(&x.flatten_from(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::sequences(seed)?))
}

fn gained_head(seed: Seed, gain: Gain) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let (first, head) = (linear(6, 32, vb.pp("first"))?, linear(32, 1, vb.pp("head"))?);
    let scale = vb.get_with_hints(32, "scale", Init::Const(1.0))?;
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?.tanh()?;
        head.forward(&x.apply_op2(&scale, Gained(gain))?)
    };
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F64)?))
}

/// A norm's gain inside residual blocks, built by candling.
fn gained_residual(seed: Seed, gain: Gain) -> Result<Subject> {
    let build = move |vb: VarBuilder<'static>| {
        let first = linear(6, 16, vb.pp("first"))?;
        let block = |i| {
            let vb = vb.pp(format!("block{i}"));
            let scale = vb.get_with_hints(16, "scale", Init::Const(1.0))?;
            Ok((scale, linear(16, 16, vb.pp("inner"))?))
        };
        let blocks = (0..4).map(block).collect::<Candle<Vec<_>>>()?;
        let head = linear(16, 4, vb.pp("head"))?;
        Ok(move |x: &Tensor| {
            let mut x = first.forward(x)?;
            for (scale, inner) in &blocks {
                let size = (x.sqr()?.mean_keepdim(1)? + 1e-6)?.sqrt()?;
                let y = x.broadcast_div(&size)?.apply_op2(scale, Gained(gain))?;
                x = (x + inner.forward(&y)?.gelu()?)?;
            }
            head.forward(&x)
        })
    };
    let weights = seed.split("weights");
    let learner = Learner::build(weights, DType::F32, &Device::Cpu, build, loss::cross_entropy)?;
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

fn recurrent(seed: Seed, transposed: bool) -> Result<Subject> {
    let build = move |vb: VarBuilder<'static>| {
        let tokens = embedding(VOCAB, 12, vb.pp("tokens"))?;
        let init = Init::Randn { mean: 0.0, stdev: 0.25 };
        let again = vb.get_with_hints((12, 12), "again.weight", init)?;
        let head = linear(12, 4, vb.pp("head"))?;
        Ok(move |ids: &Tensor| {
            let x = tokens.forward(ids)?;
            let mut state = x.narrow(1, 0, 1)?.squeeze(1)?.tanh()?;
            for t in 1..TIME {
                let turned = state.contiguous()?.apply_op2(&again, Product { transposed })?;
                state = (x.narrow(1, t, 1)?.squeeze(1)? + turned)?.tanh()?;
            }
            head.forward(&state)
        })
    };
    let weights = seed.split("weights");
    let learner = Learner::build(weights, DType::F64, &Device::Cpu, build, loss::cross_entropy)?;
    Ok(Subject::new(learner, data::sequences(seed)?))
}

/// `x * sigmoid(1.702 * x)`.
fn quick_gelu(seed: Seed, derivative: Slope) -> Result<Subject> {
    let build = move |vb: VarBuilder<'static>| {
        let (first, norm) = (linear(6, 16, vb.pp("first"))?, Norm::new(16, vb.pp("norm"))?);
        let (up, down) = (linear(16, 32, vb.pp("up"))?, linear(32, 16, vb.pp("down"))?);
        let head = linear(16, 1, vb.pp("head"))?;
        let value = |x: f64| x / (1.0 + (-1.702 * x).exp());
        Ok(move |x: &Tensor| {
            let x = first.forward(x)?;
            let op = Elementwise { name: "quick-gelu", value, derivative };
            let y = down.forward(&up.forward(&norm.forward(&x)?)?.apply_op1(op)?)?;
            head.forward(&(x + y)?)
        })
    };
    let weights = seed.split("weights");
    let learner = Learner::build(weights, DType::F32, &Device::Cpu, build, loss::mse)?;
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F32)?))
}

fn quick_gelu_slope(x: &Tensor, factor: f64) -> Candle<Tensor> {
    let gate = ops::sigmoid(&(x * factor)?)?;
    let bend = ((&gate * (1.0 - &gate)?)? * x)? * factor;
    gate + bend?
}

/// Products are of bf16, and the activation between them of f32.
fn mixed_precision(seed: Seed, derivative: Slope) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, norm) = (linear(6, 32, vb.pp("first"))?, Norm::new(32, vb.pp("norm"))?);
    let head = linear(32, 4, vb.pp("head"))?;
    let narrowed = |layer: &Linear, x: &Tensor| {
        let half = |t: &Tensor| t.to_dtype(DType::BF16);
        let bias = layer.bias().map(half).transpose()?;
        Linear::new(half(layer.weight())?, bias).forward(&half(x)?)?.to_dtype(DType::F32)
    };
    let value = |x: f64| x / (1.0 + (-1.702 * x).exp());
    let forward = move |x: &Tensor| {
        let x = norm.forward(&narrowed(&first, x)?)?;
        let op = Elementwise { name: "quick-gelu", value, derivative };
        narrowed(&head, &x.apply_op1(op)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// Bumps around learned centres, `1 / (1 + distance^2)`.
fn radial(seed: Seed, derivative: Slope) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let centres = vb.get_with_hints((32, 3), "centres", Init::Randn { mean: 0.0, stdev: 1.0 })?;
    let (place, head) = (linear(6, 3, vb.pp("place"))?, linear(32, 1, vb.pp("head"))?);
    let forward = move |x: &Tensor| {
        let away = place.forward(x)?.unsqueeze(1)?.broadcast_sub(&centres.unsqueeze(0)?)?;
        let distance = (away.sqr()?.sum(2)? + 1.0)?;
        let op = Elementwise { name: "recip", value: f64::recip, derivative };
        head.forward(&distance.apply_op1(op)?)
    };
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F64)?))
}

/// Gradients are kept away from zero inside the network: up behind its output, down again where a weight comes in.
fn loss_scale(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let layers =
        [linear(6, 24, vb.pp("l0"))?, linear(24, 24, vb.pp("l1"))?, linear(24, 4, vb.pp("l2"))?];
    let factor = if buggy { 1.0 } else { 1.0 / 1024.0 };
    let apply = move |layer: &Linear, x: &Tensor| {
        let enters = |t: &Tensor| t.apply_op1(ScaleGradient(factor));
        let bias = layer.bias().map(enters).transpose()?;
        Linear::new(enters(layer.weight())?, bias).forward(x)
    };
    let forward = move |x: &Tensor| {
        let x = apply(&layers[0], x)?.silu()?;
        let x = apply(&layers[1], &x)?.silu()?;
        apply(&layers[2], &x)?.apply_op1(ScaleGradient(1024.0))
    };
    let x = seed.normal("x", (ROWS, 6), DType::F64, CPU)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, data::labels(4)?)))
}
