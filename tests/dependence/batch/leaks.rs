//! Rows that are mixed are found, named, and told how.

use candle_core::{D, DType, Module, ModuleT, Result, Tensor};
use candle_nn::{batch_norm, layer_norm, linear, ops};
use candling::{
    Cause, Failure, FailureKind, Seed,
    check::{BatchIndependent, GradientProof},
};

use super::models::{builder, device, normal, text};

fn mixed(f: impl FnMut(&Tensor) -> Result<Tensor>, x: &Tensor) -> Failure {
    let failure = BatchIndependent::new().check(f, x).expect_err("rows are mixed");
    assert_eq!(failure.kind(), FailureKind::Violated, "{failure}");
    assert_eq!(failure.cause(), Some(Cause::BatchMixed), "{failure}");
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
            assert_eq!(failure.findings().len(), 2, "batches of one and of three lack the row");
        }
    }
    let leak = pair(3, 200, 1e-6);
    let only = |x: &Tensor| if x.dim(0)? == 256 { leak(x) } else { Ok(x.clone()) };
    insta::assert_snapshot!(text(&mixed(only, &x)), @"");
}

#[test]
fn a_mean_over_the_batch() {
    let x = normal(1, &[5, 3], DType::F32);
    let mean = |x: &Tensor| x.tanh()?.broadcast_add(&x.mean_keepdim(0)?);
    insta::assert_snapshot!(text(&mixed(mean, &x)), @"");
    let faint = |x: &Tensor| x.tanh()?.broadcast_add(&(x.mean_keepdim(0)? * 1e-6)?);
    insta::assert_snapshot!(text(&mixed(faint, &normal(1, &[64, 3], DType::F32))), @"");
}

#[test]
fn batch_norm_in_training() {
    let (_vars, vb) = builder(1, DType::F32);
    let (l1, l2) = (linear(6, 8, vb.pp("l1")).unwrap(), linear(8, 3, vb.pp("l2")).unwrap());
    let norm = batch_norm(8, 1e-5, vb.pp("norm")).unwrap();
    let x = normal(1, &[16, 6], DType::F32);
    let f = |x: &Tensor| l2.forward(&norm.forward_t(&l1.forward(x)?, true)?.relu()?);
    insta::assert_snapshot!(text(&mixed(f, &x)), @"");
    let report = BatchIndependent::new().allow(Cause::BatchMixed).check(f, &x).unwrap();
    assert_eq!(report.allowed[0].cause(), Cause::BatchMixed);
    assert_eq!(report.gradient, GradientProof::NotTried);
    let image = normal(1, &[4, 8, 3, 3], DType::F32);
    let failure = mixed(|x| norm.forward_t(x, true), &image);
    assert!(failure.text().contains("whatever their order"), "{failure}");
}

#[test]
fn a_softmax_over_the_batch() {
    let x = normal(1, &[4, 3], DType::F32);
    insta::assert_snapshot!(text(&mixed(|x| ops::softmax(x, 0), &x)), @"");
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
    insta::assert_snapshot!(text(&mixed(before, &x)), @"");
    let seen = "a reshape where a transpose was meant";
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
    insta::assert_snapshot!(text(&shifted), @"");
    let flipped = mixed(|x| x.flip(&[0]), &x);
    assert!(flipped.text().contains("rows are flipped"), "{flipped}");
    let first = mixed(|x| x.broadcast_add(&x.narrow(0, 0, 1)?), &normal(1, &[40, 3], DType::F32));
    assert!(first.text().contains("all rows depend on row 0"), "{first}");
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
fn below_the_last_bit_only_the_gradient_tells() {
    let x = normal(1, &[32, 6], DType::F32);
    let leak = pair(5, 9, 1e-12);
    let only = |x: &Tensor| if x.dim(0)? == 32 { leak(x) } else { Ok(x.clone()) };
    // 1e-12 of a row is lost in most of its entries, and may be in all.
    let x = (x + 8.0).unwrap();
    let failure = mixed(|x| only(x)?.sqr(), &x);
    insta::assert_snapshot!(text(&failure), @"");
}

#[test]
fn a_batch_size_that_is_built_in() {
    let x = normal(1, &[8, 5, 2], DType::F32);
    let fixed = |x: &Tensor| x.reshape((8, 10))?.tanh();
    let failure = BatchIndependent::new().check(fixed, &x).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::BatchSizeFixed));
    insta::assert_snapshot!(text(&failure), @"");
    let report = BatchIndependent::new().allow(Cause::BatchSizeFixed).check(fixed, &x).unwrap();
    assert_eq!((report.sizes.len(), report.allowed.len()), (0, 2));

    let squeezed = |x: &Tensor| x.mean(1)?.squeeze(0);
    let failure = BatchIndependent::new().check(squeezed, &x).unwrap_err();
    insta::assert_snapshot!(text(&failure), @"");

    let divided = |x: &Tensor| x.mean(1)? / x.dim(0)? as f64;
    let failure = BatchIndependent::new().check(divided, &x).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::BatchSizeFixed));
    insta::assert_snapshot!(text(&failure), @"");

    // Mixed and fixed: both are said.
    let both = |x: &Tensor| pair(2, 3, 1.0)(&x.reshape((8, 10))?);
    let failure = mixed(both, &x);
    assert_eq!(failure.findings()[1].cause(), Cause::BatchSizeFixed);
}
