//! Samples that do not come, come twice, or come in one order.

use candle_core::{DType, Tensor};
use candling::{Cause, Result, Seed, check::Pipeline, synthetic};

use super::{
    super::{
        data::CPU,
        entry::{Assertion::Test, Entry, Subject},
    },
    loader::{Load, SAMPLES, SIZE, cut, each, images, permutation, pick, shuffled, table},
};

const GROUP: &str = "pipeline";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "Kd4",
        group: GROUP,
        bug: "the data is sorted, and nothing shuffles it",
        cause: Cause::OrderNotShuffled,
        assertion: Test("pipeline"),
        buggy: |seed| of_table(seed, DType::F32, |_, x, y, _| cut(x, y), Pipeline::new),
        // An evaluation needs no other order.
        clean: |seed| {
            of_table(seed, DType::F32, |_, x, y, _| cut(x, y), || Pipeline::new().shuffled(false))
        },
        missed_today: None,
    },
    Entry {
        id: "Kd4b",
        group: GROUP,
        bug: "the order is drawn once, before the loop over epochs",
        cause: Cause::OrderNotShuffled,
        assertion: Test("pipeline"),
        buggy: |seed| of_images(seed, |seed, x, y, _| shuffled(seed, x, y, 0), Pipeline::new),
        clean: |seed| of_images(seed, shuffled, Pipeline::new),
        missed_today: None,
    },
    Entry {
        id: "Kd4c",
        group: GROUP,
        bug: "batches are cut once, and only their order is drawn anew",
        cause: Cause::OrderNotShuffled,
        assertion: Test("pipeline"),
        buggy: |seed| {
            of_table(
                seed,
                DType::F64,
                |seed, x, y, epoch| {
                    let batches = shuffled(seed, x, y, 0)?;
                    let order = permutation(seed, &format!("batches {epoch}"), batches.len());
                    Ok(order.into_iter().map(|i| batches[i as usize].clone()).collect())
                },
                Pipeline::new,
            )
        },
        clean: |seed| of_table(seed, DType::F64, shuffled, Pipeline::new),
        missed_today: None,
    },
    Entry {
        id: "G14",
        group: GROUP,
        bug: "a `take(1)` left from debugging: an epoch is one batch",
        cause: Cause::SamplesMissing,
        assertion: Test("pipeline"),
        buggy: |seed| {
            of_table(
                seed,
                DType::F32,
                |seed, x, y, epoch| Ok(shuffled(seed, x, y, epoch)?.into_iter().take(1).collect()),
                Pipeline::new,
            )
        },
        clean: |seed| of_table(seed, DType::F32, shuffled, Pipeline::new),
        missed_today: None,
    },
    Entry {
        id: "G14b",
        group: GROUP,
        bug: "`0..n / size` batches: the rest is never seen",
        cause: Cause::SamplesMissing,
        assertion: Test("pipeline"),
        buggy: |seed| of_images(seed, whole_batches, Pipeline::new),
        // Where it is meant, it is declared.
        clean: |seed| of_images(seed, whole_batches, || Pipeline::new().drop_last(true)),
        missed_today: None,
    },
    Entry {
        id: "G14c",
        group: GROUP,
        bug: "the loop breaks one batch before the last",
        cause: Cause::SamplesMissing,
        assertion: Test("pipeline"),
        buggy: |seed| {
            of_table(
                seed,
                DType::F64,
                |seed, x, y, epoch| {
                    let mut batches = shuffled(seed, x, y, epoch)?;
                    if batches.len() > 1 {
                        batches.pop();
                        batches.pop();
                    }
                    Ok(batches)
                },
                || Pipeline::new().drop_last(true),
            )
        },
        clean: |seed| of_table(seed, DType::F64, whole_batches, || Pipeline::new().drop_last(true)),
        missed_today: None,
    },
    Entry {
        id: "G14d",
        group: GROUP,
        bug: "samples are drawn with replacement: a third of them never comes in an epoch",
        cause: Cause::SamplesMissing,
        assertion: Test("pipeline"),
        buggy: |seed| of_table(seed, DType::F32, with_replacement, Pipeline::new),
        // A sampler that balances classes repeats by design.
        clean: |seed| {
            of_table(seed, DType::F32, with_replacement, || Pipeline::new().repeats(true))
        },
        missed_today: None,
    },
    Entry {
        id: "G14e",
        group: GROUP,
        bug: "the index that cuts batches does not move on: the first batch comes again and again",
        cause: Cause::SamplesMissing,
        assertion: Test("pipeline"),
        buggy: |seed| {
            of_images(
                seed,
                |seed, x, y, epoch| {
                    let batches = shuffled(seed, x, y, epoch)?;
                    Ok(batches.iter().map(|_| batches[0].clone()).collect())
                },
                Pipeline::new,
            )
        },
        clean: |seed| {
            of_images(
                seed,
                |seed, x, y, epoch| {
                    // Bytes on the disk, floats for the model: rounded to 255 levels.
                    each(shuffled(seed, x, y, epoch), |_, x| (x * 255.0)?.round()? / 255.0)
                },
                Pipeline::new,
            )
        },
        missed_today: None,
    },
];

fn whole_batches(
    seed: Seed,
    x: &Tensor,
    y: &Tensor,
    epoch: usize,
) -> candle_core::Result<Vec<(Tensor, Tensor)>> {
    let whole = x.dim(0)? / SIZE;
    Ok(shuffled(seed, x, y, epoch)?.into_iter().take(whole).collect())
}

fn with_replacement(
    seed: Seed,
    x: &Tensor,
    y: &Tensor,
    epoch: usize,
) -> candle_core::Result<Vec<(Tensor, Tensor)>> {
    let n = x.dim(0)?;
    // The rows of the model's own data are as many as a batch holds: one of each.
    let drawn: Vec<u32> = match n > SIZE {
        true => seed.tokens(&format!("epoch {epoch}"), n, n, CPU)?.to_vec1()?,
        false => permutation(seed, "epoch", n),
    };
    cut(&pick(x, &drawn)?, &pick(y, &drawn)?)
}

type Options = fn() -> Pipeline<'static>;

fn of_table(seed: Seed, dtype: DType, load: Load, options: Options) -> Result<Subject> {
    Ok(table(seed, dtype, load)?.test(move |_, _| {
        let (x, y) = synthetic::markers(SAMPLES, 6)?;
        let x = x.to_dtype(dtype)?;
        options().check(|epoch| Ok(load(seed, &x, &y, epoch)?), SAMPLES)
    }))
}

fn of_images(seed: Seed, load: Load, options: Options) -> Result<Subject> {
    Ok(images(seed, load)?.test(move |_, _| {
        let (x, y) = synthetic::markers(SAMPLES, (1, 8, 8))?;
        options().check(|epoch| Ok(load(seed, &x, &y, epoch)?), SAMPLES)
    }))
}
