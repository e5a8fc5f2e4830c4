use candle_core::{D, Result};
use candling::{FailureKind, check::Pipeline, prelude::*, synthetic};
use rand::seq::SliceRandom;

use super::{failure, text};

const CPU: &Device = &Device::Cpu;
const N: usize = 20;

type Batches = candling::Result<Vec<(Tensor, Tensor)>>;

/// What a check that must fail says, in one line.
fn said<R: std::fmt::Debug>(result: candling::Result<R>) -> String {
    text(result).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A permutation of an epoch's own.
fn order(n: usize, epoch: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    order.shuffle(&mut Seed::new(5).rng(&format!("epoch {epoch}")));
    order
}

fn pick(t: &Tensor, order: &[u32]) -> Result<Tensor> {
    t.index_select(&Tensor::new(order, CPU)?, 0)
}

fn cut(x: &Tensor, y: &Tensor, size: usize) -> Result<Vec<(Tensor, Tensor)>> {
    let n = x.dim(0)?;
    let batch = |start: usize| {
        let rows = size.min(n - start);
        Ok((x.narrow(0, start, rows)?, y.narrow(0, start, rows)?))
    };
    (0..n).step_by(size).map(batch).collect()
}

/// What most loaders do: shuffle, cut, and something to each batch's inputs.
fn loader(
    x: &Tensor,
    y: &Tensor,
    epoch: usize,
    each: impl Fn(&Tensor, usize) -> Result<Tensor>,
) -> Batches {
    let order = order(x.dim(0)?, epoch);
    let batches = cut(&pick(x, &order)?, &pick(y, &order)?, 6)?;
    let each = batches.into_iter().enumerate().map(|(i, (x, y))| Ok((each(&x, i)?, y)));
    Ok(each.collect::<Result<Vec<_>>>()?)
}

fn same(x: &Tensor, _: usize) -> Result<Tensor> {
    Ok(x.clone())
}

fn images() -> candling::Result<(Tensor, Tensor)> {
    synthetic::markers(N, (3, 6, 6))
}

fn flip(x: &Tensor) -> Result<Tensor> {
    let w = x.dim(D::Minus1)? as u32;
    x.index_select(&Tensor::from_vec((0..w).rev().collect(), w as usize, CPU)?, x.rank() - 1)
}

/// Each row flipped or not, by a coin of the seed's.
fn flips(x: &Tensor, label: &str) -> Result<Tensor> {
    let coins: Vec<u32> = Seed::new(9).tokens(label, 2, x.dim(0)?, CPU)?.to_vec1()?;
    let rows = coins.iter().enumerate().map(|(i, coin)| {
        let row = x.narrow(0, i, 1)?;
        if *coin == 1 { flip(&row) } else { Ok(row) }
    });
    Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)
}

#[test]
fn whatever_a_right_pipeline_does_to_its_inputs_passes() -> candling::Result<()> {
    let (x, y) = images()?;
    let report = assert_pipeline!(|epoch| loader(&x, &y, epoch, same), N);
    assert_eq!((report.epochs, report.left_out, report.order_judged), (3, 0, true));
    assert_eq!(report.batches, [6, 6, 6, 2]);
    type Each = fn(&Tensor, usize) -> Result<Tensor>;
    let all: [(&str, Each); 9] = [
        ("range", |x, _| (x * 2.0)? - 1.0),
        ("negative", |x, _| 1.0 - x),
        ("channels", |x, _| {
            let mean = Tensor::new(&[0.4f32, 0.5, 0.6], CPU)?.reshape((1, 3, 1, 1))?;
            x.broadcast_sub(&mean)?.broadcast_div(&(mean * 0.5)?)
        }),
        ("bytes", |x, _| (x * 255.0)?.to_dtype(DType::U8)?.to_dtype(DType::F32)? / 255.0),
        ("half", |x, _| x.to_dtype(DType::F16)),
        ("double, channels last", |x, _| x.to_dtype(DType::F64)?.permute((0, 2, 3, 1))),
        ("crop", |x, i| x.narrow(2, i % 3, 4)?.narrow(3, 1, 4)),
        ("flat", |x, _| x.flatten_from(1)),
        ("padded", |x, _| x.pad_with_zeros(2, 1, 0)),
    ];
    for (name, each) in all {
        assert_pipeline!(|epoch| loader(&x, &y, epoch, each), N, "{name}");
    }
    // Augmented anew for every batch of every epoch.
    assert_pipeline!(
        |epoch| loader(&x, &y, epoch, |x, i| flips(x, &format!("{epoch}, {i}"))),
        N,
        "flips"
    );
    assert_pipeline!(
        |epoch| loader(&x, &y, epoch, |x, i| {
            x + (Seed::new(3).normal(&format!("{epoch}, {i}"), x.shape(), DType::F32, CPU)? * 0.05)?
        }),
        N,
        "noise"
    );
    Ok(())
}

#[test]
fn tables_tokens_numbers_and_one_hot_targets_pass() -> candling::Result<()> {
    let (x, y) = synthetic::markers(N, 5)?;
    // Each feature standardised with its own figures.
    let mean = x.mean_keepdim(0)?;
    let std = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?.sqrt()?;
    let scale = Tensor::new(&[1f32, 3.0, 0.2, 7.0, 1.0], CPU)?;
    let table = x.broadcast_sub(&mean)?.broadcast_div(&std)?.broadcast_mul(&scale)?;
    assert_pipeline!(|epoch| loader(&table, &y, epoch, same), N);
    let tokens = (&x * N as f64)?.to_dtype(DType::U32)?;
    assert_pipeline!(|epoch| loader(&tokens, &y, epoch, same), N);
    let numbers = y.reshape((N, 1))?;
    assert_pipeline!(|epoch| loader(&numbers, &y, epoch, same), N);
    let wide = numbers.broadcast_as((N, 4))?.contiguous()?;
    assert_pipeline!(|epoch| loader(&wide, &y, epoch, same), N);
    let one_hot = Tensor::eye(N, DType::F32, CPU)?;
    assert_pipeline!(|epoch| loader(&x, &one_hot, epoch, same), N);
    assert_pipeline!(|epoch| loader(&one_hot, &y, epoch, same), N);
    let floats = y.to_dtype(DType::F32)?.unsqueeze(1)?;
    assert_pipeline!(|epoch| loader(&x, &floats, epoch, same), N);
    let one_value = synthetic::markers(N, ())?.0;
    assert_pipeline!(|epoch| loader(&one_value, &y, epoch, same), N);
    Ok(())
}

#[test]
fn closures_read_what_cannot_be_read_otherwise() -> candling::Result<()> {
    // The number is in the first pixel; the rest is what it is.
    let (_, y) = images()?;
    let first = y.to_dtype(DType::F32)?.reshape((N, 1))?;
    let rest = Seed::new(1).normal("rest", (N, 7), DType::F32, CPU)?;
    let x = Tensor::cat(&[first, rest], 1)?;
    let classes = (y.to_dtype(DType::F64)? * 10.0)?;
    let unread = said(Pipeline::new().check(|epoch| loader(&x, &y, epoch, same), N));
    assert!(unread.contains("cannot be read from its input"), "{unread}");
    assert_pipeline!(
        |epoch| loader(&x, &classes, epoch, same),
        N,
        read_input = |x| Ok(x.get(0)?.to_scalar::<f32>()? as usize),
        read_target = |y| Ok((y.to_scalar::<f64>()? / 10.0) as usize),
        "context {}",
        1
    );
    Ok(())
}

#[test]
fn inputs_shuffled_without_their_targets_are_told() -> candling::Result<()> {
    let (x, y) = images()?;
    let result = Pipeline::new().check(|epoch| Ok(cut(&pick(&x, &order(N, epoch))?, &y, 8)?), N);
    insta::assert_snapshot!(text(result), @"
    assertion `pipeline` failed
    56 of 60 inputs have another sample's target

      samples  20
      epoch 0  3 batches of 8, 8, 4 rows

      confirmed  pairs-broken   epoch 0, batch 0, row 0: the input is sample 15, the target sample 0's; the
                                targets come in their own order in every epoch: only the inputs are shuffled
      help       shuffle inputs and targets with one permutation; see docs/causes.md#pairs-broken
    ");
    // Both, each by a permutation of its own.
    let both = |epoch| Ok(cut(&pick(&x, &order(N, epoch))?, &pick(&y, &order(N, epoch + 50))?, 8)?);
    assert_eq!(failure(Pipeline::new().check(both, N)).cause(), Some(Cause::PairsBroken));
    // Files in another order than their labels, shuffled together.
    let files = pick(&x, &order(N, 77))?;
    let read = Pipeline::new().check(|epoch| loader(&files, &y, epoch, same), N);
    let told = said(read);
    assert!(told.contains("the same wrong pairs in every epoch"), "{told}");
    // One target too far.
    let shifted = pick(&y, &(1..=N as u32).map(|i| i % N as u32).collect::<Vec<_>>())?;
    let shifted = failure(Pipeline::new().check(|epoch| loader(&x, &shifted, epoch, same), N));
    assert_eq!(shifted.cause(), Some(Cause::PairsBroken));
    // Two of them changed places.
    let mut two: Vec<u32> = (0..N as u32).collect();
    two.swap(3, 11);
    let two = pick(&y, &two)?;
    let told = said(Pipeline::new().check(|epoch| loader(&x, &two, epoch, same), N));
    assert!(told.contains("6 of 60 inputs have another sample's target"), "{told}");
    Ok(())
}

#[test]
fn samples_that_are_left_out_are_told() -> candling::Result<()> {
    let (x, y) = images()?;
    let dropped = |epoch| -> Batches {
        Ok(loader(&x, &y, epoch, same)?.into_iter().filter(|(x, _)| x.dims()[0] == 6).collect())
    };
    insta::assert_snapshot!(text(Pipeline::new().check(dropped, N)), @"
    assertion `pipeline` failed
    an epoch leaves out 2 of 20 samples

      samples  20
      epoch 0  3 batches of 6, 6, 6 rows

      confirmed  samples-missing   epoch 0: 20 samples in batches of 6 leave 2 over, and the last batch is dropped
      help       let the last batch be short, or declare that it is meant: `drop_last = true`; see
                 docs/causes.md#samples-missing
    ");
    let report = assert_pipeline!(dropped, N, drop_last = true);
    assert_eq!(report.left_out, 2);
    let first = |epoch| Ok(loader(&x, &y, epoch, same)?.into_iter().take(1).collect());
    insta::assert_snapshot!(text(Pipeline::new().drop_last(true).check(first, N)), @"
    assertion `pipeline` failed
    an epoch leaves out 14 of 20 samples

      samples  20
      epoch 0  1 batch of 6 rows

      confirmed  samples-missing   epoch 0: without samples 0, 1, 2, 3 and 10 more; 1 batch of 6 rows
      help       look for an early break, a `take`, or a dropped last batch; see docs/causes.md#samples-missing
    ");
    let stored = |_| Ok(cut(&x.narrow(0, 0, 16)?, &y.narrow(0, 0, 16)?, 4)?);
    let told = said(Pipeline::new().shuffled(false).check(stored, N));
    assert!(told.contains("samples 16, 17, 18, 19; "), "{told}");
    assert!(told.contains("the same in every epoch"), "{told}");
    Ok(())
}

#[test]
fn samples_that_come_twice_are_told() -> candling::Result<()> {
    let (x, y) = images()?;
    // The index does not move on.
    let stuck = |epoch| -> Batches {
        let batches = loader(&x, &y, epoch, same)?;
        Ok([0, 1, 1, 3].map(|i| batches[i].clone()).to_vec())
    };
    insta::assert_snapshot!(text(Pipeline::new().check(stuck, N)), @"
    assertion `pipeline` failed
    an epoch leaves out 6 of 20 samples and delivers 6 more than once

      samples  20
      epoch 0  4 batches of 6, 6, 6, 2 rows

      confirmed  samples-missing   epoch 0: batch 2 holds the samples of batch 1 once more
      help       look at the index that cuts the batches: it does not move on; see docs/causes.md#samples-missing
    ");
    let drawn = |epoch: usize| -> Batches {
        let seed = Seed::new(epoch as u64);
        let ids: Vec<u32> = seed.tokens("ids", N, N, CPU)?.to_vec1()?;
        Ok(cut(&pick(&x, &ids)?, &pick(&y, &ids)?, 5)?)
    };
    let told = said(Pipeline::new().check(drawn, N));
    assert!(told.contains("more than once") && told.contains("repeats = true"), "{told}");
    assert_pipeline!(drawn, N, repeats = true);
    Ok(())
}

#[test]
fn an_order_that_does_not_change_is_told() -> candling::Result<()> {
    let (x, y) = images()?;
    let stored = |_| Ok(cut(&x, &y, 6)?);
    insta::assert_snapshot!(text(Pipeline::new().check(stored, N)), @"
    assertion `pipeline` failed
    the samples come in the order they are stored in, in every epoch

      samples  20
      epoch 0  4 batches of 6, 6, 6, 2 rows

      confirmed  order-not-shuffled   0, 1, 2, .. in every epoch: nothing shuffles
      help       draw a new permutation for every epoch; see docs/causes.md#order-not-shuffled
    ");
    assert_pipeline!(stored, N, shuffled = false);
    assert_pipeline!(stored, N, allow = Cause::OrderNotShuffled);
    let once = said(Pipeline::new().check(|_| loader(&x, &y, 0, same), N));
    assert!(once.contains("one and the same order"), "{once}");
    let turned = |epoch: usize| -> Batches {
        let mut batches = loader(&x, &y, 0, same)?;
        batches.rotate_left(epoch);
        Ok(batches)
    };
    let told = said(Pipeline::new().check(turned, N));
    assert!(told.contains("the batches hold the same samples in every epoch"), "{told}");
    // Too few for a verdict.
    let (x, y) = synthetic::markers(12, 3)?;
    let report = assert_pipeline!(|_| Ok(cut(&x, &y, 6)?), 12);
    assert!(!report.order_judged);
    Ok(())
}

#[test]
fn a_mask_that_is_not_flipped_with_its_image_is_told() -> candling::Result<()> {
    let (image, mask) = synthetic::marker_pictures(N, (1, 6, 6))?;
    let both = |epoch: usize, flip_mask: bool| -> Batches {
        let batches = loader(&image, &mask, epoch, same)?.into_iter().enumerate();
        let each = batches.map(|(i, (x, y))| {
            let label = format!("{epoch}, {i}");
            let y = if flip_mask { flips(&y, &label)? } else { y };
            Ok(((flips(&x, &label)? - 0.5)?, y))
        });
        Ok(each.collect::<Result<Vec<_>>>()?)
    };
    assert_pipeline!(|epoch| both(epoch, true), N, aligned = true);
    let result = Pipeline::new().aligned(true).check(|epoch| both(epoch, false), N);
    insta::assert_snapshot!(text(result), @"
    assertion `pipeline` failed
    29 of 60 targets were moved otherwise than their inputs

      samples  20
      epoch 0  4 batches of 6, 6, 6, 2 rows

      confirmed  pairs-broken   epoch 0, batch 0, row 0: input and target are the same picture, and correlate by
                                0.179 after the pipeline
      help       draw the flip, the crop or the rotation once, and apply it to the input and to the target; see
                 docs/causes.md#pairs-broken
    ");
    Ok(())
}

#[test]
fn a_target_among_the_features_is_told() -> candling::Result<()> {
    let (x, y) = synthetic::markers(N, 4)?;
    let column = y.to_dtype(DType::F32)?.unsqueeze(1)?;
    let table = Tensor::cat(&[&x, &((column * 3.0)? - 7.0)?], 1)?;
    insta::assert_snapshot!(text(Pipeline::new().check(|e| loader(&table, &y, e, same), N)), @"
    assertion `pipeline` failed
    feature 4 of the input is the target

      samples  20
      epoch 0  4 batches of 6, 6, 6, 2 rows

      confirmed  label-leaked   feature 4: it rises or falls with the target's number in every row, which no
                                marker's own number does
      help       leave the target's column, and all that is made from it, out of the input; see
                 docs/causes.md#label-leaked
    ");
    let one_hot = Tensor::cat(&[&x, &Tensor::eye(N, DType::F32, CPU)?], 1)?;
    let leak = failure(Pipeline::new().check(|epoch| loader(&one_hot, &y, epoch, same), N));
    assert_eq!(leak.cause(), Some(Cause::LabelLeaked));
    Ok(())
}

#[test]
fn workers_with_one_seed_are_told() -> candling::Result<()> {
    let (x, y) = images()?;
    let alike = |epoch| loader(&x, &y, epoch, |x, _| flips(x, &format!("{epoch}")));
    // Six coins are too few to tell: by chance they agree once in 64 times.
    assert_pipeline!(alike, N);
    let noisy = |epoch| {
        loader(&x, &y, epoch, |x, _| {
            x + (Seed::new(3).normal(&format!("{epoch}"), x.dims(), DType::F32, CPU)? * 0.02)?
        })
    };
    insta::assert_snapshot!(text(Pipeline::new().check(noisy, N)), @"
    assertion `pipeline` failed
    batches of different samples were augmented with the same random draws

      samples  20
      epoch 0  4 batches of 6, 6, 6, 2 rows

      confirmed  augmentation-repeated   the 6 rows of epoch 0, batch 0 and of epoch 0, batch 1 were changed
                                         alike, row by row, in 6 different ways
      help       give each worker, and each epoch, a generator of its own: `seed.split(..)`; see
                 docs/causes.md#augmentation-repeated
    ");
    Ok(())
}

#[test]
fn an_evaluation_that_prepares_otherwise_is_told() -> candling::Result<()> {
    let (x, y) = images()?;
    let train = |epoch| loader(&x, &y, epoch, |x, i| flips(x, &format!("{epoch}, {i}"))? - 0.5);
    let plain = |epoch| loader(&x, &y, epoch, |x, _| x - 0.5);
    let eval = |scale: f64| {
        let (x, y) = (&x, &y);
        move |_| Ok(cut(&((x * scale)? - 0.5)?, y, 8)?)
    };
    assert_pipeline!(train, N, evaluation = eval(1.0));
    assert_pipeline!(plain, N, evaluation = eval(1.0));
    insta::assert_snapshot!(text(Pipeline::new().evaluation(eval(0.5)).check(plain, N)), @"
    assertion `pipeline` failed
    training and evaluation make different inputs of one raw sample

      samples  20
      epoch 0  4 batches of 6, 6, 6, 2 rows

      confirmed  preprocessing-differs   sample 0: 0.428 in training, -0.0361 in evaluation
      help       use one function for both, with the figures of the training set, and augment in training only;
                 see docs/causes.md#preprocessing-differs
    ");
    insta::assert_snapshot!(text(Pipeline::new().evaluation(eval(0.5)).check(train, N)), @"
    assertion `pipeline` failed
    training and evaluation make different inputs of one raw sample

      samples  20
      epoch 0  4 batches of 6, 6, 6, 2 rows

      confirmed  preprocessing-differs   sample 1: a mean of 0.475 in training, of -0.0124 in evaluation: 0.513
                                         times the spread of all samples apart
      help       use one function for both, with the figures of the training set, and augment in training only;
                 see docs/causes.md#preprocessing-differs
    ");
    let result = Pipeline::new().evaluation(train).check(plain, N);
    insta::assert_snapshot!(text(result), @"
    assertion `pipeline` failed
    the evaluation delivers other inputs at every call: 20 of 20 differ

      samples  20
      epoch 0  4 batches of 6, 6, 6, 2 rows

      confirmed  preprocessing-differs   batch 0, row 0: -0.119 in one call, -0.269 in the next
      help       augment in training only: the evaluation is to see every sample as it is; see
                 docs/causes.md#preprocessing-differs
    ");
    let short = |_| Ok(cut(&(&x - 0.5)?.narrow(0, 0, 16)?, &y.narrow(0, 0, 16)?, 8)?);
    let told = said(Pipeline::new().evaluation(short).check(plain, N));
    assert!(told.contains("in the evaluation, an epoch leaves out 4 of 20 samples"), "{told}");
    Ok(())
}

#[test]
fn classes_numbered_anew_at_every_call_are_told() -> candling::Result<()> {
    let (x, y) = images()?;
    let eval = |epoch: usize| Ok(cut(&x, &pick(&y, &order(N, epoch))?, 8)?);
    let result = Pipeline::new().evaluation(eval).check(|epoch| loader(&x, &y, epoch, same), N);
    insta::assert_snapshot!(text(result), @"
    assertion `pipeline` failed
    the evaluation gives one input another target at every call

      samples  20
      epoch 0  4 batches of 6, 6, 6, 2 rows

      confirmed  not-reproducible   batch 0, row 0: target 15 in one call, 11 in the next, of one input
      help       number the classes in sorted order: the order of a `HashMap` is another at every start; see
                 docs/causes.md#not-reproducible
    ");
    Ok(())
}

#[test]
fn what_cannot_be_judged_is_said() -> candling::Result<()> {
    let (x, y) = images()?;
    let right = |epoch| loader(&x, &y, epoch, same);
    let fails = |_| -> Batches { Ok(vec![(x.narrow(0, 90, 1)?, y.clone())]) };
    let panics = |_| -> Batches { panic!("no such file") };
    let scalar = |_| -> Batches { Ok(vec![(Tensor::new(1f32, CPU)?, y.clone())]) };
    let labels = |epoch| loader(&x, &(&y + 1.0)?, epoch, same);
    let itself = |epoch| loader(&x, &y, epoch, |x, _| x.broadcast_sub(&x.mean_keepdim((1, 2, 3))?));
    let texts = [
        Pipeline::new().check(right, 7),
        Pipeline::new().epochs(1).check(right, N),
        Pipeline::new().check(fails, N),
        Pipeline::new().check(panics, N),
        Pipeline::new().check(scalar, N),
        Pipeline::new().check(labels, N),
        Pipeline::new().check(itself, N),
        Pipeline::new().read_input(|_| Ok(99)).check(right, N),
        Pipeline::new().read_target(|y| y.dim(3)).check(right, N),
    ]
    .into_iter()
    .enumerate()
    .map(|(i, result)| {
        let failure = result.map(|r| panic!("{i} {r:?}")).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::NotRun, "{failure}");
        crate::support::text(&failure)
    })
    .collect::<Vec<_>>();
    insta::assert_snapshot!(texts.join("\n\n"), @"
    assertion `pipeline` did not run
    `samples` is 7; allowed: 8 or more, and 16 or more for the order

    assertion `pipeline` did not run
    `epochs` is 1; allowed: 2 or more

    assertion `pipeline` did not run
    the pipeline returned an error in epoch 0

      error  narrow invalid args start > dim_len: [20, 3, 6, 6], dim: 0, start: 90, len:1

    assertion `pipeline` did not run
    the pipeline panicked

      panic  no such file

    assertion `pipeline` did not run
    the pipeline delivers an input of rank 0 (epoch 0, batch 0); allowed: the batch as the first dimension

    assertion `pipeline` did not run
    the number of a sample cannot be read from its target

      target   20 (epoch 0, batch 0, row 3)
      allowed  a whole number in 0..20, or a one-hot row

      help       feed the pipeline with `synthetic::markers`, whose targets are 0, 1, 2, ..; where it changes
                 them, say how to read them back: `read_target = |y| ..`

    assertion `pipeline` did not run
    the number of a sample cannot be read from its input

      input       0.00263, 0.0074, -0.00926, -0.0126, .. (epoch 0, batch 0, row 0)
      looked for  the numbers of `synthetic::markers`, scaled by one affine function
      of          the pipeline

      help       feed the pipeline with `synthetic::markers`, and with few of them (16 to 32) where noise is
                 added; where it scales each sample by itself, say how to read the number back: `read_input = |x|
                 ..`

    assertion `pipeline` did not run
    `read_input` read the number 99; allowed: 0..20

    assertion `pipeline` did not run
    `read_target` returned an error

      error  dim: dimension index 3 out of range for shape []
    ");
    Ok(())
}

#[test]
fn empty_uneven_and_missing_batches_are_told() -> candling::Result<()> {
    let (x, y) = images()?;
    let none = |_| -> Batches { Ok(Vec::new()) };
    let empty = |_| -> Batches {
        Ok(vec![(x.clone(), y.clone()), (x.narrow(0, 0, 0)?, y.narrow(0, 0, 0)?)])
    };
    let uneven = |_| -> Batches { Ok(vec![(x.clone(), y.narrow(0, 0, 9)?)]) };
    let nan = |_| -> Batches { Ok(vec![((&x * f64::NAN)?, y.clone())]) };
    let all: [&dyn Fn(usize) -> Batches; 4] = [&none, &empty, &uneven, &nan];
    let causes = all.map(|pipeline| failure(Pipeline::new().check(pipeline, N)).cause());
    assert_eq!(
        causes,
        [
            Some(Cause::SamplesMissing),
            Some(Cause::SamplesMissing),
            Some(Cause::PairsBroken),
            Some(Cause::NotFinite)
        ]
    );
    Ok(())
}

/// Right pipelines of many shapes, sizes and shuffles.
#[test]
fn right_pipelines_pass_on_every_seed() -> candling::Result<()> {
    let mut wrong = Vec::new();
    for seed in 0..40u64 {
        let n = [8, 12, 16, 20, 33, 64][seed as usize % 6];
        let size = [3, 4, 8, 16][seed as usize % 4];
        let (x, y) = synthetic::markers(n, (2, 4, 4))?;
        let key = |label: String| Seed::new(seed).split(&label);
        let pipeline = |epoch: usize| -> Batches {
            let mut order: Vec<u32> = (0..n as u32).collect();
            order.shuffle(&mut key(format!("{epoch}")).rng("order"));
            let batches = cut(&pick(&x, &order)?, &pick(&y, &order)?, size)?;
            let each = batches.into_iter().enumerate().map(|(i, (x, y))| {
                let seed = key(format!("{epoch}, {i}"));
                let noise = seed.normal("noise", x.shape(), DType::F32, CPU)?;
                // A third of a step on a row's mean is 10 deviations.
                let x = (flips(&x, &format!("{seed:?}"))? + (noise * (0.15 / n as f64))?)?;
                Ok(((x * 3.0)?, y))
            });
            Ok(each.collect::<Result<Vec<_>>>()?)
        };
        let evaluation = |_| Ok(cut(&(&x * 3.0)?, &y, 16)?);
        if let Err(failure) = Pipeline::new().evaluation(evaluation).check(pipeline, n) {
            wrong.push(format!("{seed}: {}", failure.text()));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n\n"));
    Ok(())
}
