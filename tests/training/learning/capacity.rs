//! `assert_capacity_helps!`: what is better when it is larger, and what is not.

use candle_core::{DType, Module, Tensor};
use candle_nn::{linear, loss};
use candling::{
    Batch, Cause, FailureKind, Learner, Seed, assert_capacity_helps, check::CapacityHelps,
};

use crate::{
    support::text,
    training::models::{Mlp, bits, classes, device},
};

fn built(seed: u64, width: usize, dtype: DType) -> Learner<'static> {
    let build = move |vb: candle_nn::VarBuilder<'static>| {
        let m = Mlp::new([6, width, 4], vb)?;
        Ok(move |x: &Tensor| m.forward(x))
    };
    Learner::build(Seed::new(seed), dtype, &device(), build, loss::cross_entropy).unwrap()
}

#[test]
fn a_wider_network_fits_better() {
    for (seed, dtype) in [(0, DType::F32), (1, DType::F64)] {
        let (x, y) = classes(seed, dtype);
        let (small, large) = (built(seed, 1, dtype), built(seed, 32, dtype));
        let report = assert_capacity_helps!(small, large, (&x, &y), steps = 100, "seed {seed}");
        assert_eq!(report.small_by_seed.len(), 3);
        assert!(report.large < 0.9 * report.small, "{report:?}");
        assert_eq!((report.small_size, report.large_size), (15, 356));
    }
}

#[test]
fn learners_that_cannot_be_built_again_are_compared_once_and_restored() {
    let (x, y) = classes(1, DType::F32);
    let (narrow_vars, narrow) = Mlp::seeded(1, [6, 1, 4], DType::F32);
    let (wide_vars, wide) = Mlp::seeded(1, [6, 32, 4], DType::F32);
    let before = (bits(&narrow_vars), bits(&wide_vars));
    let small = Learner::new(&narrow_vars, |x| narrow.forward(x), loss::cross_entropy);
    let large = Learner::new(&wide_vars, |x| wide.forward(x), loss::cross_entropy);
    let report = assert_capacity_helps!(&small, &large, (&x, &y), steps = 100);
    assert_eq!(report.small_by_seed.len(), 1);
    let small = Learner::from_loss(&narrow_vars, || loss::cross_entropy(&narrow.forward(&x)?, &y));
    let large = Learner::from_loss(&wide_vars, || loss::cross_entropy(&wide.forward(&x)?, &y));
    assert_capacity_helps!(small, large, (), steps = 100);
    assert_eq!((bits(&narrow_vars), bits(&wide_vars)), before);
}

#[test]
fn half_precision_is_compared_too() {
    for dtype in [DType::F16, DType::BF16] {
        let (x, y) = classes(1, dtype);
        assert_capacity_helps!(
            built(1, 1, dtype),
            built(1, 32, dtype),
            (&x, &y),
            steps = 60,
            seeds = 1
        );
    }
}

/// Wide layers with one of a single unit between them.
fn bottleneck(seed: u64) -> Learner<'static> {
    let build = |vb: candle_nn::VarBuilder<'static>| {
        let l1 = linear(6, 32, vb.pp("l1"))?;
        let l2 = linear(32, 1, vb.pp("l2"))?;
        let l3 = linear(1, 32, vb.pp("l3"))?;
        let l4 = linear(32, 4, vb.pp("l4"))?;
        Ok(move |x: &Tensor| {
            let x = l2.forward(&l1.forward(x)?.relu()?)?.relu()?;
            l4.forward(&l3.forward(&x)?)
        })
    };
    Learner::build(Seed::new(seed), DType::F32, &device(), build, loss::cross_entropy).unwrap()
}

#[test]
fn a_bottleneck_that_was_left_in_is_named() {
    let (x, y) = classes(3, DType::F32);
    let small = built(3, 3, DType::F32);
    let failure =
        CapacityHelps::new().steps(100).check(&small, &bottleneck(3), (&x, &y)).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::CapacityTooSmall), "{failure}");
    insta::assert_snapshot!(text(&failure), @"
    assertion `capacity_helps` failed
    more capacity is no help: the loss ends at 1.04 with 453 values, and at 0.184 with 37 values

      small    █▆▅▅▄▄▃▃▃▃▃▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁   0.184 .. 1.79
      large    ███▇▇▆▆▆▆▅▅▅▄▄▄▄▃▃▃▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁   1.04 .. 2.18
      by seed  0.0219, 0.184, 0.465 small; 0.94, 1.04, 1.18 large

      possible   capacity-too-small   `l2.weight`: the narrowest inner layer is 1 unit wide; what is added
                                      elsewhere has to pass it
      help       widen the narrowest layer; see docs/causes.md#capacity-too-small
    ");
    let allowed = CapacityHelps::new().steps(50).seeds(1).allow(Cause::CapacityTooSmall);
    let report = allowed.check(&small, &bottleneck(3), (&x, &y)).unwrap();
    assert_eq!(report.allowed.len(), 1);
}

#[test]
fn layers_that_get_no_gradient_are_named() {
    let (x, y) = classes(4, DType::F32);
    let (vars, vb) = Seed::new(4).var_builder(DType::F32, &device());
    let m = Mlp::new([6, 2, 4], vb.pp("m")).unwrap();
    let more = Mlp::new([6, 64, 4], vb.pp("more")).unwrap();
    // The larger half is detached.
    let forward = |x: &Tensor| m.forward(x)? + more.forward(x)?.detach();
    let large = Learner::new(&vars, forward, loss::cross_entropy);
    let (vars, vb) = Seed::new(4).var_builder(DType::F32, &device());
    let m2 = Mlp::new([6, 2, 4], vb.pp("m")).unwrap();
    let small = Learner::new(&vars, |x| m2.forward(x), loss::cross_entropy);
    let failure = CapacityHelps::new().steps(100).check(&small, &large, (&x, &y)).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::GradientCut), "{failure}");
}

#[test]
fn what_proves_nothing_or_cannot_be_used_says_so() {
    let (x, y) = classes(5, DType::F32);
    let (small, large) = (built(5, 1, DType::F32), built(5, 32, DType::F32));
    let refused =
        |options: CapacityHelps, small: &Learner<'_>, large: &Learner<'_>, batch: Batch| {
            let failure = options.check(small, large, batch).unwrap_err();
            assert_ne!(failure.kind(), FailureKind::Violated, "{failure}");
            failure.headline().to_owned()
        };
    let new = || CapacityHelps::new().seeds(1);
    let batch = || Batch::from((&x, &y));
    insta::assert_snapshot!(refused(new(), &large, &built(5, 64, DType::F32), batch()), @"the smaller learner fits the batch already: 1.83 -> 0.0138 in 145 steps; nothing is left for more capacity");
    insta::assert_snapshot!(refused(new(), &large, &small, batch()), @"`large` is a learner of 15 values to train, beside a small one of 356; allowed: one with more values to train than the small one; the small one comes first");
    insta::assert_snapshot!(refused(new().steps(0), &small, &large, batch()), @"`steps` is 0; allowed: 1 or more");
    insta::assert_snapshot!(refused(new().margin(0.0), &small, &large, batch()), @"`margin` is 0; allowed: a share in (0, 1)");
    insta::assert_snapshot!(refused(new().seeds(0), &small, &large, batch()), @"`seeds` is 0; allowed: 1 or more");
    insta::assert_snapshot!(refused(new(), &small, &large, ().into()), @"`batch` is `()`; allowed: an input and its targets, `(&x, &y)`");
    let nan = (&x / 0.0).unwrap();
    insta::assert_snapshot!(refused(new(), &small, &large, (&nan, &y).into()), @"`batch` is the input with NaN or infinite values; allowed: finite values");
}
