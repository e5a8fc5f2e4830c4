//! Invariance and equivariance: what they see, what they say, and what they refuse.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Device, Result, Tensor};
use candling::{
    Cause, Failure, FailureKind, Seed, Tolerance, assert_equivariant, assert_invariant,
    check::{Equivariant, Invariant, Transform},
};

use crate::support::text;

const CPU: &Device = &Device::Cpu;

fn normal(dims: &[usize], dtype: DType) -> Tensor {
    Seed::new(1).normal("x", dims, dtype, CPU).unwrap()
}

fn reversed(x: &Tensor) -> Result<Tensor> {
    x.flip(&[1])
}

fn not_invariant(f: impl FnMut(&Tensor) -> Result<Tensor>, x: &Tensor) -> Failure {
    Invariant::new().check(f, x, reversed).unwrap_err()
}

/// Every place has a weight of its own.
fn by_place(x: &Tensor) -> Result<Tensor> {
    let weights = Tensor::arange(0f32, x.dim(1)? as f32, CPU)?.reshape((1, (), 1))?;
    x.to_dtype(DType::F32)?.broadcast_mul(&weights)?.sum(1)?.to_dtype(x.dtype())
}

#[test]
fn a_pool_is_invariant_and_says_how_nearly() {
    let x = normal(&[2, 50, 3], DType::F32);
    let report = assert_invariant!(|x| x.sum(1), &x, reversed);
    assert_eq!((report.transformations, report.exact), (1, 0));
    assert!(report.max_absolute_difference > 0.0);
    assert!(report.bounds.1 >= report.max_absolute_difference && report.bounds.1 < 1e-3);
    let report = assert_invariant!(|x| x.max(1), x, [reversed, |x| x.roll(7, 1)]);
    assert_eq!((report.transformations, report.exact, report.bounds), (2, 2, (0.0, 0.0)));
}

#[test]
fn a_weighted_pool_is_not() {
    let x = normal(&[2, 5, 2], DType::F32);
    let failure = not_invariant(by_place, &x);
    assert_eq!(failure.kind(), FailureKind::Violated);
    assert_eq!(failure.cause(), Some(Cause::NotInvariant));
    insta::assert_snapshot!(text(&failure), @"
    assertion `invariant` failed
    the output changes under the transformation: all 4 elements differ

      input           dims [2, 5, 2]
      actual          the output for the transformed input
      expected        the output for the input
      sizes           differences up to 4.77, where expected values reach 8.12
      tensors         f32 [2, 2]
      tolerance       |actual - expected| <= 7.63e-6 + 9.54e-7 * |expected|
      worst absolute  4.77 at [0, 1]: 2.7290897, expected -2.0396628, allowed 9.57e-6
      worst relative  2.34 at [0, 1]: 2.7290897, expected -2.0396628, allowed 9.57e-6
      mismatches      index       actual    expected  difference        ulps
                      [0, 0]  -0.8341565  -1.1292448       0.295     3866576
                      [0, 1]   2.7290897  -2.0396628        4.77  2150708030
                      [1, 0]  -7.0202227   -8.116617         1.1     2177024
                      [1, 1]  -1.5007753  -2.3237214       0.823     5545586
      noise           moving the input by its last place moves the output by 9.54e-7; 8 times that is allowed

      confirmed  not-invariant   [0, 1]: 2.7290897, expected -2.0396628
      help       find the first layer whose output changes; see docs/causes.md#not-invariant
    ");
    let panic = catch_unwind(AssertUnwindSafe(|| {
        assert_invariant!(by_place, &x, |x| x.roll(1, 1), "a set of {} points", 5);
    }));
    let message = *panic.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("a set of 5 points"), "{message}");
    assert!(message.contains("the output changes under `|x| x.roll(1, 1)`"), "{message}");
}

#[test]
fn every_float_format_is_judged_by_its_own_rounding() {
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let x = normal(&[2, 40, 3], dtype);
        assert_invariant!(|x| x.sum(1), &x, reversed, "{dtype:?}");
        assert_invariant!(|x| x.mean(1), &x, |x| x.roll(3, 1), "{dtype:?}");
        assert_equivariant!(|x| x.tanh(), &x, reversed, "{dtype:?}");
        assert_eq!(not_invariant(by_place, &x).cause(), Some(Cause::NotInvariant), "{dtype:?}");
    }
    // A model that works in a coarser format inside than at its ends.
    let x = normal(&[2, 40, 3], DType::F32);
    for dtype in [DType::F16, DType::BF16] {
        let inside = |x: &Tensor| x.to_dtype(dtype)?.sum(1)?.to_dtype(DType::F32);
        assert_invariant!(inside, &x, reversed, "{dtype:?} inside");
    }
}

#[test]
fn layouts_scalars_and_integers() {
    let x = normal(&[3, 50, 2], DType::F32);
    let flip = |x: &Tensor| reversed(&x.contiguous()?);
    assert_invariant!(|x| x.sum(1), &x.transpose(0, 2).unwrap(), flip);
    assert_invariant!(|x| x.sum(1), &x.narrow(1, 5, 20).unwrap(), flip);
    let scalar = Tensor::new(2f32, CPU).unwrap();
    assert_invariant!(|x| x.abs(), &scalar, |x| x.neg());
    assert_equivariant!(|x| x.powf(3.0), &scalar, |x| x.neg());
    let ids = Tensor::new(&[[1u32, 5, 5, 2]], CPU).unwrap();
    assert_invariant!(|x| x.sum(1), &ids, reversed);
    let table = normal(&[6, 4], DType::F32);
    let bag = |ids: &Tensor| table.index_select(&ids.flatten_all()?, 0)?.mean(0);
    assert_invariant!(bag, &ids, reversed);
    assert!(Invariant::new().check(|x: &Tensor| x.narrow(1, 0, 1), &ids, reversed).is_err());
}

#[test]
fn several_inputs_are_transformed_together() {
    let both = [normal(&[2, 6, 3], DType::F32), normal(&[2, 6, 1], DType::F32)];
    let weighted = |[x, w]: &[Tensor; 2]| x.broadcast_mul(w)?.sum(1);
    assert_invariant!(weighted, &both, |[x, w]| Ok([x.flip(&[1])?, w.flip(&[1])?]));
    let failure = Invariant::new()
        .check(weighted, &both, |[x, w]: &[Tensor; 2]| Ok([x.flip(&[1])?, w.clone()]))
        .unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::NotInvariant));
    assert_equivariant!(
        |[x, w]| x.broadcast_mul(w),
        &both,
        |[x, w]| Ok([x.flip(&[1])?, w.flip(&[1])?]),
        |y| y.flip(&[1]),
    );
    let failure = Equivariant::new()
        .check(weighted, &both, |[x, w]: &[Tensor; 2]| Ok([x.flip(&[1])?, w.flip(&[1])?]))
        .unwrap_err();
    insta::assert_snapshot!(text(&failure), @"
    assertion `equivariant` did not run
    the transformation, applied to the output, returned an error

      error   it takes another number of tensors than 1
      output  [2, 3]

      help       say what happens to the output, as a second transformation
    ");
}

#[test]
fn a_map_that_does_not_follow() {
    let x = normal(&[1, 4, 4, 3], DType::F32);
    let head = normal(&[3, 2], DType::F32);
    let shifted = |x: &Tensor| x.roll(1, 1);
    let right = |x: &Tensor| x.flatten_to(2)?.matmul(&head)?.reshape((1, 4, 4, 2));
    assert_equivariant!(right, &x, shifted);
    // the numbers regrouped, where a dimension should have moved
    let wrong = |x: &Tensor| {
        x.permute((0, 3, 1, 2))?.reshape((16, 3))?.matmul(&head)?.reshape((1, 4, 4, 2))
    };
    let failure = Equivariant::new()
        .check(wrong, &x, Transform::new("a shift by one row", shifted))
        .unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::NotEquivariant));
    insta::assert_snapshot!(text(&failure), @"
    assertion `equivariant` failed
    the output does not follow `a shift by one row`: all 32 elements differ

      input           dims [1, 4, 4, 3]
      actual          the output for the transformed input
      expected        the transformed output
      sizes           differences up to 4.15, where expected values reach 2.23
      tensors         f32 [1, 4, 4, 2]
      tolerance       |actual - expected| <= 1.91e-6 + 9.54e-7 * |expected|
      worst absolute  4.15 at [0, 2, 2, 0]: 2.2537935, expected -1.898635, allowed 3.72e-6
      worst relative  54.6 at [0, 2, 0, 0]: 1.134201, expected -0.021148087, allowed 1.93e-6
      mismatches      index               actual    expected  difference        ulps
                      [0, 0, 0, 0]  -0.021148087  -0.1556567       0.135    24257975
                      [0, 0, 0, 1]     0.7154235  -1.0514072        1.77  2126363266
                      [0, 0, 1, 0]     0.7914648   1.4774762       0.686     7504001
                      [0, 0, 1, 1]     2.2226756   1.3821919        0.84     6116519
                      [0, 0, 2, 0]     0.9764323   2.1881046        1.21     9572976
                      and 27 more
      noise           moving the input by its last place moves the output by 2.38e-7; 8 times that is allowed

      confirmed  not-equivariant   [0, 2, 2, 0]: 2.2537935, expected -1.898635
      help       find the first layer that does not follow; see docs/causes.md#not-equivariant
    ");
}

#[test]
fn shapes_that_do_not_agree() {
    let x = normal(&[2, 6], DType::F32);
    let failure =
        Invariant::new().check(Tensor::tanh, &x, |x: &Tensor| x.narrow(1, 0, 3)).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::ShapeMismatch));
    insta::assert_snapshot!(text(&failure), @"
    assertion `invariant` failed
    the output's shape is another under the transformation: [2, 3], expected [2, 6]

      input     dims [2, 3] after the transformation
      actual    the output for the transformed input, f32 [2, 3]
      expected  the output for the input, f32 [2, 6]

      confirmed  shape-mismatch   [2, 3] is not [2, 6]
      help       an output that follows the input's shape is not invariant: pool it, or assert equivariance; see
                 docs/causes.md#shape-mismatch
    ");
    let pooled = |x: &Tensor| x.reshape((2, x.dim(1)? / 2, 2))?.mean(2);
    assert_equivariant!(pooled, &x, |x| x.roll(2, 1), |y| y.roll(1, 1));
    let failure = Equivariant::new().check(pooled, &x, |x: &Tensor| x.roll(2, 1)).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::NotEquivariant));
    let failure = Equivariant::new().check(|x: &Tensor| x.sum(1), &x, reversed).unwrap_err();
    insta::assert_snapshot!(text(&failure), @"
    assertion `equivariant` did not run
    the transformation, applied to the output, returned an error

      error   dim: dimension index 1 out of range for shape [2]
      output  [2]

      help       say what happens to the output, as a second transformation
    ");
}

#[test]
fn what_could_not_have_failed_is_no_pass() {
    let x = normal(&[2, 5, 2], DType::F32);
    let constant = |x: &Tensor| (x.sum(1)? * 0.0)?.abs();
    let failure = not_invariant(constant, &x);
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    assert_eq!(failure.cause(), Some(Cause::OutputConstant));
    insta::assert_snapshot!(text(&failure), @"
    assertion `invariant` proves nothing here
    the function does not depend on its input here: whatever is done to it, the output stays

      confirmed  output-constant   16 other inputs of the same kind give the same output
      help       look for a softmax over a dimension of size 1, dead units, or an input that is never used; see
                 docs/causes.md#output-constant
    ");
    let failure = Invariant::new()
        .check(|x: &Tensor| x.sum(1), &Tensor::ones((2, 5), DType::F32, CPU).unwrap(), reversed)
        .unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(text(&failure), @"
    assertion `invariant` proves nothing here
    the transformation leaves the input as it is, bit for bit: there was nothing to notice

      input  dims [2, 5]

      help       give an input that the transformation changes, or another one
    ");
    let failure = Invariant::new().tolerance(100.0).check(by_place, &x, reversed).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(text(&failure), @"
    assertion `invariant` proves nothing here
    the tolerance hides the property: 16 other inputs move the output of the function by 18 at most, and that much is allowed

      tolerance  |actual - expected| <= 100
      noise      the tolerance is the one given

      help       give a smaller `tolerance`, or an input that varies more
    ");
    let empty = Tensor::zeros((0, 3), DType::F32, CPU).unwrap();
    assert_eq!(not_invariant(by_place, &empty).kind(), FailureKind::Vacuous);
}

#[test]
fn what_cannot_be_judged_says_so() {
    let x = normal(&[2, 5, 2], DType::F32);
    let not_run = |failure: Failure| {
        assert_eq!(failure.kind(), FailureKind::NotRun, "{failure}");
        text(&failure)
    };
    insta::assert_snapshot!(not_run(not_invariant(|x| x.reshape(7), &x)), @"
    assertion `invariant` did not run
    the function returned an error

      error  Shape mismatch, got buffer of size 20 which is compatible with shape [7]
    ");
    let failure = Invariant::new().check(by_place, &x, |x: &Tensor| x.reshape(7)).unwrap_err();
    insta::assert_snapshot!(not_run(failure), @"
    assertion `invariant` did not run
    the transformation returned an error

      error  Shape mismatch, got buffer of size 20 which is compatible with shape [7]
    ");
    let failure =
        Invariant::new().check(by_place, &x, |x: &Tensor| x.narrow(1, 0, 2)?.log()).unwrap_err();
    insta::assert_snapshot!(not_run(failure), @"
    assertion `invariant` did not run
    what the transformation returned cannot be given to the function: `x` is the input with NaN; allowed: no NaN

      confirmed  not-finite   the input: NaN before the function is called
      help       start at the named origin: what comes after it is only carried along; see
                 docs/causes.md#not-finite
    ");
    let only_five = |x: &Tensor| x.reshape((2, 5, 2))?.sum(1);
    let failure =
        Invariant::new().check(only_five, &x, |x: &Tensor| x.narrow(1, 0, 4)).unwrap_err();
    insta::assert_snapshot!(not_run(failure), @"
    assertion `invariant` did not run
    the function returned an error

      error  Shape mismatch, got buffer of size 16 which is compatible with shape [2, 5, 2]
      input  dims [2, 4, 2] after the transformation
    ");
    let nan = Tensor::new(&[[1f32, f32::NAN]], CPU).unwrap();
    assert!(not_run(not_invariant(|x| x.sum(1), &nan)).contains("not-finite"));
    let random = |x: &Tensor| x.sum(1)? + x.sum(1)?.rand_like(0.0, 1.0)?;
    assert!(not_run(not_invariant(random, &x)).contains("two calls on the same input"));
    let failure = Equivariant::new()
        .check(Tensor::tanh, &x, |x: &Tensor| x + x.rand_like(0.0, 1.0)?)
        .unwrap_err();
    insta::assert_snapshot!(not_run(failure), @"
    assertion `equivariant` did not run
    the transformation is not the same twice: the output cannot be compared with it

      help       draw outside the closure (`let order = ..`), and use the draw in it
    ");
    let failure = Invariant::new().check(by_place, &x, (reversed, reversed)).unwrap_err();
    insta::assert_snapshot!(not_run(failure), @"
    assertion `invariant` did not run
    `transform` is a pair with a transformation of the output; allowed: a transformation of the input alone

      help       an invariant output stays as it is; where it should follow, use `assert_equivariant!`
    ");
    let none: [Transform<'_>; 0] = [];
    let failure = Invariant::new().check(by_place, &x, none).unwrap_err();
    insta::assert_snapshot!(not_run(failure), @"
    assertion `invariant` did not run
    the transformation is an empty list; allowed: at least one
    ");
    let failure = Invariant::new().tolerance(-1.0).check(by_place, &x, reversed).unwrap_err();
    assert!(not_run(failure).contains("`tolerance` is absolute -1"));
}

#[test]
fn nan_after_the_transformation_is_named() {
    let x = Tensor::new(&[[1f32, 2.0, 3.0]], CPU).unwrap();
    let failure =
        Invariant::new().check(|x: &Tensor| x.log()?.sum(1), &x, |x: &Tensor| x.neg()).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Violated);
    assert!(text(&failure).contains("not-finite"), "{failure}");
}

/// One ten-thousandth of the first point: far below what the eye finds.
#[test]
fn a_violation_just_above_rounding_is_found() {
    for n in [5, 50, 500] {
        let x = normal(&[2, n, 3], DType::F32);
        let nearly = |x: &Tensor| x.max(1)? + (x.narrow(1, 0, 1)?.squeeze(1)? * 1e-4)?;
        assert_eq!(not_invariant(nearly, &x).cause(), Some(Cause::NotInvariant), "{n}");
    }
}

#[test]
fn options_are_heeded() {
    let x = normal(&[2, 5, 2], DType::F32);
    let nearly = |x: &Tensor| x.sum(1)? + (x.narrow(1, 0, 1)?.squeeze(1)? * 1e-3)?;
    assert_eq!(not_invariant(nearly, &x).cause(), Some(Cause::NotInvariant));
    assert_invariant!(nearly, &x, reversed, tolerance = 0.1);
    assert_invariant!(
        nearly,
        &x,
        reversed,
        tolerance = Tolerance::absolute(0.1),
        seed = Seed::new(3)
    );
    assert_invariant!(by_place, &x, reversed, allow = Cause::NotInvariant);
    let mut calls = 0;
    let mut counted = |x: &Tensor| {
        calls += 1;
        x.sum(1)
    };
    assert_invariant!(&mut counted, &x, reversed);
    assert!(calls > 2);
}
