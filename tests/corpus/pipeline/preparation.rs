//! What training and evaluation make of a sample: A4, A10, and augmentation.

use candle_core::{DType, Tensor};
use candling::{Cause, Result, Seed, check::Pipeline, synthetic};

use super::{
    super::{
        data::CPU,
        entry::{Assertion::Test, Entry, Subject},
    },
    loader::{Load, SAMPLES, cut, each, flipped, images, shuffled, table},
};

const GROUP: &str = "pipeline";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "A4",
        group: GROUP,
        bug: "training takes the mean off, the evaluation does not",
        cause: Cause::PreprocessingDiffers,
        assertion: Test("pipeline"),
        buggy: |seed| of_table(seed, centred, |_, x, y, _| cut(x, y)),
        clean: |seed| of_table(seed, centred, |_, x, y, _| cut(&(x - 0.5)?, y)),
        missed_today: None,
    },
    Entry {
        id: "A4b",
        group: GROUP,
        bug: "the evaluation scales with 0.5 and 0.5, the training, which also flips, with 0.48 and 0.22",
        cause: Cause::PreprocessingDiffers,
        assertion: Test("pipeline"),
        buggy: |seed| of_images(seed, flips, |_, x, y, _| cut(&((x - 0.5)? / 0.5)?, y)),
        clean: |seed| of_images(seed, flips, |_, x, y, _| cut(&scaled(x)?, y)),
        missed_today: None,
    },
    Entry {
        id: "A10",
        group: GROUP,
        bug: "the target's column stays in the table",
        cause: Cause::LabelLeaked,
        assertion: Test("pipeline"),
        buggy: |seed| {
            of_table(
                seed,
                |seed, x, y, epoch| {
                    let column = y.to_dtype(x.dtype())?.unsqueeze(1)?;
                    shuffled(seed, &Tensor::cat(&[x, &column], 1)?, y, epoch)
                },
                |_, x, y, _| {
                    let column = y.to_dtype(x.dtype())?.unsqueeze(1)?;
                    cut(&Tensor::cat(&[x, &column], 1)?, y)
                },
            )
        },
        clean: |seed| of_table(seed, shuffled, |_, x, y, _| cut(x, y)),
        missed_today: None,
    },
    Entry {
        id: "A10b",
        group: GROUP,
        bug: "a column made from the target, its scaled distance from the mean, stays in the table",
        cause: Cause::LabelLeaked,
        assertion: Test("pipeline"),
        buggy: |seed| {
            of_table(
                seed,
                |seed, x, y, epoch| shuffled(seed, &with_distance(x, y)?, y, epoch),
                |_, x, y, _| cut(&with_distance(x, y)?, y),
            )
        },
        // A column of row numbers that is made from nothing but an input.
        clean: |seed| {
            of_table(
                seed,
                |seed, x, y, epoch| shuffled(seed, &with_square(x)?, y, epoch),
                |_, x, y, _| cut(&with_square(x)?, y),
            )
        },
        missed_today: None,
    },
    Entry {
        id: "A10c",
        group: GROUP,
        bug: "the square of the target is among the features",
        cause: Cause::LabelLeaked,
        assertion: Test("pipeline"),
        buggy: |seed| {
            of_table(
                seed,
                |seed, x, y, epoch| {
                    let column = y.to_dtype(x.dtype())?.sqr()?.unsqueeze(1)?;
                    shuffled(seed, &Tensor::cat(&[x, &column], 1)?, y, epoch)
                },
                |_, x, y, _| {
                    let column = y.to_dtype(x.dtype())?.sqr()?.unsqueeze(1)?;
                    cut(&Tensor::cat(&[x, &column], 1)?, y)
                },
            )
        },
        clean: |seed| of_table(seed, shuffled, |_, x, y, _| cut(x, y)),
        missed_today: None,
    },
    Entry {
        id: "Kd6",
        group: GROUP,
        bug: "the evaluation flips its images, as the training does",
        cause: Cause::PreprocessingDiffers,
        assertion: Test("pipeline"),
        buggy: |seed| of_images(seed, flips, flips),
        clean: |seed| of_images(seed, flips, |_, x, y, _| cut(&scaled(x)?, y)),
        missed_today: None,
    },
    Entry {
        id: "Kd6b",
        group: GROUP,
        bug: "the evaluation adds the training's noise",
        cause: Cause::PreprocessingDiffers,
        assertion: Test("pipeline"),
        buggy: |seed| of_table(seed, noise, noise),
        // Shuffled, which does no harm.
        clean: |seed| of_table(seed, noise, |seed, x, y, epoch| shuffled(seed, x, y, epoch + 9)),
        missed_today: None,
    },
    Entry {
        id: "Kd7",
        group: GROUP,
        bug: "all workers flip with a generator of one seed",
        cause: Cause::AugmentationRepeated,
        assertion: Test("pipeline"),
        buggy: |seed| {
            of_images(
                seed,
                |seed, x, y, epoch| {
                    let worker = |i: usize| format!("{epoch}, {}", i / 2);
                    each(shuffled(seed, x, y, epoch), |i, x| flipped(seed, &worker(i), &scaled(x)?))
                },
                |_, x, y, _| cut(&scaled(x)?, y),
            )
        },
        clean: |seed| of_images(seed, flips, |_, x, y, _| cut(&scaled(x)?, y)),
        missed_today: None,
    },
    Entry {
        id: "Kd7b",
        group: GROUP,
        bug: "the generator of the noise starts anew in every epoch",
        cause: Cause::AugmentationRepeated,
        assertion: Test("pipeline"),
        buggy: |seed| {
            of_table(
                seed,
                |seed, x, y, epoch| {
                    each(shuffled(seed, x, y, epoch), |i, x| noised(seed, &format!("{i}"), x))
                },
                |_, x, y, _| cut(x, y),
            )
        },
        clean: |seed| of_table(seed, noise, |_, x, y, _| cut(x, y)),
        missed_today: None,
    },
];

fn centred(seed: Seed, x: &Tensor, y: &Tensor, epoch: usize) -> super::loader::Batches {
    shuffled(seed, &(x - 0.5)?, y, epoch)
}

/// The figures of the training set.
fn scaled(x: &Tensor) -> candle_core::Result<Tensor> {
    (x - 0.48)? / 0.22
}

fn flips(seed: Seed, x: &Tensor, y: &Tensor, epoch: usize) -> super::loader::Batches {
    let batches = shuffled(seed, x, y, epoch);
    each(batches, |i, x| flipped(seed, &format!("{epoch}, {i}"), &scaled(x)?))
}

/// Small beside the step from one marker to the next, 0.025.
fn noised(seed: Seed, label: &str, x: &Tensor) -> candle_core::Result<Tensor> {
    x + (seed.normal(label, x.shape(), DType::F32, CPU)? * 0.003)?
}

fn noise(seed: Seed, x: &Tensor, y: &Tensor, epoch: usize) -> super::loader::Batches {
    each(shuffled(seed, x, y, epoch), |i, x| noised(seed, &format!("{epoch}, {i}"), x))
}

fn with_distance(x: &Tensor, y: &Tensor) -> candle_core::Result<Tensor> {
    let column = y.to_dtype(x.dtype())?.unsqueeze(1)?;
    let apart = column.broadcast_sub(&column.mean_keepdim(0)?)?;
    Tensor::cat(&[x, &(apart * 0.1)?], 1)
}

fn with_square(x: &Tensor) -> candle_core::Result<Tensor> {
    let first = x.narrow(1, 0, 1)?;
    Tensor::cat(&[x, &((&first * 2.0)? - 1.0)?], 1)
}

fn of_table(seed: Seed, train: Load, evaluate: Load) -> Result<Subject> {
    Ok(table(seed, DType::F32, train)?.test(move |_, _| {
        let (x, y) = synthetic::markers(SAMPLES, 6)?;
        Pipeline::new()
            .evaluation(|epoch| Ok(evaluate(seed, &x, &y, epoch)?))
            .check(|epoch| Ok(train(seed, &x, &y, epoch)?), SAMPLES)
    }))
}

fn of_images(seed: Seed, train: Load, evaluate: Load) -> Result<Subject> {
    Ok(images(seed, train)?.test(move |_, _| {
        let (x, y) = synthetic::markers(SAMPLES, (1, 8, 8))?;
        Pipeline::new()
            .evaluation(|epoch| Ok(evaluate(seed, &x, &y, epoch)?))
            .check(|epoch| Ok(train(seed, &x, &y, epoch)?), SAMPLES)
    }))
}
