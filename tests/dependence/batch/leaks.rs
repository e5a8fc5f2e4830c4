//! Rows that are mixed are found, named, and told how.

use candle_core::{D, DType, Module, ModuleT, Result, Tensor};
use candle_nn::{batch_norm, layer_norm, linear, ops};
use candling::{
    Cause, Failure, FailureKind, Seed,
    check::{BatchIndependent, GradientProof},
};

use super::models::{builder, device, normal, text};

fn mixed(f: impl FnMut(&Tensor) -> Result<Tensor>, x: &Tensor) -> Failure {
    mixed_by(Cause::BatchMixed, f, x)
}

fn mixed_by(cause: Cause, f: impl FnMut(&Tensor) -> Result<Tensor>, x: &Tensor) -> Failure {
    let failure = BatchIndependent::new().check(f, x).expect_err("rows are mixed");
    assert_eq!(failure.kind(), FailureKind::Violated, "{failure}");
    assert_eq!(failure.cause(), Some(cause), "{failure}");
    assert!(failure.findings().iter().any(|f| f.cause() == Cause::BatchMixed), "{failure}");
    failure
}

/// Adds `share` of row `from` to row `to`.
fn pair(to: usize, from: usize, share: f64) -> impl Fn(&Tensor) -> Result<Tensor> {
    move |x| {
        let rows: Vec<f64> =
            (0..x.dim(0)?).map(|row| if row == to { share } else { 0.0 }).collect();
        let there = Tensor::from_vec(rows, (x.dim(0)?, 1), x.device())?.to_dtype(x.dtype())?;
        x + there.broadcast_mul(&x.narrow(0, from, 1)?)?
    }
}

#[test]
fn one_pair_of_256_rows_is_named_in_either_order() {
    let (_vars, vb) = builder(1, DType::F32);
    let layer = linear(6, 8, vb).unwrap();
    let x = normal(1, &[256, 6], DType::F32);
    for (to, from) in [(3, 200), (200, 3), (255, 0), (0, 255), (100, 101), (101, 100)] {
        for share in [1.0, 1e-6] {
            let leak = pair(to, from, share);
            let failure = mixed(|x| layer.forward(&leak(x)?)?.tanh(), &x);
            let expected = format!("row {to} of the output depends on row {from} of the input");
            assert_eq!(failure.headline(), expected);
        }
    }
    let leak = pair(3, 200, 1e-6);
    let only = |x: &Tensor| if x.dim(0)? == 256 { leak(x) } else { Ok(x.clone()) };
    insta::assert_snapshot!(text(&mixed(only, &x)), @"
    assertion `batch_independent` failed
    row 3 of the output depends on row 200 of the input

      reach  row 200 of the input changes the output of 1 of the 255 other rows

      confirmed  batch-mixed   row 3 of the output: it changes by 3.16e-6 when row 200 of the input alone is
                               replaced (its size is 1.08)
      help       look for a reshape where a transpose was meant, or a reduction over dim 0; see
                 docs/causes.md#batch-mixed
    ");
}

#[test]
fn a_mean_over_the_batch() {
    let x = normal(1, &[5, 3], DType::F32);
    let mean = |x: &Tensor| x.tanh()?.broadcast_add(&x.mean_keepdim(0)?);
    insta::assert_snapshot!(text(&mixed(mean, &x)), @"
    assertion `batch_independent` failed
    all 5 rows of the output depend on other rows of the input

      pattern  replacing row 0 adds the same to the output of every other row: a sum or mean over dimension 0
      matrix   in   0  1  2  3  4
                0   o  x  x  x  x
                1   x  o  x  x  x
                2   x  x  o  x  x
                3   x  x  x  o  x
                4   x  x  x  x  o
               x: the row of the output (down) depends on the row of the input (across)
      alone    in a batch of one, the output of row 0 is 1.05 away from what it is in the batch of 5, where its
               size is 1.12; rounding explains 0.000197

      confirmed  batch-mixed   row 0 of the output: it changes by 0.324 when row 1 of the input alone is replaced
                               (its size is 1.12)
      help       look for `sum(0)`, `mean(0)`, `sum_all` or `mean_all` on the way to the output; see
                 docs/causes.md#batch-mixed
    ");
    let faint = |x: &Tensor| x.tanh()?.broadcast_add(&(x.mean_keepdim(0)? * 1e-6)?);
    insta::assert_snapshot!(text(&mixed(faint, &normal(1, &[64, 3], DType::F32))), @"
    assertion `batch_independent` failed
    all 64 rows of the output depend on other rows of the input

      pattern  every row depends on all others, whatever their order: a statistic, softmax or attention over
               dimension 0
      reach    row 0 of the input changes the output of 63 of the 63 other rows

      confirmed  batch-mixed   row 0 of the output: it changes by 5.96e-8 when row 1 of the input alone is
                               replaced (its size is 0.863)
      help       look for a reduction, a softmax or an attention over dimension 0, and for batch norm in training
                 mode; see docs/causes.md#batch-mixed
    ");
}

#[test]
fn batch_norm_in_training() {
    let (_vars, vb) = builder(1, DType::F32);
    let (l1, l2) = (linear(6, 8, vb.pp("l1")).unwrap(), linear(8, 3, vb.pp("l2")).unwrap());
    let norm = batch_norm(8, 1e-5, vb.pp("norm")).unwrap();
    let x = normal(1, &[16, 6], DType::F32);
    let f = |x: &Tensor| l2.forward(&norm.forward_t(&l1.forward(x)?, true)?.relu()?);
    insta::assert_snapshot!(text(&mixed_by(Cause::NormStatsOfBatch, f, &x)), @"
    assertion `batch_independent` failed
    all 16 rows of the output depend on other rows of the input

      reach  row 0 of the input changes the output of 15 of the 15 other rows
      alone  in a batch of one, the output of row 0 is 2.02 away from what it is in the batch of 16, where its
             size is 2.24; rounding explains 0.000322

      confirmed  norm-stats-of-batch   with one row in all places the output is the same whatever the row holds:
                                       what all rows share is taken off, as by batch norm in training mode
      confirmed  batch-mixed           row 0 of the output: it changes by 0.374 when row 1 of the input alone is
                                       replaced (its size is 2.24)
      help       test in evaluation mode (`forward_t(x, false)`); in training, batch norm mixes rows by design:
                 `.allow(Cause::BatchMixed)`; see docs/causes.md#norm-stats-of-batch
    ");
    for declared in [Cause::BatchMixed, Cause::NormStatsOfBatch] {
        let report = BatchIndependent::new().allow(declared).check(f, &x).unwrap();
        assert_eq!(report.allowed[0].cause(), Cause::NormStatsOfBatch);
        assert_eq!(report.gradient, GradientProof::NotTried);
    }
    let image = normal(1, &[4, 8, 3, 3], DType::F32);
    let failure = mixed_by(Cause::NormStatsOfBatch, |x| norm.forward_t(x, true), &image);
    assert!(failure.text().contains("of all rows times 16 the output is the same"), "{failure}");
}

#[test]
fn a_softmax_over_the_batch() {
    let x = normal(1, &[4, 3], DType::F32);
    insta::assert_snapshot!(text(&mixed(|x| ops::softmax(x, 0), &x)), @"
    assertion `batch_independent` failed
    all 4 rows of the output depend on other rows of the input

      pattern  over the batch the output itself sums to 1 in every column: a softmax over dimension 0
      matrix   in   0  1  2  3
                0   o  x  x  x
                1   x  o  x  x
                2   x  x  o  x
                3   x  x  x  o
               x: the row of the output (down) depends on the row of the input (across)
      alone    in a batch of one, the output of row 0 is 0.703 away from what it is in the batch of 4, where its
               size is 0.693; rounding explains 9.22e-5

      confirmed  batch-mixed   row 0 of the output: it changes by 0.0914 when row 1 of the input alone is replaced
                               (its size is 0.693)
      help       normalise over the last dimension: `softmax(&x, D::Minus1)`; see docs/causes.md#batch-mixed
    ");
    let failure = mixed(|x| ops::log_softmax(x, 0), &x);
    assert!(failure.text().contains("a softmax over dimension 0"), "{failure}");
    let inside = |x: &Tensor| ops::softmax(x, 0)? * x;
    assert!(mixed(inside, &x).text().contains("whatever their order"));
}

#[test]
fn a_reshape_where_a_transpose_was_meant() {
    // A recurrence over the first dimension, which it takes for time.
    let recurrence = |steps: &Tensor| -> Result<Tensor> {
        let mut h = steps.get(0)?.zeros_like()?;
        let mut out = Vec::new();
        for t in 0..steps.dim(0)? {
            h = ((h * 0.5)? + steps.get(t)?)?.tanh()?;
            out.push(h.clone());
        }
        Tensor::stack(&out, 0)
    };
    let before = move |x: &Tensor| {
        let (b, t, d) = x.dims3()?;
        recurrence(&x.reshape((t, b, d))?)?.transpose(0, 1)
    };
    let after = move |x: &Tensor| {
        let (b, t, d) = x.dims3()?;
        x.transpose(0, 1)?.contiguous()?.tanh()?.reshape((b, t, d))
    };
    let last = move |x: &Tensor| before(x)?.narrow(1, x.dim(1)? - 1, 1)?.squeeze(1);
    let x = normal(1, &[6, 4, 3], DType::F32);
    insta::assert_snapshot!(text(&mixed(before, &x)), @"
    assertion `batch_independent` failed
    all 6 rows of the output depend on other rows of the input

      pattern  row i depends on the rows that a reshape between [6, 4, ..] and [4, 6, ..] puts in its place: a
               reshape where a transpose was meant
      matrix   in   0  1  2  3  4  5
                0   o  x  .  x  x  .
                1   x  o  .  x  x  .
                2   x  .  o  x  .  x
                3   x  .  x  o  .  x
                4   .  x  x  .  o  x
                5   .  x  x  .  x  o
               x: the row of the output (down) depends on the row of the input (across)
      alone    in a batch of one, the output of row 0 is 1.36 away from what it is in the batch of 6, where its
               size is 0.958; rounding explains 0.000128

      confirmed  batch-mixed   row 0 of the output: it changes by 1.2 when row 1 of the input alone is replaced
                               (its size is 0.958)
      help       write `x.transpose(0, 1)?.contiguous()?` where the two dimensions change places; see
                 docs/causes.md#batch-mixed
    ");
    let seen = "that a reshape between";
    for (rows, len) in [(6, 4), (3, 5), (4, 4), (20, 7)] {
        let x = normal(1, &[rows, len, 3], DType::F32);
        assert!(mixed(before, &x).text().contains(seen), "{rows} {len}: {}", mixed(before, &x));
        assert!(mixed(after, &x).text().contains(seen), "{rows} {len}: {}", mixed(after, &x));
    }
    // From the last step alone it can be told where not all rows are mixed with all.
    let x = normal(1, &[20, 4, 3], DType::F32);
    assert!(mixed(last, &x).text().contains(seen), "{}", mixed(last, &x));
}

#[test]
fn rows_that_are_shifted_flipped_or_all_alike() {
    let x = normal(1, &[6, 3], DType::F32);
    let shifted = mixed(|x| x + (x.roll(1, 0)? * 0.5)?, &x);
    insta::assert_snapshot!(text(&shifted), @"
    assertion `batch_independent` failed
    all 6 rows of the output depend on other rows of the input

      pattern  every row depends on the row before it: rows are shifted
      matrix   in   0  1  2  3  4  5
                0   o  .  .  .  .  x
                1   x  o  .  .  .  .
                2   .  x  o  .  .  .
                3   .  .  x  o  .  .
                4   .  .  .  x  o  .
                5   .  .  .  .  x  o
               x: the row of the output (down) depends on the row of the input (across)
      alone    in a batch of one, the output of row 0 is 0.81 away from what it is in the batch of 6, where its
               size is 1.15; rounding explains 0.000222

      confirmed  batch-mixed   row 0 of the output: it changes by 0.724 when row 5 of the input alone is replaced
                               (its size is 1.15)
      help       look for `roll`, `flip`, `cat` or an `index_select` over dimension 0; see
                 docs/causes.md#batch-mixed
    ");
    let flipped = mixed(|x| x.flip(&[0]), &x);
    assert!(flipped.text().contains("rows are flipped"), "{flipped}");
    let first = mixed(|x| x.broadcast_add(&x.narrow(0, 0, 1)?), &normal(1, &[40, 3], DType::F32));
    assert!(first.text().contains("all rows depend on row 0"), "{first}");
}

#[test]
fn rows_taken_for_steps_of_time() {
    let scan = mixed(|x| x.cumsum(0), &normal(1, &[6, 3], DType::F32));
    assert!(scan.text().contains("every row depends on all rows before it"), "{scan}");
    let large = mixed(|x| x.cumsum(0)?.tanh(), &normal(1, &[64, 3], DType::F32));
    assert!(large.text().contains("every row depends on all rows before it"), "{large}");
}

#[test]
fn behind_an_operation_that_ends_the_graph() {
    let (_vars, vb) = builder(1, DType::F32);
    let norm = layer_norm(6, 1e-5, vb.pp("norm")).unwrap();
    let x = normal(1, &[32, 6], DType::F32);
    let leak = pair(5, 9, 1e-4);
    let failure = mixed(|x| x + norm.forward(&leak(x)?)?, &x);
    assert_eq!(failure.headline(), "row 5 of the output depends on row 9 of the input");
}

#[test]
fn by_an_operation_of_candle_that_reads_another_row() {
    let (_vars, vb) = builder(1, DType::F32);
    let layer = candle_nn::linear_no_bias(4, 2, vb).unwrap();
    let x = normal(1, &[3, 4, 5], DType::F32);
    let strided = |x: &Tensor| layer.forward(&x.transpose(1, 2)?);
    let failure = mixed_by(Cause::LayoutDependent, strided, &x);
    insta::assert_snapshot!(text(&failure), @"
    assertion `batch_independent` failed
    2 of 3 rows of the output depend on other rows of the input

      rows    1, 2
      matrix  in   0  1  2
               0   o  .  .
               1   x  o  .
               2   x  x  .
              x: the row of the output (down) depends on the row of the input (across)
      alone   in a batch of one, the output of row 2 is 2.43 away from what it is in the batch of 3, where its
              size is 1.02; rounding explains 0.000209

      confirmed  layout-dependent   matmul of a strided tensor, tried by itself: its product is wrong where the
                                    left side is no contiguous tensor and the right side is one matrix for the
                                    whole batch
      confirmed  batch-mixed        row 1 of the output: it changes by 2.09 when row 0 of the input alone is
                                    replaced (its size is 1.59)
      confirmed  batch-mixed        row 2 of the output: it changes by 1.74 when row 0 of the input alone is
                                    replaced (its size is 1.02)
      help       call `.contiguous()?` on the left side, the input of the `Linear`; see
                 docs/causes.md#layout-dependent
    ");
    let report = BatchIndependent::new()
        .check(|x: &Tensor| layer.forward(&x.transpose(1, 2)?.contiguous()?), &x)
        .unwrap();
    assert!(matches!(report.gradient, GradientProof::Proved { .. }));
}

#[test]
fn where_only_the_class_tells() {
    let x = normal(1, &[16, 4], DType::F32);
    let classes = |x: &Tensor| (x - x.mean_keepdim(0)?.broadcast_as(x.shape())?)?.argmax(D::Minus1);
    mixed(|x| classes(&(x * 3.0)?), &x);
}

#[test]
fn in_token_ids_and_in_one_of_several_inputs() {
    let (_vars, vb) = builder(1, DType::F32);
    let table = candle_nn::embedding(20, 6, vb).unwrap();
    let ids = Seed::new(1).tokens("ids", 20, (8, 5), &device()).unwrap();
    let failure = mixed(|ids| pair(2, 6, 1.0)(&table.forward(ids)?.sum(1)?), &ids);
    assert!(failure.text().contains("row 2 of the output depends on row 6"), "{failure}");

    let x = normal(1, &[8, 5], DType::F32);
    let weights = normal(2, &[8], DType::F32);
    let failure = BatchIndependent::new()
        .check(
            |[x, w]: &[Tensor; 2]| x.mean(1)? * pair(7, 0, 1.0)(&w.unsqueeze(1)?)?.squeeze(1)?,
            &[x, weights],
        )
        .unwrap_err();
    assert!(failure.text().contains("row 7 of the output depends on row 0"), "{failure}");
}

#[test]
fn in_every_format() {
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let x = normal(1, &[8, 5], dtype);
        let failure = mixed(pair(2, 6, 0.5), &x);
        assert!(failure.text().contains("row 2 of the output depends on row 6"), "{failure}");
        mixed(|x| x.broadcast_add(&x.mean_keepdim(0)?), &x);
    }
}

#[test]
fn what_only_the_backward_pass_mixes() {
    let x = normal(1, &[32, 6], DType::F32);
    let leak = pair(5, 9, 1e-3);
    // Adds exactly zero, which has a gradient.
    let straight_through = |x: &Tensor| {
        let extra = if x.dim(0)? == 32 { leak(x)? } else { x.clone() };
        x.tanh()? + (&extra - extra.detach())?
    };
    insta::assert_snapshot!(text(&mixed(straight_through, &x)), @"
    assertion `batch_independent` failed
    the gradient of row 5 of the output reaches row 9 of the input

      by replacement  all 32 rows are independent of each other

      confirmed  batch-mixed   row 5 of the output: its gradient reaches row 9 of the input, with 0.000923 where
                               that row's own output sends 1.45; replacing that row changed no bit of it, so the
                               dependence is below rounding, or in the backward pass alone
      help       look for a reshape where a transpose was meant, or a reduction over dim 0; see
                 docs/causes.md#batch-mixed
    ");
}

#[test]
fn a_batch_size_that_is_built_in() {
    let x = normal(1, &[8, 5, 2], DType::F32);
    let fixed = |x: &Tensor| x.reshape((8, 10))?.tanh();
    let failure = BatchIndependent::new().check(fixed, &x).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::BatchSizeFixed));
    insta::assert_snapshot!(text(&failure), @"
    assertion `batch_independent` failed
    the function works on the batch of 8 rows, and not on a batch of one

      by replacement  all 8 rows are independent of each other

      confirmed  batch-size-fixed   a batch of one: the function returns an error: Shape mismatch, got buffer of
                                    size 10 which is compatible with shape [8, 10]
      confirmed  batch-size-fixed   a batch of 3: the function returns an error: Shape mismatch, got buffer of
                                    size 30 which is compatible with shape [8, 10]
      help       take the batch size from the input: `x.dim(0)?`; see docs/causes.md#batch-size-fixed
    ");
    let report = BatchIndependent::new().allow(Cause::BatchSizeFixed).check(fixed, &x).unwrap();
    assert_eq!((report.sizes.len(), report.allowed.len()), (0, 2));

    let squeezed = |x: &Tensor| x.mean(1)?.squeeze(0);
    let failure = BatchIndependent::new().check(squeezed, &x).unwrap_err();
    insta::assert_snapshot!(text(&failure), @"
    assertion `batch_independent` failed
    the function works on the batch of 8 rows, and not on a batch of one

      by replacement  all 8 rows are independent of each other

      confirmed  batch-size-fixed   a batch of one: the output has dims [2] where [1, 2] fit
      help       take the batch size from the input, and name the dimension of a `squeeze`; see
                 docs/causes.md#batch-size-fixed
    ");

    let divided = |x: &Tensor| x.mean(1)? / x.dim(0)? as f64;
    let failure = BatchIndependent::new().check(divided, &x).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::BatchSizeFixed));
    insta::assert_snapshot!(text(&failure), @"
    assertion `batch_independent` failed
    the output of a row is another in a batch of one than in the batch of 8

      by replacement  all 8 rows are independent of each other

      confirmed  batch-size-fixed   a batch of one: the output of row 0 is 0.0859 away from what it is in the
                                    batch of 8, where its size is 0.0123; rounding explains 1.27e-5
      confirmed  batch-size-fixed   a batch of 3: the output of row 1 is 0.158 away from what it is in the batch
                                    of 8, where its size is 0.0946; rounding explains 1.27e-5
      help       look for a division by the number of rows, and for a `squeeze` or a branch that depends on it;
                 see docs/causes.md#batch-size-fixed
    ");

    // Mixed and fixed: both are said.
    let both = |x: &Tensor| pair(2, 3, 1.0)(&x.reshape((8, 10))?);
    let failure = mixed(both, &x);
    assert_eq!(failure.findings()[1].cause(), Cause::BatchSizeFixed);
}

/// One experiment that the function refuses does not end the others.
#[test]
fn a_function_that_refuses_large_values_keeps_its_pattern() -> candling::Result<()> {
    let x = Seed::new(1).normal("x", (6, 4), DType::F32, &candle_core::Device::Cpu)?;
    let picky = |x: &Tensor| {
        if x.abs()?.max_all()?.to_scalar::<f32>()? > 10.0 {
            candle_core::bail!("out of range");
        }
        x.broadcast_sub(&x.mean_keepdim(0)?)
    };
    let failure = BatchIndependent::new().check(picky, &x).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::BatchMixed));
    assert!(failure.text().contains("with one row in all places"), "{failure}");
    Ok(())
}
