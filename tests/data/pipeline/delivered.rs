//! Which samples come, with which targets, in which order.

use candling::{check::Pipeline, prelude::*, synthetic};

use super::super::{failure, text};
use super::{Batches, CPU, N, cut, images, loader, order, pick, said, same};

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
fn a_last_batch_that_is_filled_up_is_told() -> candling::Result<()> {
    let (x, y) = images()?;
    let filled = |epoch| -> Batches {
        let mut order = order(N, epoch);
        order.extend_from_within(..4);
        Ok(cut(&pick(&x, &order)?, &pick(&y, &order)?, 6)?)
    };
    insta::assert_snapshot!(text(Pipeline::new().check(filled, N)), @"
    assertion `pipeline` failed
    an epoch delivers 4 of 20 samples more than once

      samples  20
      epoch 0  4 batches of 6, 6, 6, 6 rows

      confirmed  samples-missing   epoch 0: the last batch of 6 is filled up with 4 samples that came before
      help       let the last batch be short, or declare that samples repeat: `repeats = true`; see
                 docs/causes.md#samples-missing
    ");
    assert_pipeline!(filled, N, repeats = true);
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
fn a_few_broken_pairs_among_many_samples_are_told_in_time() -> candling::Result<()> {
    const N: usize = 4000;
    let (x, y) = synthetic::markers(N, 4)?;
    // Every fifth sample has the target of the one before.
    let shifted: Vec<u32> = (0..N as u32).map(|i| if i % 5 == 4 { i - 1 } else { i }).collect();
    let y = pick(&y, &shifted)?;
    let batches = |epoch| {
        let order = order(N, epoch);
        Ok(cut(&pick(&x, &order)?, &pick(&y, &order)?, 500)?)
    };
    let failure = Pipeline::new().check(batches, N).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::PairsBroken), "{failure}");
    assert!(failure.headline().starts_with("2400 of 12000 inputs"), "{failure}");
    Ok(())
}
