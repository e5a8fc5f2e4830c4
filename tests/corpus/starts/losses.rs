//! Losses that start where no untrained model's does.

use candle_core::{DType, Module, Tensor};
use candle_nn::{
    AdamW, Embedding, Init, Linear, Optimizer, VarBuilder, embedding, linear, linear_no_bias, loss,
    ops,
};
use candling::{Cause, Learner, Result, Seed, Variables, check::InitialLoss, expected};

use super::GROUP;
use crate::corpus::{
    data::{self, CPU, ROWS, VOCAB, weights},
    entry::{Assertion::Test, Entry, Subject},
    models::{Mlp, Norm},
    optimizers::adam,
};

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "D3j",
        group: GROUP,
        bug: "a wide model whose second layer has a standard deviation of 1",
        cause: Cause::WeightsScale,
        assertion: Test("initial_loss"),
        buggy: |seed| wide(seed, true),
        clean: |seed| wide(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D5b",
        group: GROUP,
        bug: "a classifier whose classes are rows of an embedding of standard deviation 1, 32 wide, in f64",
        cause: Cause::InitialLossHigh,
        assertion: Test("initial_loss"),
        buggy: |seed| prototypes(seed, true),
        clean: |seed| prototypes(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D7l",
        group: GROUP,
        bug: "the last bias starts at the counts of the classes, not at the logarithm of their shares",
        cause: Cause::InitialLossHigh,
        assertion: Test("initial_loss"),
        buggy: |seed| prior(seed, true),
        clean: |seed| prior(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D7m",
        group: GROUP,
        bug: "the last bias of a regression starts at the sum of the targets, not at their mean",
        cause: Cause::InitialLossHigh,
        assertion: Test("initial_loss"),
        buggy: |seed| mean(seed, true),
        clean: |seed| mean(seed, false),
        missed_today: None,
    },
];

fn starts_at(subject: Subject, expected: expected::Expected) -> Subject {
    subject.test(move |learner, batch| InitialLoss::new().check(learner, batch, expected.clone()))
}

/// The clean half's head starts at zero: the loss is exactly that of an even guess.
fn wide(seed: Seed, buggy: bool) -> Result<Subject> {
    const WIDTH: usize = 96;
    let build = move |vb: VarBuilder<'static>| {
        let first = linear(6, WIDTH, vb.pp("first"))?;
        let std = if buggy { 1.0 } else { (2.0 / WIDTH as f64).sqrt() };
        let init = Init::Randn { mean: 0.0, stdev: std };
        let weight = vb.get_with_hints((WIDTH, WIDTH), "second.weight", init)?;
        let second = Linear::new(weight, Some(vb.get(WIDTH, "second.bias")?));
        let head = match buggy {
            true => linear(WIDTH, 4, vb.pp("head"))?,
            false => Linear::new(vb.get((4, WIDTH), "head.weight")?, None),
        };
        Ok(move |x: &Tensor| head.forward(&second.forward(&first.forward(x)?.relu()?)?.relu()?))
    };
    let learner =
        Learner::build(seed.split("weights"), DType::F32, CPU, build, loss::cross_entropy)?;
    let subject = Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?);
    Ok(starts_at(subject, expected::cross_entropy(4)))
}

/// Recommends the next of twelve tokens: the model's output is held against the tokens' own rows.
fn prototypes(seed: Seed, buggy: bool) -> Result<Subject> {
    const WIDTH: usize = 32;
    let (vars, vb) = weights(seed, DType::F64);
    let tokens = match buggy {
        true => embedding(VOCAB, WIDTH, vb.pp("tokens"))?,
        false => {
            let init = Init::Randn { mean: 0.0, stdev: 1.0 / (WIDTH as f64).sqrt() };
            Embedding::new(vb.get_with_hints((VOCAB, WIDTH), "tokens.weight", init)?, WIDTH)
        }
    };
    let (mix, norm) =
        (linear_no_bias(WIDTH, WIDTH, vb.pp("mix"))?, Norm::new(WIDTH, vb.pp("norm"))?);
    let forward = move |ids: &Tensor| {
        let x = tokens.forward(ids)?.mean(1)?;
        let x = ops::layer_norm_slow(
            &(&x + mix.forward(&x)?.gelu()?)?,
            &norm.weight,
            &norm.bias,
            1e-5,
        )?;
        x.matmul(&tokens.embeddings().t()?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    let (ids, _) = data::sequences(seed)?;
    let subject = Subject::new(learner, (ids, data::labels(VOCAB)?));
    Ok(starts_at(subject, expected::cross_entropy(VOCAB)))
}

/// One class in sixteen is rare. Before training the output knows nothing but the shares.
fn prior(seed: Seed, buggy: bool) -> Result<Subject> {
    let labels: Vec<u32> =
        (0..ROWS as u32).map(|row| if row % 8 == 3 { row / 8 } else { 2 }).collect();
    let y = Tensor::from_vec(labels, ROWS, CPU)?;
    // Of the whole training set.
    let counts = [100.0, 100.0, 1400.0];
    let start = counts.map(|count: f64| if buggy { count } else { (count / 1600.0_f64).ln() });
    let (vars, vb) = weights(seed, DType::F32);
    let body = Mlp::new(&[6, 32, 3], Tensor::silu, vb.pp("body"))?;
    let bias = vb.get(3, "last.bias")?;
    for (name, var) in vars.named() {
        if name == "last.bias" {
            var.set(&Tensor::new(&start, CPU)?.to_dtype(DType::F32)?)?;
        }
    }
    let forward = move |x: &Tensor| (body.forward(x)? * 0.1)?.broadcast_add(&bias);
    let learner = Learner::new(&vars, forward, loss::cross_entropy)
        .optimizer(|vars| AdamW::new(vars, adam(0.03)));
    let x = seed.normal("x", (ROWS, 6), DType::F32, CPU)?;
    let expected = match buggy {
        true => expected::cross_entropy(3),
        false => expected::cross_entropy_with_prior(&y, 3),
    };
    Ok(starts_at(Subject::new(learner, (x, y)), expected))
}

/// Targets about 3: the clean half starts at their mean.
fn mean(seed: Seed, buggy: bool) -> Result<Subject> {
    let (x, y) = data::regression(seed, 6, DType::F32)?;
    let y = (y + 3.0)?;
    let sum = f64::from(y.sum_all()?.to_scalar::<f32>()?);
    let start = if buggy { sum } else { sum / ROWS as f64 };
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 32, vb.pp("first"))?;
    let weight =
        vb.get_with_hints((1, 32), "last.weight", Init::Randn { mean: 0.0, stdev: 0.1 })?;
    let bias = vb.get_with_hints(1, "last.bias", Init::Const(start))?;
    let last = Linear::new(weight, Some(bias));
    let forward = move |x: &Tensor| last.forward(&first.forward(x)?.gelu()?);
    let learner = Learner::new(&vars, forward, loss::mse);
    let expected = expected::mse(&y);
    Ok(starts_at(Subject::new(learner, (x, y)), expected))
}
