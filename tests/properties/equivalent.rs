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
    insta::assert_snapshot!(text(&failure), @"
    assertion `equivalent` failed
    the two functions disagree: 54 of 64 elements differ (84.4%)

      input           dims [4, 16]
      actual          the first function, f32 [4, 16]
      expected        the second function, f32 [4, 16]
      tensors         f32 [4, 16]
      tolerance       |actual - expected| <= 1.91e-6 + 9.54e-7 * |expected|
      worst absolute  0.000454 at [2, 12]: -0.013447199, expected -0.013900713, allowed 1.92e-6
      worst relative  0.0326 at [2, 12]: -0.013447199, expected -0.013900713, allowed 1.92e-6
      mismatches      index         actual     expected  difference  ulps
                      [0, 0]    0.19051704   0.19051978     2.74e-6   184
                      [0, 1]     1.1802431    1.1804739    0.000231  1936
                      [0, 3]  -0.123203404  -0.12319963     3.78e-6   507
                      [0, 4]   -0.16046308   -0.1603176    0.000145  9763
                      [0, 5]   -0.15840237  -0.15838058     2.18e-5  1462
                      and 49 more
      noise           moving the input by its last place moves the output by 2.38e-7; 8 times that is allowed

      confirmed  values-differ   [2, 12]: -0.013447199, expected -0.013900713
      help       start from the worst element; see docs/causes.md#values-differ
    ");
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
    assert_eq!(failure.cause(), Some(Cause::ValuesDiffer));
}

#[test]
fn patterns_and_shapes_are_recognised() {
    let x = normal(&[4, 4], DType::F32);
    let failure = apart(|x| x.t(), |x| Ok(x.clone()), &x);
    assert!(text(&failure).contains("dimensions 0 and 1 swapped"), "{failure}");
    let failure = apart(|x| (x * 1.5)?.to_dtype(DType::F64), |x| Ok(x.clone()), &x);
    assert!(text(&failure).contains("times 1.5"), "{failure}");
    let failure = apart(|x| x.neg(), |x| Ok(x.clone()), &x);
    assert!(text(&failure).contains("sign flipped"), "{failure}");
    let failure = apart(|x| x.sum(1), |x| x.sum_keepdim(1), &x);
    assert_eq!(failure.cause(), Some(Cause::ShapeMismatch));
    insta::assert_snapshot!(text(&failure), @"
    assertion `equivalent` failed
    the two functions return different shapes: [4] and [4, 1]

      input     dims [4, 4]
      actual    the first function, f32 [4]
      expected  the second function, f32 [4, 1]

      confirmed  shape-mismatch   [4] is not [4, 1]
      help       as many elements: look for a missing `reshape`, `transpose` or `unsqueeze`; see
                 docs/causes.md#shape-mismatch
    ");
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
    insta::assert_snapshot!(text(&failure), @"
    assertion `equivalent` proves nothing here
    the first function does not depend on its input here: whatever is done to it, the output stays

      confirmed  output-constant   16 other inputs of the same kind give the same output
      help       look for a softmax over a dimension of size 1, dead units, or an input that is never used; see
                 docs/causes.md#output-constant
    ");
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
    insta::assert_snapshot!(not_run(apart(Tensor::tanh, |x| x.reshape(7), &x)), @"
    assertion `equivalent` did not run
    the second function returned an error

      error  Shape mismatch, got buffer of size 12 which is compatible with shape [7]
    ");
    let random = |x: &Tensor| x + x.rand_like(0.0, 1.0)?;
    insta::assert_snapshot!(not_run(apart(random, Tensor::tanh, &x)), @"
    assertion `equivalent` did not run
    two calls on the same input give two results: what depends on what cannot be told

      function  the first function

      possible   dropout-in-eval   four calls, no two of them in a row equal: active dropout or another random
                                   draw would do that
      possible   state-kept        a cache or a running average that grows with every call would do it, too
      help       call the model in evaluation mode (`forward_t(x, false)`), and reset its cache in the closure;
                 `assert_deterministic!` tells the two apart
    ");
    let nan = (&x * f64::NAN).unwrap();
    assert!(not_run(apart(Tensor::tanh, Tensor::tanh, &nan)).contains("not-finite"));
    assert!(not_run(apart(Tensor::tanh, Tensor::log, &x)).contains("the second function"));
}

/// Llama casts its logits to f32, whatever it computes in: of ids, which have no last place to be moved by, nothing else tells
/// how it rounds.
#[test]
fn an_output_computed_in_a_narrower_format_is_told() -> candling::Result<()> {
    let ids = Seed::new(1).tokens("ids", 20, (4, 6), CPU)?;
    let table = normal(&[20, 8], DType::F32);
    let rows = |ids: &Tensor, table: &Tensor| table.index_select(&ids.flatten_all()?, 0)?.tanh();
    let full = |ids: &Tensor| rows(ids, &table);
    let narrow = |ids: &Tensor| rows(ids, &table.to_dtype(DType::BF16)?);
    let widened = |ids: &Tensor| narrow(ids)?.to_dtype(DType::F32);
    let failure = Equivalent::new().check(full, widened, &ids).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::ValuesDiffer));
    let said = "every value of the second function is exact in bf16";
    assert!(failure.text().replace('\n', " ").contains(said), "{failure}");
    Equivalent::new().check(full, narrow, &ids)?;

    // Halves are exact in any format, and so few of them say nothing.
    let some = |ids: &Tensor| full(ids)?.narrow(1, 0, 1)?.narrow(0, 0, 12);
    let halves = |ids: &Tensor| (some(ids)? * 2.0)?.round()? / 2.0;
    let failure = Equivalent::new().check(some, halves, &ids).unwrap_err();
    assert!(!failure.text().contains("is exact in"), "{failure}");
    Ok(())
}
