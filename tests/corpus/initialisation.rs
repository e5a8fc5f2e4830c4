//! Group D: initialisation and loading.

use std::{
    collections::HashMap,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use candle_core::{DType, Module, Tensor};
use candle_nn::{
    Embedding, Init, Linear, VarBuilder, VarMap, embedding, init::DEFAULT_KAIMING_NORMAL, linear,
    loss, ops,
};
use candling::{Cause, Learner, Result, Seed, Variables, check::InitialLoss, expected};

use super::{
    data::{self, CPU, TIME, VOCAB, weights},
    entry::{
        Assertion::{Close, OverfitsBatch, Property, Test},
        Entry, Subject,
    },
    models::{Activation, Attention, Mlp, Norm, causal_mask, same},
    property::Property::PositionSensitive,
    starts::initialized,
};

const GROUP: &str = "initialisation";

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "D1",
        group: GROUP,
        bug: "weights from `VarBuilder::get` without a hint: zeros",
        cause: Cause::WeightsConstant,
        assertion: OverfitsBatch,
        buggy: |seed| unhinted(seed, true),
        clean: |seed| unhinted(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D2",
        group: GROUP,
        bug: "every weight is the constant 0.01",
        cause: Cause::WeightsConstant,
        assertion: OverfitsBatch,
        buggy: |seed| constant(seed, true),
        clean: |seed| constant(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D3",
        group: GROUP,
        bug: "weights of standard deviation 1",
        cause: Cause::WeightsScale,
        assertion: Test("initialized"),
        buggy: |seed| large(seed, true),
        clean: |seed| large(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D5",
        group: GROUP,
        bug: "a head tied to an embedding of standard deviation 1, candle's default",
        cause: Cause::InitialLossHigh,
        assertion: Test("initial_loss"),
        buggy: |seed| tied(seed, true),
        clean: |seed| tied(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D7",
        group: GROUP,
        bug: "biases of -10: a layer of dead units",
        cause: Cause::UnitsDead,
        assertion: OverfitsBatch,
        buggy: |seed| bias(seed, -10.0),
        clean: |seed| bias(seed, 0.01),
        missed_today: None,
    },
    Entry {
        id: "D9",
        group: GROUP,
        bug: "the weights are loaded before the model is built: nothing is",
        cause: Cause::CheckpointKeys,
        assertion: Close,
        buggy: |seed| load_first(seed, true),
        clean: |seed| load_first(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D10",
        group: GROUP,
        bug: "weights whose name is not in the checkpoint keep their first values",
        cause: Cause::CheckpointKeys,
        assertion: Close,
        buggy: |seed| load_by_name(seed, true),
        clean: |seed| load_by_name(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D11",
        group: GROUP,
        bug: "a position table that is a tensor of zeros, and no variable",
        cause: Cause::VariableUntracked,
        assertion: Property(PositionSensitive),
        buggy: |seed| positions(seed, true),
        clean: |seed| positions(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D12",
        group: GROUP,
        bug: "training on weights that `VarBuilder` reads from a file: they are no variables",
        cause: Cause::VariableUntracked,
        assertion: OverfitsBatch,
        buggy: |seed| fine_tuned(seed, true),
        clean: |seed| fine_tuned(seed, false),
        missed_today: None,
    },
];

/// Linear layers that a user initialises; `None` is a `VarBuilder::get` without a hint.
fn layers(sizes: &[usize], weight: Option<Init>, vb: &VarBuilder<'_>) -> Result<Vec<Linear>> {
    let one = |(i, w): (usize, &[usize])| -> Result<Linear> {
        let (vb, shape) = (vb.pp(format!("l{i}")), (w[1], w[0]));
        let weight = match weight {
            Some(init) => vb.get_with_hints(shape, "weight", init)?,
            None => vb.get(shape, "weight")?,
        };
        Ok(Linear::new(weight, Some(vb.get(w[1], "bias")?)))
    };
    sizes.windows(2).enumerate().map(one).collect()
}

fn through(layers: &[Linear], activation: Activation, x: &Tensor) -> candle_core::Result<Tensor> {
    let (head, hidden) = layers.split_last().expect("there are layers");
    let mut x = x.clone();
    for layer in hidden {
        x = activation(&layer.forward(&x)?)?;
    }
    head.forward(&x)
}

fn unhinted(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let layers = layers(&[6, 32, 4], (!buggy).then_some(DEFAULT_KAIMING_NORMAL), &vb)?;
    let forward = move |x: &Tensor| through(&layers, Tensor::relu, x);
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

fn constant(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let init = if buggy { Init::Const(0.01) } else { Init::Uniform { lo: -0.3, up: 0.3 } };
    let layers = layers(&[6, 32, 1], Some(init), &vb)?;
    let forward = move |x: &Tensor| through(&layers, Tensor::tanh, x);
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F64)?))
}

fn large(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let init = if buggy { Init::Randn { mean: 0.0, stdev: 1.0 } } else { DEFAULT_KAIMING_NORMAL };
    let layers = layers(&[6, 32, 32, 4], Some(init), &vb)?;
    let forward = move |x: &Tensor| through(&layers, Tensor::gelu, x);
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(initialized(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?), &[]))
}

/// A causal language model whose head is its embedding.
fn tied(seed: Seed, buggy: bool) -> Result<Subject> {
    const WIDTH: usize = 16;
    let (vars, vb) = weights(seed, DType::F32);
    let tokens = match buggy {
        true => embedding(VOCAB, WIDTH, vb.pp("tokens"))?,
        false => {
            let init = Init::Randn { mean: 0.0, stdev: 0.1 };
            let table = vb.pp("tokens").get_with_hints((VOCAB, WIDTH), "weight", init)?;
            Embedding::new(table, WIDTH)
        }
    };
    let attention = Attention::new(WIDTH, vb.pp("attention"))?;
    let norm = Norm::new(WIDTH, vb.pp("norm"))?;
    let mask = causal_mask(DType::F32)?;
    let forward = move |ids: &Tensor| {
        let x = tokens.forward(ids)?;
        let weigh = |scores: &Tensor| ops::softmax(&scores.broadcast_add(&mask)?, 2);
        let x = norm.forward(&(&x + attention.forward(&x, same, weigh)?)?)?;
        x.flatten_to(1)?.matmul(&tokens.embeddings().t()?)
    };
    let loss = |logits: &Tensor, y: &Tensor| loss::cross_entropy(logits, &y.flatten_all()?);
    let chains = data::chains(seed)?;
    let part = |start| chains.narrow(1, start, TIME)?.contiguous();
    let subject = Subject::new(Learner::new(&vars, forward, loss), (part(0)?, part(1)?));
    Ok(subject.test(|learner, batch| {
        InitialLoss::new().check(learner, batch, expected::cross_entropy(VOCAB))
    }))
}

fn bias(seed: Seed, bias: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let weight = vb.get_with_hints((24, 6), "first.weight", DEFAULT_KAIMING_NORMAL)?;
    let bias = vb.get_with_hints(24, "first.bias", Init::Const(bias))?;
    let first = Linear::new(weight, Some(bias));
    let head = linear(24, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| head.forward(&first.forward(x)?.relu()?);
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// Gives `read` a file of the variables; every call has a file of its own.
fn saved<T>(vars: &VarMap, read: impl FnOnce(&Path) -> candle_core::Result<T>) -> Result<T> {
    static FILES: AtomicU64 = AtomicU64::new(0);
    let file = FILES.fetch_add(1, Ordering::Relaxed);
    let name = format!("candling-corpus-{}-{file}.safetensors", std::process::id());
    let path = std::env::temp_dir().join(name);
    let read = vars.save(&path).and_then(|()| read(&path));
    std::fs::remove_file(&path).ok();
    Ok(read?)
}

/// A trained model, and the one that its weights are loaded into: their outputs must agree.
fn load_first(seed: Seed, buggy: bool) -> Result<Subject> {
    let build = |vb: VarBuilder<'_>| Mlp::new(&[6, 24, 4], Tensor::relu, vb);
    let (trained, vb) = weights(seed.split("trained"), DType::F32);
    let original = build(vb)?;
    let (mut vars, vb) = weights(seed, DType::F32);
    let model = saved(&trained, |path| {
        if buggy {
            vars.load(path)?;
        }
        let model = build(vb)?;
        if !buggy {
            vars.load(path)?;
        }
        Ok(model)
    })?;
    let (x, y) = data::classes(seed, 6, 4, DType::F32)?;
    let (actual, expected) = (model.forward(&x)?, original.forward(&x)?);
    let learner = Learner::new(&vars, move |x| model.forward(x), loss::cross_entropy);
    Ok(Subject::new(learner, (x, y)).compared(actual, expected))
}

/// The checkpoint was saved from a larger model, in which this one is called `model`.
fn load_by_name(seed: Seed, buggy: bool) -> Result<Subject> {
    let build = |vb: VarBuilder<'_>| Mlp::new(&[6, 32, 1], Tensor::gelu, vb);
    let (trained, vb) = weights(seed.split("trained"), DType::F32);
    let original = build(vb.pp("model"))?;
    let tensors: HashMap<String, Tensor> =
        trained.named().into_iter().map(|(name, var)| (name, var.as_tensor().clone())).collect();
    let checkpoint = VarBuilder::from_tensors(tensors, DType::F32, CPU);
    let checkpoint = if buggy { checkpoint } else { checkpoint.pp("model") };
    let (vars, vb) = weights(seed, DType::F32);
    let model = build(vb)?;
    for (name, var) in vars.named() {
        if checkpoint.contains_tensor(&name) {
            var.set(&checkpoint.get(var.shape(), &name)?)?;
        }
    }
    let (x, y) = data::regression(seed, 6, DType::F32)?;
    let (actual, expected) = (model.forward(&x)?, original.forward(&x)?);
    let learner = Learner::new(&vars, move |x| model.forward(x), loss::mse);
    Ok(Subject::new(learner, (x, y)).compared(actual, expected))
}

fn positions(seed: Seed, buggy: bool) -> Result<Subject> {
    const WIDTH: usize = 16;
    let (vars, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB, WIDTH, vb.pp("tokens"))?;
    let positions = match buggy {
        true => Tensor::zeros((TIME, WIDTH), DType::F32, CPU)?,
        false => {
            let init = Init::Randn { mean: 0.0, stdev: 0.02 };
            vb.get_with_hints((TIME, WIDTH), "positions", init)?
        }
    };
    let attention = Attention::new(WIDTH, vb.pp("attention"))?;
    let head = Mlp::new(&[WIDTH, 32, 4], Tensor::gelu, vb.pp("head"))?;
    let forward = move |ids: &Tensor| {
        let x = tokens.forward(ids)?.broadcast_add(&positions)?;
        let x = (&x + attention.forward(&x, same, |scores| ops::softmax(scores, 2))?)?;
        head.forward(&x.mean(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::sequences(seed)?))
}

/// A training that starts from the weights of a file.
fn fine_tuned(seed: Seed, buggy: bool) -> Result<Subject> {
    let build = |vb: VarBuilder<'_>| Mlp::new(&[6, 24, 24, 4], Tensor::silu, vb);
    let (trained, vb) = weights(seed.split("trained"), DType::F32);
    build(vb)?;
    let mut vars = VarMap::new();
    let model = saved(&trained, |path| {
        if buggy {
            let bytes = std::fs::read(path)?;
            return build(VarBuilder::from_buffered_safetensors(bytes, DType::F32, CPU)?);
        }
        let model = build(VarBuilder::from_varmap(&vars, DType::F32, CPU))?;
        vars.load(path)?;
        Ok(model)
    })?;
    let learner = Learner::new(&vars, move |x| model.forward(x), loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}
