//! Functions and inputs that cannot be judged: each gets a clear answer, and none hangs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{D, DType, Result, Tensor};
use candle_nn::{ops, rotary_emb};
use candling::{Cause, Failure, FailureKind, check::GradientsCorrect};

use super::models::{device, findings, normal, text, with_backward};

fn not_run(f: impl FnMut(&Tensor) -> Result<Tensor>, x: &Tensor) -> Failure {
    let failure = GradientsCorrect::new().check(f, x).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::NotRun, "{failure}");
    failure
}

fn f64s(values: &[f64]) -> Tensor {
    Tensor::new(values, &device()).unwrap()
}

#[test]
fn inputs_without_a_slope() {
    let ids = Tensor::new(&[1u32, 2], &device()).unwrap();
    insta::assert_snapshot!(text(&not_run(|x| x.to_dtype(DType::F32), &ids)), @"
    assertion `gradients_correct` did not run
    `x` is integers, which have no gradient; allowed: at least one tensor of a float dtype
    ");
    insta::assert_snapshot!(not_run(Tensor::sqr, &f64s(&[1.0, f64::NAN])).headline(), @"`x` is a tensor with NaN or infinite values; allowed: finite values");
    insta::assert_snapshot!(not_run(Tensor::sqr, &f64s(&[f64::INFINITY])).headline(), @"`x` is a tensor with NaN or infinite values; allowed: finite values");
    let empty = Tensor::zeros((0, 3), DType::F64, &device()).unwrap();
    let failure = GradientsCorrect::new().check(Tensor::sqr, &empty).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(failure.headline(), @"the input of dims [0, 3] is empty: there is no slope to compare");
}

#[test]
fn shapes_of_every_rank_are_judged() {
    for shape in [&[][..], &[1], &[1, 1], &[1, 3, 1], &[1, 2, 1, 2, 1]] {
        let x = normal(1, shape, DType::F64);
        GradientsCorrect::new().check(Tensor::tanh, &x).unwrap();
    }
    let x = normal(1, &[3, 4], DType::F64);
    let strided = [x.t().unwrap(), x.narrow(1, 1, 2).unwrap(), x.i_rows()];
    for x in strided {
        GradientsCorrect::new().check(|x: &Tensor| x.sqr()?.sum(0), &x).unwrap();
    }
}

trait Rows {
    fn i_rows(&self) -> Tensor;
}

impl Rows for Tensor {
    /// One row, three times the same.
    fn i_rows(&self) -> Tensor {
        self.narrow(0, 0, 1).unwrap().broadcast_as((3, 4)).unwrap()
    }
}

#[test]
fn functions_without_a_slope() {
    let x = normal(1, &[2, 3], DType::F64);
    insta::assert_snapshot!(not_run(|x| x.argmax(1), &x).headline(), @"the function returned a tensor of dtype u32; allowed: a float dtype");
    insta::assert_snapshot!(text(&not_run(|x| x.abs()?.neg()?.log(), &x)), @"
    assertion `gradients_correct` did not run
    the function is not finite at this point: it has no slope

      confirmed  not-finite   its output holds NaN or infinite values
      help       start at the named origin: what comes after it is only carried along; see
                 docs/causes.md#not-finite
    ");
    insta::assert_snapshot!(text(&not_run(|x| x.reshape(7), &x)), @"
    assertion `gradients_correct` did not run
    the function returned an error

      error  Shape mismatch, got buffer of size 6 which is compatible with shape [7]
    ");
    let calls = std::cell::Cell::new(0);
    let random = |x: &Tensor| {
        calls.set(calls.get() + 1);
        x * normal(calls.get(), &[2, 3], DType::F64)
    };
    insta::assert_snapshot!(text(&not_run(random, &x)), @"
    assertion `gradients_correct` did not run
    two calls of the function differ: its slope cannot be measured

      help       fix the randomness: evaluation mode, or `Seed::seed_candle`
    ");
    // The size of its output depends on the values.
    let many = |x: &Tensor| {
        let kept = x.flatten_all()?.to_vec1::<f64>()?.iter().filter(|v| **v > 0.0).count();
        x.flatten_all()?.narrow(0, 0, kept)
    };
    GradientsCorrect::new().check(many, &x).unwrap();
}

#[test]
fn a_gradient_that_is_not_finite_is_wrong_where_the_function_is_finite() {
    let zero = f64s(&[0.0, 1.0]);
    let of = |f: fn(&Tensor) -> Result<Tensor>| {
        let failure = GradientsCorrect::new().check(f, &zero).unwrap_err();
        assert_eq!(failure.cause(), Some(Cause::NotFinite), "{failure}");
        failure
    };
    insta::assert_snapshot!(text(&of(Tensor::sqrt)), @"
    assertion `gradients_correct` failed
    the gradient is not the slope of the function

      gradients  x  [2]  wrong   not finite
      slopes     in f64

      confirmed  not-finite   x[0]: the gradient is -inf, where the function is finite
      help       the derivative of `sqrt`, `log`, `norm` or `powf` is not finite at 0: add a small number before
                 them; see docs/causes.md#not-finite
                 gradients::bad_input::a_gradient_that_is_not_finite_is_wrong_where_the_function_is_finite
    ");
    of(|x| x.broadcast_add(&x.narrow(0, 0, 1)?.sqr()?.sqrt()?));
}

#[test]
fn tolerances_that_are_none_are_refused() {
    for share in [0.0, 1.0, -1.0, f64::NAN, f64::INFINITY] {
        let x = normal(1, &[2], DType::F64);
        let failure = GradientsCorrect::new().tolerance(share).check(Tensor::sqr, &x).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::NotRun);
        assert!(failure.headline().starts_with("`tolerance` is"), "{failure}");
    }
}

#[test]
fn what_has_no_f64_is_judged_in_f32_and_says_why() {
    let x = normal(1, &[2, 6], DType::F32);
    let ones = Tensor::ones(6, DType::F32, &device()).unwrap();
    let fused = |x: &Tensor| ops::layer_norm(x, &ones, &ones, 1e-5)?.sqr();
    let failure = GradientsCorrect::new().check(fused, &x).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::GradientCut), "{failure}");
    insta::assert_snapshot!(text(&failure), @"
    assertion `gradients_correct` failed
    the gradient is not the slope of the function

      gradients  x  [2, 6]  none    where there is a slope
      slopes     in f32, since on f64 the function returns an error: unsupported dtype for rmsnorm F64

      confirmed  gradient-cut   x: moving it changes the function (a slope of -16.7 along one direction), yet no
                                gradient arrives
      help       candle's `LayerNorm`, `RmsNorm`, `softmax_last_dim` and `rope` have no backward pass: use
                 `layer_norm_slow`, `rms_norm_slow`, `ops::softmax`, `rope_slow`; else look for a `detach`,
                 `argmax` or `round`. What must not train belongs into `.frozen(..)`; see
                 docs/causes.md#gradient-cut
    ");
    let slow = |x: &Tensor| ops::layer_norm_slow(x, &ones, &ones, 1e-5)?.sqr();
    let report = GradientsCorrect::new().check(slow, &x).unwrap();
    assert_eq!(report.dtype, DType::F32);

    let failure = not_run(fused, &x.to_dtype(DType::BF16).unwrap());
    insta::assert_snapshot!(text(&failure), @"
    assertion `gradients_correct` did not run
    the function returned an error

      error  unsupported dtype for rmsnorm BF16
    ");
    let half = x.to_dtype(DType::F16).unwrap();
    insta::assert_snapshot!(text(&not_run(|x| x.to_dtype(DType::F16)?.sqr(), &half)), @"
    assertion `gradients_correct` did not run
    slopes cannot be measured in f16: no step is short enough for a slope and long enough to be seen

      help       check the model in f32 or f64; a learner from `Learner::build` is built again in f64 by itself
    ");
}

#[test]
fn a_cut_gradient_of_small_size_is_seen_in_f32_too() {
    let x = normal(1, &[2, 4], DType::F32);
    for scale in [1.0, 1e-2, 1e-4] {
        let cut = |x: &Tensor| ops::softmax_last_dim(&x.to_dtype(DType::F32)?)? * scale;
        let failure = GradientsCorrect::new().check(cut, &x).unwrap_err();
        assert_eq!(failure.cause(), Some(Cause::GradientCut), "{scale}: {failure}");
    }
    let ones = Tensor::ones((5, 3), DType::F32, &device()).unwrap();
    let x = normal(1, &[1, 2, 5, 6], DType::F32);
    let cut = |x: &Tensor| rotary_emb::rope(x, &ones, &ones);
    let failure = GradientsCorrect::new().check(cut, &x).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::GradientCut), "{failure}");
    GradientsCorrect::new().check(|x: &Tensor| ops::softmax(x, D::Minus1), &x).unwrap();
}

#[test]
fn inputs_of_different_formats_are_judged_together() {
    let pair = |a, b| [normal(1, &[2, 3], a), normal(2, &[2, 3], b)];
    let f = |[a, b]: &[Tensor; 2]| a * b.to_dtype(a.dtype())?;
    for (a, b) in [(DType::F32, DType::F64), (DType::F64, DType::BF16), (DType::F32, DType::F16)] {
        let report = GradientsCorrect::new().check(f, &pair(a, b)).unwrap();
        assert_eq!((report.dtype, report.judged.len()), (DType::F64, 2), "{a:?} {b:?}");
    }
}

/// candle's conversion of f8e4m3 to f64 never returns: nothing here may call it.
#[test]
fn an_input_of_eight_bits_does_not_hang() {
    let x = normal(1, &[2, 3], DType::F32).to_dtype(DType::F8E4M3).unwrap();
    let report = GradientsCorrect::new().check(Tensor::sqr, &x).unwrap();
    assert_eq!(report.dtype, DType::F64);
    let failure = not_run(|x| x.to_dtype(DType::F32)?.sqr(), &x);
    insta::assert_snapshot!(text(&failure), @"
    assertion `gradients_correct` did not run
    slopes cannot be measured in f8e4m3: no step is short enough for a slope and long enough to be seen

      help       check the model in f32 or f64; a learner from `Learner::build` is built again in f64 by itself
    ");
    not_run(|x| x.matmul(&x.t()?)?.to_dtype(DType::F8E4M3), &x);
}

#[test]
fn a_backward_pass_that_fails_or_panics_is_told() {
    let x = normal(1, &[1, 2, 5], DType::F64);
    let kernel = normal(2, &[2, 3, 2], DType::F64);
    insta::assert_snapshot!(text(&not_run(|x| x.conv_transpose1d(&kernel, 0, 0, 1, 1, 1), &x)), @"
    assertion `gradients_correct` did not run
    the backward pass returned an error

      error  backward is not supported for conv-transpose1d

      help       an operation on the way has no backward pass for these arguments; docs/candle-audit.md lists them
    ");
    // `Ok(None)` behind another operation is what candle panics over.
    let none = |x: &Tensor| with_backward(&x.sqr()?, |_| Ok(None));
    insta::assert_snapshot!(text(&not_run(none, &x)), @"
    assertion `gradients_correct` did not run
    candle panicked in the backward pass

      panic  candle internal error - grad not populated

      help       a custom operation whose `bwd` returns `Ok(None)` does that, and some convolutions with padding;
                 docs/candle-audit.md lists them
    ");
    let failing = |x: &Tensor| with_backward(x, |_| candle_core::bail!("no idea"));
    assert!(text(&not_run(failing, &x)).contains("no idea"));
}

#[test]
fn a_closure_that_panics_panics_in_the_callers_name() {
    let x = normal(1, &[2], DType::F64);
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let f = |_: &Tensor| -> Result<Tensor> { panic!("on purpose") };
        drop(GradientsCorrect::new().check(f, &x));
    }))
    .unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"on purpose"));
}

#[test]
fn an_error_far_from_the_point_is_told_and_not_unwound() {
    // Defined at the point alone.
    let x = normal(1, &[4], DType::F64);
    let own = x.to_vec1::<f64>().unwrap();
    let f = |x: &Tensor| match x.to_vec1::<f64>()? == own {
        true => x.sqr(),
        false => candle_core::bail!("out of range"),
    };
    insta::assert_snapshot!(text(&not_run(f, &x)), @"
    assertion `gradients_correct` did not run
    the function returned an error

      error  out of range
    ");
}

#[test]
fn a_wrong_entry_that_is_a_kink_elsewhere_is_listed_once() {
    let one = |[a, b]: &[Tensor; 2]| with_backward(&(a.relu()? * b)?, |g| Ok(Some((g * 3.0)?)));
    let pair = [normal(1, &[2, 3], DType::F64), normal(2, &[2, 3], DType::F64)];
    let failure = GradientsCorrect::new().check(one, &pair).unwrap_err();
    insta::assert_snapshot!(findings(&failure), @"
    gradient-wrong | x[0][0, 0] | the gradient is -0.941, the slope -0.314; it is the slope times 3 throughout
    gradient-wrong | x[1][0, 1] | the gradient is -2.66, the slope -0.888; it is the slope times 3 throughout
    ");
}
