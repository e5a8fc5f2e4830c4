//! Group F: steps in the path, whose derivative is zero wherever it exists.

use candle_core::{DType, Module, Tensor};
use candle_nn::{Init, Linear, linear, loss, ops};
use candling::{Cause, Learner, Result, Seed};

use super::models::Mixture;
use crate::corpus::{
    data::{self, CPU, ROWS, weights},
    entry::{Assertion::GradientsFlow, Entry, Subject},
    models::Mlp,
};

const GROUP: &str = "gradients";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "F9e",
        group: GROUP,
        bug: "the nearest code of a codebook, without a straight-through gradient",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| nearest_code(seed, true),
        clean: |seed| nearest_code(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F9f",
        group: GROUP,
        bug: "the share of a router's one expert is normalised to 1: only the argmax is left of the router",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| one_expert(seed, true),
        clean: |seed| one_expert(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F9g",
        group: GROUP,
        bug: "binary weights by `sign`, without a straight-through gradient",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| binary_weights(seed, true),
        clean: |seed| binary_weights(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F9h",
        group: GROUP,
        bug: "a graph network whose messages are cast to integers and back",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| integer_messages(seed, true),
        clean: |seed| integer_messages(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F9i",
        group: GROUP,
        bug: "positions on a grid by `floor`: what moves them never trains",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| looked_up(seed, true),
        clean: |seed| looked_up(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F19b",
        group: GROUP,
        bug: "a straight-through estimator inside the scale it quantises with: each layer's gradient is 1/127 of its own",
        cause: Cause::GradientWrong,
        assertion: GradientsFlow,
        buggy: |seed| quantised(seed, true),
        clean: |seed| quantised(seed, false),
        missed_today: None,
    },
];

/// An autoencoder with a codebook. Some codes are no row's nearest.
fn nearest_code(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let encoder = Mlp::new(&[6, 24, 4], Tensor::relu, vb.pp("encoder"))?;
    let decoder = Mlp::new(&[4, 24, 6], Tensor::relu, vb.pp("decoder"))?;
    let book = vb.get_with_hints((32, 4), "codebook", Init::Randn { mean: 0.0, stdev: 1.0 })?;
    let x = seed.normal("x", (ROWS, 6), DType::F32, CPU)?;
    let loss = move || {
        let code = encoder.forward(&x)?;
        let squares = book.sqr()?.sum(1)?.unsqueeze(0)?;
        let nearest = squares.broadcast_sub(&(code.matmul(&book.t()?)? * 2.0)?)?.argmin(1)?;
        let found = book.index_select(&nearest, 0)?;
        let passed = match buggy {
            true => found.clone(),
            false => (&code + (&found - &code)?.detach())?,
        };
        loss::mse(&decoder.forward(&passed)?, &x)? + loss::mse(&found, &code.detach())?
    };
    let learner = Learner::from_loss(&vars, loss);
    // 32 codes hold 16 rows only where each finds one of its own.
    Ok(Subject::owning(learner).loss_below(1.0))
}

fn one_expert(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 12, vb.pp("first"))?, linear(12, 4, vb.pp("head"))?);
    let mixture = Mixture::new(12, 6, 1, Tensor::gelu, vb.pp("mixture"))?;
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?.tanh()?;
        let share = |gates: &Tensor| match buggy {
            true => gates.broadcast_div(&gates.sum_keepdim(1)?),
            false => Ok(gates.clone()),
        };
        head.forward(&(&x + mixture.forward(&x, |logits| ops::softmax(logits, 1), share)?)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

fn binary_weights(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, middle) = (linear(6, 32, vb.pp("first"))?, linear(32, 32, vb.pp("middle"))?);
    let head = linear(32, 4, vb.pp("head"))?;
    let binary = move |layer: &Linear, x: &Tensor| {
        let (weight, width) = (layer.weight(), layer.weight().dim(1)? as f64);
        let sign = (weight.sign()? / width.sqrt())?;
        let sign = if buggy { sign } else { (weight + (sign - weight)?.detach())? };
        Linear::new(sign, layer.bias().cloned()).forward(x)
    };
    let forward = move |x: &Tensor| {
        let x = binary(&first, x)?.silu()?;
        head.forward(&binary(&middle, &x)?.silu()?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// Nodes in a ring, each with its neighbours' mean; the last has none.
fn integer_messages(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, second) = (linear(6, 16, vb.pp("first"))?, linear(32, 16, vb.pp("second"))?);
    let head = linear(16, 4, vb.pp("head"))?;
    let near = |i: usize, j: usize| i != j && i.max(j) < ROWS - 1 && (i + 1 == j || j + 1 == i);
    let mean = |i: usize, j: usize| {
        let degree = (0..ROWS).filter(|j| near(i, *j)).count();
        if near(i, j) { 1.0 / degree as f32 } else { 0.0 }
    };
    let graph: Vec<f32> = (0..ROWS * ROWS).map(|i| mean(i / ROWS, i % ROWS)).collect();
    let graph = Tensor::from_vec(graph, (ROWS, ROWS), CPU)?;
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?.relu()?;
        let sent = match buggy {
            true => ((&x * 255.0)?.to_dtype(DType::U32)?.to_dtype(DType::F32)? / 255.0)?,
            false => x,
        };
        let x = Tensor::cat(&[&sent, &graph.matmul(&sent)?], 1)?;
        head.forward(&second.forward(&x)?.relu()?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?)
        .allow(Cause::BatchMixed)
        .allow(Cause::BatchSizeFixed))
}

/// A position in 0..7 for each row, and a table of features looked up there: by linear interpolation, or at its floor.
fn looked_up(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let place = Mlp::new(&[6, 24, 4], Tensor::tanh, vb.pp("place"))?;
    let table = vb.get_with_hints((8, 4), "table", Init::Randn { mean: 0.0, stdev: 1.0 })?;
    let head = Mlp::new(&[16, 24, 1], Tensor::tanh, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let at = (ops::sigmoid(&place.forward(x)?)? * 6.999)?;
        let below = at.floor()?;
        let past = (&at - &below)?.unsqueeze(2)?;
        let index = below.to_dtype(DType::U32)?;
        let rows = |index: &Tensor| {
            table.index_select(&index.flatten_all()?, 0)?.reshape((x.dim(0)?, 4, 4))
        };
        let here = rows(&index)?;
        let found = match buggy {
            true => here,
            false => {
                let next = rows(&(below + 1.0)?.to_dtype(DType::U32)?)?;
                (&here + (next - &here)?.broadcast_mul(&past)?)?
            }
        };
        head.forward(&found.flatten_from(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F64)?))
}

/// Activations in 8 bits, after each of three layers.
fn quantised(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let layers =
        [linear(6, 32, vb.pp("l0"))?, linear(32, 32, vb.pp("l1"))?, linear(32, 32, vb.pp("l2"))?];
    let head = linear(32, 4, vb.pp("head"))?;
    let quantise = move |x: &Tensor| {
        let steps = (x * 127.0)?;
        match buggy {
            // The value is right. Its gradient passes `x` where `steps` belongs.
            true => (x + (steps.round()? - x)?.detach())? / 127.0,
            false => (&steps + (steps.round()? - &steps)?.detach())? / 127.0,
        }
    };
    let forward = move |x: &Tensor| {
        let x =
            layers.iter().try_fold(x.clone(), |x, layer| quantise(&layer.forward(&x)?.tanh()?))?;
        head.forward(&x)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}
