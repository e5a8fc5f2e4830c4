//! Inputs and targets that lose each other.

use std::collections::HashMap;

use candle_core::{DType, Module, Tensor};
use candle_nn::{Conv2dConfig, conv2d, loss};
use candling::{Cause, Learner, Result, Seed, check::Pipeline, synthetic};

use super::{
    super::{
        data::{CPU, ROWS, weights},
        entry::{Assertion::Test, Entry, Subject},
    },
    loader::{
        self, Batches, Load, SAMPLES, cut, each, flipped, images, permutation, pick, shuffled,
        table,
    },
};

const GROUP: &str = "pipeline";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "Kd1",
        group: GROUP,
        bug: "only the features are shuffled",
        cause: Cause::PairsBroken,
        assertion: Test("pipeline"),
        buggy: |seed| {
            of_table(seed, DType::F32, |seed, x, y, epoch| {
                let order = permutation(seed, &format!("epoch {epoch}"), x.dim(0)?);
                cut(&pick(x, &order)?, y)
            })
        },
        clean: |seed| of_table(seed, DType::F32, shuffled),
        missed_today: None,
    },
    Entry {
        id: "Kd1b",
        group: GROUP,
        bug: "images and labels are shuffled each by a permutation of its own",
        cause: Cause::PairsBroken,
        assertion: Test("pipeline"),
        buggy: |seed| {
            of_images(seed, |seed, x, y, epoch| {
                let order = |side: &str| {
                    permutation(seed, &format!("{side} {epoch}"), SAMPLES.min(x.dims()[0]))
                };
                cut(&pick(x, &order("x"))?, &pick(y, &order("y"))?)
            })
        },
        clean: |seed| {
            of_images(seed, |seed, x, y, epoch| {
                // Standardised in the loader.
                each(shuffled(seed, x, y, epoch), |_, x| (x - 0.1)? / 1.2)
            })
        },
        missed_today: None,
    },
    Entry {
        id: "Kd1c",
        group: GROUP,
        bug: "the targets are cut one row further than the inputs",
        cause: Cause::PairsBroken,
        assertion: Test("pipeline"),
        buggy: |seed| {
            of_table(seed, DType::F64, |seed, x, y, epoch| {
                let n = y.dim(0)?;
                let y = Tensor::cat(&[y.narrow(0, 1, n - 1)?, y.narrow(0, 0, 1)?], 0)?;
                shuffled(seed, x, &y, epoch)
            })
        },
        clean: |seed| of_table(seed, DType::F64, shuffled),
        missed_today: None,
    },
    Entry {
        id: "Kd2",
        group: GROUP,
        bug: "classes are numbered in the order of a `HashMap`: the evaluation numbers them anew",
        cause: Cause::NotReproducible,
        assertion: Test("pipeline"),
        buggy: |seed| numbered(seed, true),
        clean: |seed| numbered(seed, false),
        missed_today: None,
    },
    Entry {
        id: "Kd8b",
        group: GROUP,
        bug: "labels are sorted by name and inputs by date, before all shuffling",
        cause: Cause::PairsBroken,
        assertion: Test("pipeline"),
        buggy: |seed| {
            of_images(seed, |seed, x, y, epoch| {
                let names = permutation(seed, "names", y.dim(0)?);
                shuffled(seed, x, &pick(y, &names)?, epoch)
            })
        },
        clean: |seed| {
            of_images(seed, |seed, x, y, epoch| {
                // Stored in an order of its own, both sides.
                let stored = permutation(seed, "names", y.dim(0)?);
                shuffled(seed, &pick(x, &stored)?, &pick(y, &stored)?, epoch)
            })
        },
        missed_today: None,
    },
    Entry {
        id: "Kd10",
        group: GROUP,
        bug: "images are mirrored, and their masks are not",
        cause: Cause::PairsBroken,
        assertion: Test("pipeline"),
        buggy: |seed| {
            masks(seed, |seed, x, y, epoch| {
                each(shuffled(seed, x, y, epoch), |i, x| flipped(seed, &format!("{epoch}, {i}"), x))
            })
        },
        clean: |seed| {
            masks(seed, |seed, x, y, epoch| {
                let both = shuffled(seed, x, y, epoch)?.into_iter().enumerate();
                both.map(|(i, (x, y))| {
                    let label = format!("{epoch}, {i}");
                    Ok((flipped(seed, &label, &x)?, flipped(seed, &label, &y)?))
                })
                .collect()
            })
        },
        missed_today: None,
    },
    Entry {
        id: "Kd10b",
        group: GROUP,
        bug: "images and masks are turned by quarter turns that are drawn twice",
        cause: Cause::PairsBroken,
        assertion: Test("pipeline"),
        buggy: |seed| {
            masks(seed, |seed, x, y, epoch| {
                turned(seed, shuffled(seed, x, y, epoch), epoch, ["image", "mask"])
            })
        },
        clean: |seed| {
            masks(seed, |seed, x, y, epoch| {
                turned(seed, shuffled(seed, x, y, epoch), epoch, ["both", "both"])
            })
        },
        missed_today: None,
    },
    Entry {
        id: "Kd11",
        group: GROUP,
        bug: "`read_dir` lists the images in another order than the labels",
        cause: Cause::PairsBroken,
        assertion: Test("pipeline"),
        buggy: |seed| of_images(seed, |seed, x, y, epoch| from_files(seed, x, y, epoch, false)),
        clean: |seed| of_images(seed, |seed, x, y, epoch| from_files(seed, x, y, epoch, true)),
        missed_today: None,
    },
];

fn of_table(seed: Seed, dtype: DType, load: Load) -> Result<Subject> {
    Ok(table(seed, dtype, load)?.test(move |_, _| {
        let (x, y) = synthetic::markers(SAMPLES, 6)?;
        let x = x.to_dtype(dtype)?;
        Pipeline::new().check(|epoch| Ok(load(seed, &x, &y, epoch)?), SAMPLES)
    }))
}

fn of_images(seed: Seed, load: Load) -> Result<Subject> {
    Ok(images(seed, load)?.test(move |_, _| {
        let (x, y) = synthetic::markers(SAMPLES, (1, 8, 8))?;
        Pipeline::new().check(|epoch| Ok(load(seed, &x, &y, epoch)?), SAMPLES)
    }))
}

/// Both listings by name, or as the file system has them.
fn from_files(seed: Seed, x: &Tensor, y: &Tensor, epoch: usize, sorted: bool) -> Batches {
    let n = x.dim(0)?;
    let listed = |folder: &str| -> Vec<String> {
        // What a file system answers: the files of the folder in an order of its own.
        let order = permutation(seed, folder, n);
        let mut names: Vec<String> = order.iter().map(|i| format!("{i:05}.png")).collect();
        if sorted {
            names.sort();
        }
        names
    };
    let read = |t: &Tensor, folder: &str| {
        let rows: Vec<u32> =
            listed(folder).iter().filter_map(|name| name[..5].parse().ok()).collect();
        pick(t, &rows)
    };
    shuffled(seed, &read(x, "images")?, &read(y, "labels")?, epoch)
}

/// Names of classes become numbers; here every sample has a name of its own.
fn numbered(seed: Seed, buggy: bool) -> Result<Subject> {
    let subject = table(seed, DType::F32, shuffled)?;
    Ok(subject.test(move |_, _| {
        let (x, y) = synthetic::markers(SAMPLES, 6)?;
        let names: Vec<String> =
            y.to_vec1::<u32>()?.iter().map(|class| format!("class {class:02}")).collect();
        let number = || -> candle_core::Result<Tensor> {
            let counts: HashMap<&str, usize> =
                names.iter().map(|name| (name.as_str(), 1)).collect();
            let mut classes: Vec<&str> = counts.into_keys().collect();
            if !buggy {
                classes.sort_unstable();
            }
            let place = |name: &String| classes.iter().position(|class| class == name);
            let ids: Vec<u32> = names.iter().filter_map(place).map(|id| id as u32).collect();
            Tensor::new(ids, CPU)
        };
        // Training keeps its numbering; the evaluation is another run of the program.
        let train = |epoch| Ok(shuffled(seed, &x, &y, epoch)?);
        Pipeline::new().evaluation(|_| Ok(cut(&x, &number()?)?)).check(train, SAMPLES)
    }))
}

/// Each image and each mask by a number of quarter turns that is drawn under its side's label.
fn turned(seed: Seed, batches: Batches, epoch: usize, sides: [&str; 2]) -> Batches {
    let turn = |t: &Tensor, side: &str, batch: usize| {
        let label = format!("{side} {epoch}, {batch}");
        let turns: Vec<u32> = seed.tokens(&label, 4, t.dim(0)?, CPU)?.to_vec1()?;
        let rows = turns.iter().enumerate().map(|(i, turns)| {
            (0..*turns).try_fold(t.narrow(0, i, 1)?, |row, _| {
                row.transpose(2, 3)?.contiguous()?.flip(&[3])
            })
        });
        Tensor::cat(&rows.collect::<candle_core::Result<Vec<_>>>()?, 0)
    };
    let batches = batches?.into_iter().enumerate();
    batches.map(|(i, (x, y))| Ok((turn(&x, sides[0], i)?, turn(&y, sides[1], i)?))).collect()
}

/// A small network from images to pictures: here, the images at half their contrast.
fn masks(seed: Seed, load: Load) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
    let (inner, outer) =
        (conv2d(1, 3, 3, config, vb.pp("first"))?, conv2d(3, 1, 3, config, vb.pp("second"))?);
    let x = seed.normal("x", (ROWS, 1, 5, 5), DType::F32, CPU)?;
    let y = (&x * 0.5)?;
    let (x, y) = loader::first(load(seed, &x, &y, 0))?;
    let forward = move |x: &Tensor| outer.forward(&inner.forward(x)?.gelu()?);
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(learner, (x, y)).test(move |_, _| {
        let (x, y) = synthetic::marker_pictures(SAMPLES, (1, 5, 5))?;
        Pipeline::new().aligned(true).check(|epoch| Ok(load(seed, &x, &y, epoch)?), SAMPLES)
    }))
}
