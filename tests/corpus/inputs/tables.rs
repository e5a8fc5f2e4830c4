//! Columns of numbers, and labels.

use candle_core::{DType, Module, Tensor};
use candle_nn::loss;
use candling::{
    Cause, Learner, Result, Seed,
    check::{Labels, Normalized},
};

use super::super::{
    data::{self, CPU, ROWS, weights},
    entry::{Assertion::Test, Entry, Subject},
    models::Mlp,
};

const GROUP: &str = "inputs";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "A3b",
        group: GROUP,
        bug: "a column of whole numbers is divided by 100 as i64: it is 0 in every row",
        cause: Cause::InputConstant,
        assertion: Test("normalized"),
        buggy: |seed| percentages(seed, true),
        clean: |seed| percentages(seed, false),
        missed_today: None,
    },
    Entry {
        id: "A8",
        group: GROUP,
        bug: "missing values of a table are NaN",
        cause: Cause::NotFinite,
        assertion: Test("normalized"),
        buggy: |seed| missing(seed, f64::NAN, DType::F32),
        clean: |seed| missing(seed, 0.0, DType::F32),
        missed_today: None,
    },
    Entry {
        id: "A8b",
        group: GROUP,
        bug: "missing values of a table are -999",
        cause: Cause::InputNotScaled,
        assertion: Test("normalized"),
        buggy: |seed| missing(seed, -999.0, DType::F64),
        clean: |seed| missing(seed, 0.0, DType::F64),
        missed_today: None,
    },
    Entry {
        id: "A8c",
        group: GROUP,
        bug: "a column's missing values are -1 where its values are 10 to 20, and it is standardised with them",
        cause: Cause::InputNotScaled,
        assertion: Test("normalized"),
        buggy: |seed| marked(seed, -1.0),
        clean: |seed| marked(seed, 15.0),
        missed_today: Some(
            "no assertion: standardised with the mark in it, the column has mean 0 and deviation 1",
        ),
    },
    Entry {
        id: "A13",
        group: GROUP,
        bug: "labels count from 1, and the head has one output more",
        cause: Cause::LabelOutOfRange,
        assertion: Test("labels"),
        buggy: |seed| labelled(seed, 1.0, DType::U32),
        clean: |seed| labelled(seed, 0.0, DType::U32),
        missed_today: None,
    },
    Entry {
        id: "A13b",
        group: GROUP,
        bug: "rows without a label are -1, which is 4294967295 as a u32 and costs nothing",
        cause: Cause::LabelOutOfRange,
        assertion: Test("labels"),
        buggy: |seed| unlabelled(seed, true),
        clean: |seed| unlabelled(seed, false),
        missed_today: None,
    },
    Entry {
        id: "A13c",
        group: GROUP,
        bug: "the first class is dropped by an offset of the wrong sign: it is merged with the second",
        cause: Cause::LabelMissingClass,
        assertion: Test("labels"),
        buggy: |seed| labelled(seed, -1.0, DType::I64),
        clean: |seed| labelled(seed, 0.0, DType::I64),
        missed_today: None,
    },
];

fn classifier(seed: Seed, x: Tensor, y: Tensor, outputs: usize) -> Result<Subject> {
    let (vars, vb) = weights(seed, x.dtype());
    let model = Mlp::new(&[x.dim(1)?, 32, outputs], Tensor::gelu, vb)?;
    let learner = Learner::new(&vars, move |x: &Tensor| model.forward(x), loss::cross_entropy);
    Ok(Subject::new(learner, (x, y)))
}

/// Five standardised columns, and one of 0 to 99 percent.
fn percentages(seed: Seed, buggy: bool) -> Result<Subject> {
    let (x, y) = data::classes(seed, 5, 4, DType::F32)?;
    let percent = seed.tokens("percent", 100, (ROWS, 1), CPU)?.to_dtype(DType::I64)?;
    let share = match buggy {
        true => (percent / 100.0)?.to_dtype(DType::F32)?,
        false => (percent.to_dtype(DType::F32)? / 100.0)?,
    };
    // The figures of shares that are spread evenly.
    let x = Tensor::cat(&[x, ((share - 0.5)? / 0.289)?], 1)?;
    let subject = classifier(seed, x, y, 4)?;
    Ok(subject.test(|_, batch| Normalized::new().per_channel(1).check(&batch.input()[0])))
}

/// Three values of a standardised table are not known.
fn missing(seed: Seed, mark: f64, dtype: DType) -> Result<Subject> {
    let (x, y) = data::classes(seed, 6, 4, DType::F64)?;
    let mut values: Vec<f64> = x.flatten_all()?.to_vec1()?;
    for at in [9, 40, 77] {
        values[at] = mark;
    }
    let x = Tensor::from_vec(values, (ROWS, 6), CPU)?.to_dtype(dtype)?;
    let subject = classifier(seed, x, y, 4)?;
    Ok(subject.test(|_, batch| Normalized::new().check(&batch.input()[0])))
}

/// A column of 10 to 20 with two marks, standardised as it is.
fn marked(seed: Seed, mark: f64) -> Result<Subject> {
    let (x, y) = data::classes(seed, 5, 4, DType::F32)?;
    let mut column: Vec<f64> =
        seed.uniform("column", 10.0..20.0, ROWS, DType::F64, CPU)?.to_vec1()?;
    (column[4], column[11]) = (mark, mark);
    let column = Tensor::from_vec(column, (ROWS, 1), CPU)?;
    let apart = column.broadcast_sub(&column.mean_keepdim(0)?)?;
    let column = apart.broadcast_div(&apart.sqr()?.mean_keepdim(0)?.sqrt()?)?;
    let x = Tensor::cat(&[x, column.to_dtype(DType::F32)?], 1)?;
    let subject = classifier(seed, x, y, 4)?;
    Ok(subject.test(|_, batch| Normalized::new().per_channel(1).check(&batch.input()[0])))
}

/// Four classes, moved by an offset that integers clip at 0.
fn labelled(seed: Seed, offset: f64, dtype: DType) -> Result<Subject> {
    let (x, y) = data::classes(seed, 6, 4, DType::F32)?;
    let y = (y.to_dtype(DType::F32)? + offset)?.relu()?.to_dtype(dtype)?;
    let subject = classifier(seed, x, y, if offset > 0.0 { 5 } else { 4 })?;
    Ok(subject.test(|_, batch| match batch.target() {
        Some(y) => Labels::new().check(y, 4).map(drop),
        None => Ok(()),
    }))
}

/// Some rows have no label; they are to be left out before the loss.
fn unlabelled(seed: Seed, buggy: bool) -> Result<Subject> {
    let (x, y) = data::classes(seed, 6, 4, DType::F32)?;
    let (x, y) = match buggy {
        true => {
            let mut labels: Vec<u32> = y.to_vec1()?;
            (labels[2], labels[13]) = (u32::MAX, u32::MAX);
            (x, Tensor::new(labels, CPU)?)
        }
        false => {
            let kept: Vec<u32> = (0..ROWS as u32).filter(|row| ![2, 13].contains(row)).collect();
            let kept = Tensor::new(kept, CPU)?;
            (x.index_select(&kept, 0)?, y.index_select(&kept, 0)?)
        }
    };
    let subject = classifier(seed, x, y, 4)?;
    Ok(subject.test(|_, batch| match batch.target() {
        Some(y) => Labels::new().check(y, 4).map(drop),
        None => Ok(()),
    }))
}
