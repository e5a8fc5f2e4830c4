//! Groups C and J: a training that does as well without its input, and a larger model that is no better.

use candle_core::{DType, Module, Tensor};
use candle_nn::{embedding, linear, loss, ops};
use candling::{
    Cause, Learner, Result, Seed,
    check::{CapacityHelps, LearnsFromInput},
};

use crate::corpus::{
    data::{self, ROWS, TIME, VOCAB, weights},
    entry::{Assertion::Test, Entry, Subject},
    models::{Mlp, stable_bce},
};

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "C5d",
        group: "architecture",
        bug: "softmax over the one unit of a detector: every score is 1",
        cause: Cause::OutputConstant,
        assertion: Test("learns_from_input"),
        buggy: |seed| detector(seed, true),
        clean: |seed| detector(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J3e",
        group: "dependence",
        bug: "an inverted mask: the padding is pooled, and the tokens are left out",
        cause: Cause::InputIgnored,
        assertion: Test("learns_from_input"),
        buggy: |seed| pooled(seed, true),
        clean: |seed| pooled(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J18d",
        group: "dependence",
        bug: "a `let` of the same name: the features are computed, and the prior goes on",
        cause: Cause::InputIgnored,
        assertion: Test("learns_from_input"),
        buggy: |seed| shadowed(seed, true),
        clean: |seed| shadowed(seed, false),
        missed_today: None,
    },
    Entry {
        id: "C12b",
        group: "architecture",
        bug: "the layers were made wider, all but one of a single unit",
        cause: Cause::CapacityTooSmall,
        assertion: Test("capacity_helps"),
        buggy: |seed| widened(seed, 1),
        clean: |seed| widened(seed, 48),
        missed_today: None,
    },
    Entry {
        id: "C7j",
        group: "architecture",
        bug: "a second branch that is made and not called: the larger model is the smaller one",
        cause: Cause::VariableUnused,
        assertion: Test("capacity_helps"),
        buggy: |seed| deepened(seed, true),
        clean: |seed| deepened(seed, false),
        missed_today: None,
    },
];

fn learns(subject: Subject) -> Subject {
    subject.test(|learner, batch| LearnsFromInput::new().check(learner, batch))
}

fn detector(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 24, 1], Tensor::relu, vb)?;
    let batch = data::binary(seed, 6)?;
    Ok(learns(Subject::new(
        match buggy {
            true => Learner::new(&vars, move |x| ops::softmax(&model.forward(x)?, 1), loss::mse),
            false => Learner::new(&vars, move |x| model.forward(x), stable_bce),
        },
        batch,
    )))
}

/// The mean over the tokens of a sequence that are no padding, padded to 4 more.
fn pooled(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB + 1, 16, vb.pp("tokens"))?;
    let head = Mlp::new(&[16, 32, 4], Tensor::gelu, vb.pp("head"))?;
    let (x, y) = data::sequences(seed)?;
    let padding = Tensor::zeros((ROWS, 4), DType::U32, data::CPU)?;
    let x = Tensor::cat(&[(x + 1.0)?, padding], 1)?;
    let forward = move |x: &Tensor| {
        let kept = if buggy { x.eq(data::PAD)? } else { x.ne(data::PAD)? };
        let kept = kept.to_dtype(DType::F32)?.unsqueeze(2)?;
        let sum = tokens.forward(x)?.broadcast_mul(&kept)?.sum(1)?;
        head.forward(&sum.broadcast_div(&kept.sum(1)?)?)
    };
    debug_assert_eq!(x.dims()[1], TIME + 4);
    Ok(learns(Subject::new(Learner::new(&vars, forward, loss::cross_entropy), (x, y))))
}

/// Features beside a learned prior.
fn shadowed(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let body = Mlp::new(&[6, 24, 24], Tensor::tanh, vb.pp("body"))?;
    let prior = vb.get_with_hints(24, "prior", candle_nn::Init::Randn { mean: 0.0, stdev: 0.1 })?;
    let head = linear(24, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let features = body.forward(x)?;
        let features = match buggy {
            true => features.zeros_like()?.broadcast_add(&prior)?,
            false => features.broadcast_add(&prior)?,
        };
        head.forward(&features)
    };
    let batch = data::classes(seed, 6, 4, DType::F64)?;
    Ok(learns(Subject::new(Learner::new(&vars, forward, loss::cross_entropy), batch)))
}

fn built(
    seed: Seed,
    sizes: &'static [usize],
    activation: fn(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<Learner<'static>> {
    let build = move |vb: candle_nn::VarBuilder<'static>| {
        let model = Mlp::new(sizes, activation, vb)?;
        Ok(move |x: &Tensor| model.forward(x))
    };
    Learner::build(seed.split("weights"), DType::F32, data::CPU, build, loss::cross_entropy)
}

/// Beside a small network of the same test, a larger one; the subject is the larger.
fn widened(seed: Seed, narrowest: usize) -> Result<Subject> {
    let sizes: &'static [usize] = match narrowest {
        1 => &[6, 48, 1, 48, 4],
        _ => &[6, 48, 48, 48, 4],
    };
    let subject =
        Subject::new(built(seed, sizes, Tensor::relu)?, data::classes(seed, 6, 4, DType::F32)?);
    Ok(subject.test(move |large, batch| {
        let small = built(seed, &[6, 2, 4], Tensor::relu)?;
        CapacityHelps::new().steps(150).check(&small, large, batch)
    }))
}

fn deepened(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = Mlp::new(&[6, 2, 4], Tensor::tanh, vb.pp("first"))?;
    let second = Mlp::new(&[6, 32, 4], Tensor::tanh, vb.pp("second"))?;
    let forward = move |x: &Tensor| match buggy {
        true => first.forward(x),
        false => first.forward(x)? + second.forward(x)?,
    };
    let subject = Subject::new(
        Learner::new(&vars, forward, loss::cross_entropy),
        data::classes(seed, 6, 4, DType::F32)?,
    );
    Ok(subject.test(move |large, batch| {
        let (vars, vb) = weights(seed, DType::F32);
        let first = Mlp::new(&[6, 2, 4], Tensor::tanh, vb.pp("first"))?;
        let small = Learner::new(&vars, move |x| first.forward(x), loss::cross_entropy);
        CapacityHelps::new().steps(150).check(&small, large, batch)
    }))
}
