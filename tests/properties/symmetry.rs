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
    insta::assert_snapshot!(text(&failure), @"");
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
    insta::assert_snapshot!(text(&failure), @"");
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
    insta::assert_snapshot!(text(&failure), @"");
}

#[test]
fn shapes_that_do_not_agree() {
    let x = normal(&[2, 6], DType::F32);
    let failure =
        Invariant::new().check(Tensor::tanh, &x, |x: &Tensor| x.narrow(1, 0, 3)).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::ShapeMismatch));
    insta::assert_snapshot!(text(&failure), @"");
    let pooled = |x: &Tensor| x.reshape((2, x.dim(1)? / 2, 2))?.mean(2);
    assert_equivariant!(pooled, &x, |x| x.roll(2, 1), |y| y.roll(1, 1));
    let failure = Equivariant::new().check(pooled, &x, |x: &Tensor| x.roll(2, 1)).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::NotEquivariant));
    let failure = Equivariant::new().check(|x: &Tensor| x.sum(1), &x, reversed).unwrap_err();
    insta::assert_snapshot!(text(&failure), @"");
}

#[test]
fn what_could_not_have_failed_is_no_pass() {
    let x = normal(&[2, 5, 2], DType::F32);
    let constant = |x: &Tensor| (x.sum(1)? * 0.0)?.abs();
    let failure = not_invariant(constant, &x);
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    assert_eq!(failure.cause(), Some(Cause::OutputConstant));
    insta::assert_snapshot!(text(&failure), @"");
    let failure = Invariant::new()
        .check(|x: &Tensor| x.sum(1), &Tensor::ones((2, 5), DType::F32, CPU).unwrap(), reversed)
        .unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(text(&failure), @"");
    let failure = Invariant::new().tolerance(100.0).check(by_place, &x, reversed).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(text(&failure), @"");
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
    insta::assert_snapshot!(not_run(not_invariant(|x| x.reshape(7), &x)), @"");
    let failure = Invariant::new().check(by_place, &x, |x: &Tensor| x.reshape(7)).unwrap_err();
    insta::assert_snapshot!(not_run(failure), @"");
    let failure =
        Invariant::new().check(by_place, &x, |x: &Tensor| x.narrow(1, 0, 2)?.log()).unwrap_err();
    insta::assert_snapshot!(not_run(failure), @"");
    let only_five = |x: &Tensor| x.reshape((2, 5, 2))?.sum(1);
    let failure =
        Invariant::new().check(only_five, &x, |x: &Tensor| x.narrow(1, 0, 4)).unwrap_err();
    insta::assert_snapshot!(not_run(failure), @"");
    let nan = Tensor::new(&[[1f32, f32::NAN]], CPU).unwrap();
    assert!(not_run(not_invariant(|x| x.sum(1), &nan)).contains("not-finite"));
    let random = |x: &Tensor| x.sum(1)? + x.sum(1)?.rand_like(0.0, 1.0)?;
    assert!(not_run(not_invariant(random, &x)).contains("two calls on the same input"));
    let failure = Equivariant::new()
        .check(Tensor::tanh, &x, |x: &Tensor| x + x.rand_like(0.0, 1.0)?)
        .unwrap_err();
    insta::assert_snapshot!(not_run(failure), @"");
    let failure = Invariant::new().check(by_place, &x, (reversed, reversed)).unwrap_err();
    insta::assert_snapshot!(not_run(failure), @"");
    let none: [Transform<'_>; 0] = [];
    let failure = Invariant::new().check(by_place, &x, none).unwrap_err();
    insta::assert_snapshot!(not_run(failure), @"");
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
