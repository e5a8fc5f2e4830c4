//! Training and validation sets: rows, figures and labels.

use candle_core::{DType, Module, Tensor};
use candle_nn::loss;
use candling::{
    Cause, Learner, Result, Seed,
    check::{Disjoint, Labels, Normalized},
};

use super::super::{
    data::{self, CPU, ROWS, TIME, VOCAB, weights},
    entry::{Assertion::Test, Entry, Subject},
    models::{Mlp, Transformer},
};
use super::loader::{permutation, pick};

const GROUP: &str = "pipeline";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "Kd3",
        group: GROUP,
        bug: "rare rows are copied before the split: copies are on both sides",
        cause: Cause::SplitOverlap,
        assertion: Test("disjoint"),
        buggy: |seed| oversampled(seed, true),
        clean: |seed| oversampled(seed, false),
        missed_today: None,
    },
    Entry {
        id: "Kd3b",
        group: GROUP,
        bug: "the validation's slice begins before the training's ends",
        cause: Cause::SplitOverlap,
        assertion: Test("disjoint"),
        buggy: |seed| sliced(seed, ROWS - 3),
        clean: |seed| sliced(seed, ROWS),
        missed_today: None,
    },
    Entry {
        id: "Kd3c",
        group: GROUP,
        bug: "a sample is in both sets, once augmented with a little noise",
        cause: Cause::SplitOverlap,
        assertion: Test("disjoint"),
        buggy: |seed| nearly(seed, true),
        clean: |seed| nearly(seed, false),
        missed_today: Some(
            "assert_disjoint! on the samples' own ids: rows that differ by noise are other rows",
        ),
    },
    Entry {
        id: "Kd8",
        group: GROUP,
        bug: "the wrong column is read as the label: it is 1 in every row",
        cause: Cause::LabelMissingClass,
        assertion: Test("labels"),
        buggy: |seed| columns(seed, 0),
        clean: |seed| columns(seed, 1),
        missed_today: None,
    },
    Entry {
        id: "Kd8c",
        group: GROUP,
        bug: "the labels of a whole file are permuted before anyone sees them",
        cause: Cause::PairsBroken,
        assertion: Test("labels"),
        buggy: |seed| file(seed, true),
        clean: |seed| file(seed, false),
        missed_today: Some(
            "no assertion: right in range and balance, and one batch is learned by heart",
        ),
    },
    Entry {
        id: "Kd13",
        group: GROUP,
        bug: "mean and deviation are those of the validation set",
        cause: Cause::InputNotScaled,
        assertion: Test("normalized"),
        buggy: |seed| figures(seed, Fitted::Validation),
        clean: |seed| figures(seed, Fitted::Train),
        missed_today: None,
    },
    Entry {
        id: "Kd13b",
        group: GROUP,
        bug: "mean and deviation are taken before the split, from both sets",
        cause: Cause::InputNotScaled,
        assertion: Test("normalized"),
        buggy: |seed| figures(seed, Fitted::Both),
        clean: |seed| figures(seed, Fitted::Train),
        missed_today: None,
    },
];

fn classifier(seed: Seed, x: Tensor, y: Tensor) -> Result<Subject> {
    let (vars, vb) = weights(seed, x.dtype());
    let model = Mlp::new(&[x.dim(1)?, 32, 4], Tensor::gelu, vb)?;
    let learner = Learner::new(&vars, move |x: &Tensor| model.forward(x), loss::cross_entropy);
    Ok(Subject::new(learner, (x, y)))
}

/// Some rows twice, for balance: before the split, or after it.
fn oversampled(seed: Seed, buggy: bool) -> Result<Subject> {
    let (x, y) = data::classes(seed, 6, 4, DType::F32)?;
    let more = seed.normal("more", (24, 6), DType::F32, CPU)?;
    let all = Tensor::cat(&[&x, &more], 0)?;
    let copied = |t: &Tensor| Tensor::cat(&[t, &t.narrow(0, 0, 8)?], 0);
    let (train, validation) = match buggy {
        true => {
            let all = copied(&all)?;
            let all = pick(&all, &permutation(seed, "split", 48))?;
            (all.narrow(0, 0, 36)?, all.narrow(0, 36, 12)?)
        }
        false => {
            let all = pick(&all, &permutation(seed, "split", 40))?;
            (copied(&all.narrow(0, 0, 28)?)?, all.narrow(0, 28, 12)?)
        }
    };
    Ok(classifier(seed, x, y)?.test(move |_, _| Disjoint::new().check(&train, &validation)))
}

/// Windows of tokens, as a language model is trained on: neighbours share all but one token, and are other windows.
fn sliced(seed: Seed, begin: usize) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(4, vb)?;
    let (x, y) = data::sequences(seed)?;
    let text: Vec<u32> = seed.tokens("text", VOCAB, 2 * ROWS + TIME, CPU)?.to_vec1()?;
    let windows: Vec<u32> = text.windows(TIME).take(2 * ROWS).flatten().copied().collect();
    let windows = Tensor::from_vec(windows, (2 * ROWS, TIME), CPU)?;
    let train = windows.narrow(0, 0, ROWS)?;
    let validation = windows.narrow(0, begin, ROWS)?;
    let forward = move |ids: &Tensor| model.classify(ids);
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, y)).test(move |_, _| Disjoint::new().check(&train, &validation)))
}

/// Validation rows that are training rows with noise, or rows of their own.
fn nearly(seed: Seed, buggy: bool) -> Result<Subject> {
    let (x, y) = data::classes(seed, 6, 4, DType::F64)?;
    let noise = seed.normal("noise", (6, 6), DType::F64, CPU)?;
    let validation = match buggy {
        true => (x.narrow(0, 4, 6)? + (&noise * 0.01)?)?,
        false => noise,
    };
    let train = x.clone();
    Ok(classifier(seed, x, y)?.test(move |_, _| Disjoint::new().check(&train, &validation)))
}

/// Columns of a file: a version, a class, and six features.
fn columns(seed: Seed, label: usize) -> Result<Subject> {
    let (x, y) = data::classes(seed, 6, 4, DType::F32)?;
    let columns = [Tensor::ones(ROWS, DType::U32, CPU)?, y];
    let y = columns[label].clone();
    Ok(classifier(seed, x, y.clone())?.test(move |_, _| Labels::new().balance(3.0).check(&y, 4)))
}

fn file(seed: Seed, buggy: bool) -> Result<Subject> {
    let (x, y) = data::classes(seed, 6, 4, DType::F32)?;
    let y = if buggy { pick(&y, &permutation(seed, "file", ROWS))? } else { y };
    Ok(classifier(seed, x, y.clone())?.test(move |_, _| Labels::new().check(&y, 4)))
}

/// What mean and deviation were taken from.
#[derive(Clone, Copy)]
enum Fitted {
    Train,
    Validation,
    Both,
}

/// A training set of 64 rows and a validation set of 32, whose columns have scales of their own.
fn figures(seed: Seed, fitted: Fitted) -> Result<Subject> {
    let scale = Tensor::new(&[1f64, 30.0, 0.2, 7.0], CPU)?;
    let raw = seed.normal("raw", (96, 4), DType::F64, CPU)?.broadcast_mul(&scale)?;
    let raw = raw.broadcast_add(&(scale * 3.0)?)?;
    let (train, validation) = (raw.narrow(0, 0, 64)?, raw.narrow(0, 64, 32)?);
    let of = match fitted {
        Fitted::Train => &train,
        Fitted::Validation => &validation,
        Fitted::Both => &raw,
    };
    let mean = of.mean_keepdim(0)?;
    let deviation = of.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?.sqrt()?;
    let train = train.broadcast_sub(&mean)?.broadcast_div(&deviation)?.to_dtype(DType::F32)?;
    let batch = train.narrow(0, 0, ROWS)?;
    let subject = classifier(seed, batch, data::labels(4)?)?;
    Ok(subject.test(move |_, _| Normalized::new().per_channel(1).fitted(true).check(&train)))
}
