//! Equivalence: what it sees, what it says, and what it refuses.

use candle_core::{DType, Device, Result, Tensor};
use candling::{
    Cause, Failure, FailureKind, Seed, Tolerance, assert_equivalent, check::Equivalent,
};

use crate::support::text;

const CPU: &Device = &Device::Cpu;

fn normal(dims: &[usize], dtype: DType) -> Tensor {
    Seed::new(1).normal("x", dims, dtype, CPU).unwrap()
}

fn apart(
    f: impl FnMut(&Tensor) -> Result<Tensor>,
    g: impl FnMut(&Tensor) -> Result<Tensor>,
    x: &Tensor,
) -> Failure {
    Equivalent::new().check(f, g, x).unwrap_err()
}

#[test]
fn the_two_gelus_are_told_apart() {
    let x = normal(&[4, 16], DType::F32);
    let failure = apart(Tensor::gelu, Tensor::gelu_erf, &x);
    assert_eq!(failure.cause(), Some(Cause::ValuesDiffer));
    insta::assert_snapshot!(text(&failure), @"");
    assert_equivalent!(|x| x.gelu(), |x| x.gelu_erf(), &x, tolerance = 1e-3);
    assert_equivalent!(|x| x.gelu(), |x| x.gelu_erf(), x, allow = Cause::ValuesDiffer);
}

#[test]
fn large_outputs_are_not_held_to_a_small_bound() {
    let x = (normal(&[8, 64], DType::F32) * 1e4).unwrap();
    let report = assert_equivalent!(
        |x| x.sum(1),
        |x| x.flip(&[1])?.cumsum(1)?.narrow(1, 63, 1)?.squeeze(1),
        &x
    );
    assert!(report.max_absolute_difference > 1e-5, "{report:?}");
    assert_eq!((report.cases, report.exact), (1, 0));
}

#[test]
fn formats_are_compared_in_the_coarser_one() {
    let x = normal(&[8, 64], DType::F32);
    let w = normal(&[64, 16], DType::F32);
    let wide = |x: &Tensor| x.matmul(&w)?.tanh();
    for dtype in [DType::F64, DType::F16, DType::BF16] {
        let cast = |x: &Tensor| x.to_dtype(dtype)?.matmul(&w.to_dtype(dtype)?)?.tanh();
        assert_equivalent!(cast, wide, &x, "{dtype:?}");
        assert_equivalent!(wide, cast, &x, "{dtype:?}");
        assert_equivalent!(|x| cast(x)?.to_dtype(DType::F32), wide, &x, "{dtype:?} and back");
    }
    let half = x.to_dtype(DType::BF16).unwrap();
    assert_equivalent!(|x| x.sum(1), |x| x.flip(&[1])?.sum(1), &half);
    let failure = apart(|x| (x * 1.5)?.to_dtype(DType::BF16), |x| Ok(x.clone()), &x);
    assert!(text(&failure).contains("times 1.5"), "{failure}");
}

#[test]
fn patterns_and_shapes_are_recognised() {
    let x = normal(&[4, 4], DType::F32);
    let failure = apart(|x| x.t(), |x| Ok(x.clone()), &x);
    assert!(text(&failure).contains("dimensions 0 and 1 swapped"), "{failure}");
    let failure = apart(|x| x.neg(), |x| Ok(x.clone()), &x);
    assert!(text(&failure).contains("sign flipped"), "{failure}");
    let failure = apart(|x| x.sum(1), |x| x.sum_keepdim(1), &x);
    assert_eq!(failure.cause(), Some(Cause::ShapeMismatch));
    insta::assert_snapshot!(text(&failure), @"");
}

#[test]
fn integers_are_exact_and_scalars_are_inputs() {
    let ids = Tensor::new(&[[3u32, 1, 2]], CPU).unwrap();
    assert_equivalent!(|x| x.sum(1), |x| x.flip(&[1])?.sum(1), &ids);
    assert_eq!(apart(|x| x + 1.0, |x| Ok(x.clone()), &ids).cause(), Some(Cause::ValuesDiffer));
    let scalar = Tensor::new(2f32, CPU).unwrap();
    assert_equivalent!(|x| x.sqr(), |x| x * x, &scalar);
    let both = [scalar.clone(), normal(&[3], DType::F32)];
    assert_equivalent!(|[a, b]| b.broadcast_mul(a), |[a, b]| a.broadcast_mul(b), &both);
    let x = normal(&[6, 4], DType::F32);
    assert_equivalent!(|x| x.sum(0), |x| x.t()?.contiguous()?.sum(1), &x.narrow(0, 1, 3).unwrap());
    assert_equivalent!(|x| x.sum(0), |x| x.t()?.contiguous()?.sum(1), &x.t().unwrap());
}

#[test]
fn what_could_not_have_failed_is_no_pass() {
    let x = normal(&[4, 3], DType::F32);
    let failure = apart(|x| x.zeros_like(), |x| x.zeros_like(), &x);
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(text(&failure), @"");
    let zeros = x.zeros_like().unwrap();
    let failure = apart(|x| Ok(x.clone()), |x| x.zeros_like(), &zeros);
    assert!(failure.headline().starts_with("the second function does not depend"), "{failure}");
    let wide = Equivalent::new().tolerance(Tolerance::absolute(100.0));
    assert_eq!(
        wide.check(Tensor::gelu, Tensor::relu, &x).unwrap_err().kind(),
        FailureKind::Vacuous
    );
    let empty = Tensor::zeros((0, 3), DType::F32, CPU).unwrap();
    assert_eq!(apart(Tensor::gelu, Tensor::gelu, &empty).kind(), FailureKind::Vacuous);
}

#[test]
fn the_function_that_cannot_be_judged_is_named() {
    let x = normal(&[4, 3], DType::F32);
    let not_run = |failure: Failure| {
        assert_eq!(failure.kind(), FailureKind::NotRun, "{failure}");
        text(&failure)
    };
    insta::assert_snapshot!(not_run(apart(Tensor::tanh, |x| x.reshape(7), &x)), @"");
    let random = |x: &Tensor| x + x.rand_like(0.0, 1.0)?;
    insta::assert_snapshot!(not_run(apart(random, Tensor::tanh, &x)), @"");
    let nan = (&x * f64::NAN).unwrap();
    assert!(not_run(apart(Tensor::tanh, Tensor::tanh, &nan)).contains("not-finite"));
    assert!(not_run(apart(Tensor::tanh, Tensor::log, &x)).contains("the second of the two"));
}
