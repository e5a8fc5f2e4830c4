//! `assert_uses_input!`: every feature moves the output.

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::ops;
use candling::{Cause, Failure, FailureKind, Seed, assert_uses_input, check::UsesInput};

use super::models::{Attention, CPU, Decoder, Mask, WIDTH, sequence};
use crate::support::text;

fn fails(f: impl FnMut(&Tensor) -> Result<Tensor>, x: &Tensor) -> Failure {
    let failure = UsesInput::new().check(f, x).expect_err("the bug was not seen");
    assert_eq!(failure.kind(), FailureKind::Violated, "{failure}");
    failure
}

fn normal(dims: &[usize]) -> Tensor {
    Seed::new(1).normal("x", dims, DType::F32, CPU).unwrap()
}

#[test]
fn clean_models_use_everything() {
    for seed in 0..30 {
        let check = UsesInput::new().seed(Seed::new(seed));
        let (_, vb) = Seed::new(seed).var_builder(DType::F32, CPU);
        let l1 = candle_nn::linear(6, 4, vb.pp("l1")).unwrap();
        let l2 = candle_nn::linear(4, 2, vb.pp("l2")).unwrap();
        // One row: half of the units are off in it.
        let x = Seed::new(seed).normal("x", (1, 6), DType::F32, CPU).unwrap();
        check.check(|x: &Tensor| l2.forward(&l1.forward(x)?.relu()?), &x).unwrap();
        let attention = Attention::new(Seed::new(seed), 2, Mask::Above(-1e9), DType::F32);
        check.check(|x: &Tensor| attention.forward(x), &sequence(seed, 2, 5)).unwrap();
        // Ids, and the class of the largest logit: no gradient at all.
        let decoder = Decoder::new(Seed::new(seed), 7, Mask::None);
        let ids = Seed::new(seed).tokens("ids", 7, (4, 5), CPU).unwrap();
        check.check(|ids: &Tensor| decoder.forward(ids)?.argmax(2), &ids).unwrap();
        // Hard routing: each row takes one of two experts, which look at features of their own.
        let routed = |x: &Tensor| {
            let left = x.narrow(1, 0, 1)?.gt(&x.zeros_like()?.narrow(1, 0, 1)?)?;
            left.where_cond(&x.narrow(1, 1, 1)?, &x.narrow(1, 2, 1)?)
        };
        let x = Seed::new(seed).normal("x", (3, 3), DType::F32, CPU).unwrap();
        check.check(routed, &x).unwrap();
    }
}

#[test]
fn the_report_says_how() {
    let report = assert_uses_input!(|x: &Tensor| x.sum(1), normal(&[4, 5, 2]), "context");
    assert_eq!((report.features, report.by_gradient, report.calls), (7, 7, 3));
    let ids = Tensor::new(&[[1u32, 2, 3], [3, 1, 2]], CPU).unwrap();
    let report = assert_uses_input!(|x| x.to_dtype(DType::F32)?.sum(1), ids);
    assert_eq!((report.features, report.by_gradient), (3, 0));
}

/// A convolution of stride 2 without padding, which reads an odd number of lines and columns.
fn strided(images: &Tensor) -> Result<Tensor> {
    let (_, vb) = Seed::new(1).var_builder(DType::F32, CPU);
    let config = candle_nn::Conv2dConfig { stride: 2, ..Default::default() };
    candle_nn::conv2d(2, 3, 3, config, vb.pp("conv"))?.forward(images)?.mean((2, 3))
}

#[test]
fn what_does_not_fill_a_step_falls_off() {
    let x = normal(&[4, 2, 9, 10]);
    insta::assert_snapshot!(text(&fails(strided, &x)), @"
    assertion `uses_input` failed
    1 of 10 indices of dim 3 does not move the output: 9

      tried  other values in all rows, at the input itself and at 7 more of its kind

      confirmed  input-ignored   dim 3: 1 of 10 indices moves nothing: 9
      help       where a convolution or a pooling moves in steps, what does not fill the last step falls off: pad
                 the input, or allow it, `ignore = (3, 9..10)`; else look for a slice that ends too early; see
                 docs/causes.md#input-ignored
    ");
    assert_uses_input!(strided, &x, ignore = (3, 9..10));
    // No fault of a model: it is healthy.
    let (vars, vb) = Seed::new(1).var_builder(DType::F32, CPU);
    let config = candle_nn::Conv2dConfig { stride: 2, ..Default::default() };
    let conv = candle_nn::conv2d(2, 3, 3, config, vb.pp("conv")).unwrap();
    let forward = |x: &Tensor| conv.forward(x)?.relu()?.mean((2, 3));
    let learner = candling::Learner::new(&vars, forward, candle_nn::loss::cross_entropy);
    let y = Tensor::new(&[0u32, 1, 2, 0], CPU).unwrap();
    candling::assert_healthy!(learner, (&normal(&[4, 2, 10, 10]), &y), classes = 3);
    // A channel that is never read is.
    let half = |x: &Tensor| forward(&Tensor::cat(&[x.narrow(1, 0, 1)?, x.narrow(1, 0, 1)?], 1)?);
    let learner = candling::Learner::new(&vars, half, candle_nn::loss::cross_entropy);
    let healthy = candling::check::Healthy::new().classes(3);
    let failure = healthy.check(&learner, (&normal(&[4, 2, 10, 10]), &y)).unwrap_err();
    assert!(failure.findings().iter().any(|f| f.cause() == Cause::InputIgnored), "{failure}");
}

#[test]
fn features_that_are_never_read() {
    let x = normal(&[4, 8]);
    insta::assert_snapshot!(text(&fails(|x| Tensor::cat(&[x.narrow(1, 0, 3)?, x.narrow(1, 4, 1)?], 1), &x)), @"
    assertion `uses_input` failed
    4 of 8 indices of dim 1 do not move the output: 3, 5 to 7

      tried  other values in all rows, at the input itself and at 7 more of its kind

      confirmed  input-ignored   dim 1: 4 of 8 indices move nothing: 3, 5 to 7
      help       check that the input is used, and not replaced or zeroed on the way; see
                 docs/causes.md#input-ignored
    ");
    insta::assert_snapshot!(text(&fails(|x| x.narrow(1, 1, 7), &x)), @"
    assertion `uses_input` failed
    1 of 8 indices of dim 1 does not move the output: 0

      tried  other values in all rows, at the input itself and at 7 more of its kind

      confirmed  input-ignored   dim 1: 1 of 8 indices moves nothing: 0
      help       check that the input is used, and not replaced or zeroed on the way; see
                 docs/causes.md#input-ignored
    ");
    let zeroed = |x: &Tensor| {
        let keep = Tensor::new(&[1f32, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0], CPU)?;
        x.broadcast_mul(&keep)
    };
    assert_eq!(fails(zeroed, &x).findings()[0].evidence(), "1 of 8 indices moves nothing: 2");
    // Without a gradient.
    let failure = fails(|x| zeroed(x)?.round(), &x);
    assert_eq!(failure.findings()[0].evidence(), "1 of 8 indices moves nothing: 2");
    let images = normal(&[2, 3, 4, 5]);
    let cropped = |x: &Tensor| x.narrow(1, 0, 1)?.narrow(3, 1, 3);
    insta::assert_snapshot!(text(&fails(cropped, &images)), @"
    assertion `uses_input` failed
    parts of 2 dimensions do not move the output

      tried  other values in all rows, at the input itself and at 15 more of its kind

      confirmed  input-ignored   dim 1: 2 of 3 indices move nothing: 1, 2
      confirmed  input-ignored   dim 3: 2 of 5 indices move nothing: 0, 4
      help       check that the input is used, and not replaced or zeroed on the way; see
                 docs/causes.md#input-ignored
    ");
    UsesInput::new().dims([2]).check(cropped, &images).unwrap();
    UsesInput::new().ignore((1, 1..3)).ignore((3, [0, 4])).check(cropped, &images).unwrap();
    UsesInput::new().allow(Cause::InputIgnored).check(cropped, &images).unwrap();
}

#[test]
fn a_token_that_is_never_read() {
    let decoder = Decoder::new(Seed::new(1), 7, Mask::None);
    let ids = Seed::new(1).tokens("ids", 7, (2, 6), CPU).unwrap();
    let failure = fails(|ids| decoder.forward(&ids.narrow(1, 0, 5)?.contiguous()?), &ids);
    assert_eq!(failure.findings()[0].evidence(), "1 of 6 indices moves nothing: 5");
    assert_eq!(failure.findings()[0].place(), Some("dim 1"));
}

#[test]
fn nothing_moves_the_output() {
    let one_unit = |x: &Tensor| ops::softmax(&x.sum_keepdim(1)?, 1);
    let failure = fails(one_unit, &normal(&[4, 3]));
    assert_eq!(failure.cause(), Some(Cause::OutputConstant));
    insta::assert_snapshot!(text(&failure), @"
    assertion `uses_input` failed
    the output does not depend on the input at all

      tried  other values in all rows, at the input itself and at 7 more of its kind

      confirmed  output-constant   the same to the last bit with other values at all 3 features
      help       look for a softmax over a dimension of size 1, dead units, or an input that is never used; see
                 docs/causes.md#output-constant
    ");
    UsesInput::new().allow(Cause::OutputConstant).check(one_unit, &normal(&[4, 3])).unwrap();
}

#[test]
fn of_several_inputs_the_one_that_is_ignored_is_named() {
    let x = [sequence(1, 2, 4), sequence(2, 2, 5)];
    let own_keys = |[x, _]: &[Tensor; 2]| x.matmul(&x.transpose(1, 2)?.contiguous()?);
    let failure = UsesInput::new().check(own_keys, &x).unwrap_err();
    insta::assert_snapshot!(text(&failure), @"
    assertion `uses_input` failed
    the output does not depend on tensor 1 of the input

      tried  other values in all rows, at the input itself and at 15 more of its kind

      confirmed  input-ignored   tensor 1 of the input: other values there leave the output the same to the last
                                 bit
      help       check that the input is used, and not replaced or zeroed on the way; see
                 docs/causes.md#input-ignored
    ");
    UsesInput::new().ignore_input(1).check(own_keys, &x).unwrap();
    let part = |[x, memory]: &[Tensor; 2]| {
        x.matmul(&memory.narrow(1, 0, 4)?.transpose(1, 2)?.contiguous()?)
    };
    let failure = UsesInput::new().check(part, &x).unwrap_err();
    assert_eq!(failure.findings()[0].place(), Some("tensor 1 of the input, dim 1"));
    // A condition of one number a row.
    let step = Tensor::new(&[1f32, 2.0], CPU).unwrap();
    let with = |[x, step]: &[Tensor; 2]| x.broadcast_mul(&step.reshape((2, 1, 1))?);
    UsesInput::new().check(with, &[sequence(1, 2, 3), step.clone()]).unwrap();
    let without = |[x, _]: &[Tensor; 2]| x.sqr();
    let failure = UsesInput::new().check(without, &[sequence(1, 2, 3), step]).unwrap_err();
    assert_eq!(failure.findings()[0].place(), Some("tensor 1 of the input"));
    let zeros = Tensor::zeros((2, 3), DType::U32, CPU).unwrap();
    let report = UsesInput::new().check(without, &[sequence(1, 2, 3), zeros]).unwrap();
    assert_eq!(report.not_judged, [1]);
}

#[test]
fn every_float_layout_and_rank() {
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let x = normal(&[3, 4]).to_dtype(dtype).unwrap();
        UsesInput::new().check(|x: &Tensor| x.sqr()?.sum(1), &x).unwrap();
        UsesInput::new().check(|x: &Tensor| x.sqr()?.sum(0), &x.t().unwrap()).unwrap();
        fails(|x| x.narrow(1, 0, 2), &x.t().unwrap());
    }
    UsesInput::new().check(|x: &Tensor| x.sqr(), &normal(&[4])).unwrap();
    assert_eq!(fails(Tensor::zeros_like, &normal(&[4])).cause(), Some(Cause::OutputConstant));
    UsesInput::new().dims([0]).check(|x: &Tensor| x.sum_all(), &normal(&[4])).unwrap();
    let failure =
        UsesInput::new().dims([0]).check(|x: &Tensor| x.narrow(0, 0, 1), &normal(&[4, 2]));
    assert_eq!(
        failure.unwrap_err().findings()[0].evidence(),
        "3 of 4 indices move nothing: 1 to 3"
    );
    assert_eq!(WIDTH, 8);
}

#[test]
#[should_panic(expected = "assertion `uses_input` failed: crop")]
fn the_macro_panics_with_its_context() {
    assert_uses_input!(|x| x.narrow(1, 0, 2), &normal(&[4, 3]), dims = [1], "crop");
}
