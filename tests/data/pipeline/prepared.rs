//! What is done to a sample on its way.

use candle_core::Result;
use candling::{check::Pipeline, prelude::*, synthetic};

use super::super::{failure, text};
use super::{Batches, CPU, N, cut, flips, images, loader, order, pick, said, same};

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
    assert!(told.contains("an evaluation counts every sample once"), "{told}");
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
