use candling::{FailureKind, Result, check::Close, prelude::*};

use super::{failure, text};

fn tensor<const N: usize>(values: &[[f32; 3]; N]) -> Result<Tensor> {
    Ok(Tensor::new(values, &Device::Cpu)?)
}

fn base() -> Result<Tensor> {
    tensor(&[[1., -2., 3.5], [0.25, 5., -6.], [7., 0.5, 9.]])
}

fn differ(actual: &Tensor, expected: &Tensor) -> String {
    text(Close::new().check(actual, expected))
}

#[test]
fn equal_tensors_of_every_dtype_are_close() -> Result<()> {
    let whole = Tensor::new(&[[0f32, 1., 2.], [3., 4., 5.]], &Device::Cpu)?;
    for dtype in [
        DType::U8,
        DType::U32,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
        DType::F8E4M3,
    ] {
        let x = whole.to_dtype(dtype)?;
        let report = assert_close!(x, x.copy()?, "{dtype:?}");
        assert_eq!((report.elements, report.max_absolute_difference), (6, 0.0));
        let turned = x.t()?;
        assert_close!(turned, turned.contiguous()?, "{dtype:?}");
        let column = x.narrow(1, 1, 1)?;
        assert_close!(column, column.contiguous()?, "{dtype:?}");
        let row = x.narrow(0, 0, 1)?;
        let wide = row.broadcast_as((4, 3))?;
        assert_close!(wide.contiguous()?, wide, "{dtype:?}");
        let other = Tensor::new(&[[0f32, 1., 2.], [3., 4., 6.]], &Device::Cpu)?.to_dtype(dtype)?;
        let failure = failure(Close::new().check(&other, &x));
        assert_eq!(failure.cause(), Some(Cause::ValuesDiffer), "{dtype:?}");
    }
    Ok(())
}

#[test]
fn scalars_and_a_batch_of_one_are_compared() -> Result<()> {
    let x = Tensor::new(1f32, &Device::Cpu)?;
    assert_close!(x, x);
    assert_close!(x.reshape((1, 1, 1))?, x.reshape((1, 1, 1))?);
    insta::assert_snapshot!(differ(&(&x + 1.)?, &x), @"
    assertion `close` failed
    the only element differs

      tensors    f32 []
      tolerance  |actual - expected| <= 1e-5 + 1.3e-6 * |expected|
      mismatch   index  actual  expected  difference     ulps
                 []        2.0       1.0           1  8388608

      confirmed  values-differ   []: 2.0, expected 1.0
      help       start from the worst element; see docs/causes.md#values-differ
    ");
    Ok(())
}

#[test]
fn a_few_mismatches_are_listed() -> Result<()> {
    let expected = Tensor::arange(0f32, 1000., &Device::Cpu)?.reshape((10, 100))?;
    let mut values: Vec<f32> = expected.flatten_all()?.to_vec1()?;
    for (at, by) in [(1, 1e-3), (250, -2.5), (3, 0.25), (777, 40.), (801, 0.1), (999, 7.)] {
        values[at] += by;
    }
    let actual = Tensor::from_vec(values, (10, 100), &Device::Cpu)?;
    insta::assert_snapshot!(differ(&actual, &expected), @"
    assertion `close` failed
    6 of 1000 elements differ (0.6%)

      tensors         f32 [10, 100]
      tolerance       |actual - expected| <= 1e-5 + 1.3e-6 * |expected|
      worst absolute  40 at [7, 77]: 817.0, expected 777.0, allowed 0.00102
      worst relative  0.0833 at [0, 3]: 3.25, expected 3.0, allowed 1.39e-5
      mismatches      index    actual  expected  difference     ulps
                      [0, 1]    1.001       1.0       0.001     8389
                      [0, 3]     3.25       3.0        0.25  1048576
                      [2, 50]   247.5     250.0         2.5   163840
                      [7, 77]   817.0     777.0          40   655360
                      [8, 1]    801.1     801.0         0.1     1638
                      and 1 more

      confirmed  values-differ   [7, 77]: 817.0, expected 777.0
      help       start from the worst element; see docs/causes.md#values-differ
    ");
    Ok(())
}

#[test]
fn one_mismatch_in_a_million_is_not_rounded_to_nothing() -> Result<()> {
    let expected = Tensor::zeros(1_000_000, DType::F32, &Device::Cpu)?;
    let mut values = vec![0f32; 1_000_000];
    values[999_999] = 1e-3;
    let actual = Tensor::from_vec(values, 1_000_000, &Device::Cpu)?;
    insta::assert_snapshot!(differ(&actual, &expected), @"
    assertion `close` failed
    1 of 1000000 elements differs (less than 0.01%)

      tensors    f32 [1000000]
      tolerance  |actual - expected| <= 1e-5 + 1.3e-6 * |expected|
      mismatch   index     actual  expected  difference       ulps
                 [999999]   0.001       0.0       0.001  981668463

      confirmed  values-differ   [999999]: 0.001, expected 0.0
      help       start from the worst element; see docs/causes.md#values-differ
    ");
    Ok(())
}

#[test]
fn a_scaled_tensor_is_recognised() -> Result<()> {
    let x = base()?;
    insta::assert_snapshot!(differ(&(&x * 0.125)?, &x), @"
    assertion `close` failed
    all 9 elements differ

      tensors         f32 [3, 3]
      tolerance       |actual - expected| <= 1e-5 + 1.3e-6 * |expected|
      worst absolute  7.88 at [2, 2]: 1.125, expected 9.0, allowed 2.17e-5
      worst relative  0.875 at [0, 0]: 0.125, expected 1.0, allowed 1.13e-5
      mismatches      index    actual  expected  difference      ulps
                      [0, 0]    0.125       1.0       0.875  25165824
                      [0, 1]    -0.25      -2.0        1.75  25165824
                      [0, 2]   0.4375       3.5        3.06  25165824
                      [1, 0]  0.03125      0.25       0.219  25165824
                      [1, 1]    0.625       5.0        4.38  25165824
                      and 4 more

      confirmed  values-differ   actual is expected times 0.125
      help       look for a missing or doubled scale factor, or a sum where a mean was meant; see
                 docs/causes.md#values-differ
    ");
    Ok(())
}

#[test]
fn the_other_patterns_are_recognised() -> Result<()> {
    let x = base()?;
    let order = Tensor::new(&[2u32, 0, 1], &Device::Cpu)?;
    let bump = Tensor::new(&[0f32, 0., 1.], &Device::Cpu)?;
    let evidence = |actual: Tensor| -> String {
        let failure = failure(Close::new().check(&actual, &x));
        assert_eq!(failure.cause(), Some(Cause::ValuesDiffer));
        failure.findings()[0].evidence().to_owned()
    };
    let all = [
        evidence(x.neg()?),
        evidence((&x + 1.5)?),
        evidence((&x - 1.5)?),
        evidence(x.t()?),
        evidence(x.index_select(&order, 0)?),
        evidence(x.zeros_like()?),
        evidence(x.broadcast_add(&bump)?),
        evidence(x.sqr()?),
    ];
    insta::assert_snapshot!(all.join("\n"), @"
    actual is expected with its sign flipped
    actual is expected plus 1.5
    actual is expected minus 1.5
    actual is expected with dimensions 0 and 1 swapped
    actual holds the entries of expected in another order along dimension 0: 0 is 2, 1 is 0, 2 is 1
    every value of actual is 0
    all 3 mismatches have index 2 in dimension 1
    81.0, expected 9.0
    ");
    Ok(())
}

#[test]
fn nan_matches_nothing_and_equal_infinities_match() -> Result<()> {
    let infinite = tensor(&[[f32::INFINITY, f32::NEG_INFINITY, 0.]])?;
    assert_close!(infinite, infinite);
    let nan = tensor(&[[f32::NAN, 1., 2.], [0., f32::NAN, 1.]])?;
    insta::assert_snapshot!(differ(&nan, &nan), @"
    assertion `close` failed
    2 of 6 elements differ (33.3%)

      tensors     f32 [2, 3]
      tolerance   |actual - expected| <= 1e-5 + 1.3e-6 * |expected|
      NaN         2 in actual, 2 in expected; NaN matches nothing, not even NaN
      mismatches  index   actual  expected  difference
                  [0, 0]     NaN       NaN         NaN
                  [1, 1]     NaN       NaN         NaN

      confirmed  values-differ   every mismatch is NaN on one side or both
      confirmed  not-finite      2 values of actual are NaN
      help       NaN is never equal to anything: find out where it begins; see docs/causes.md#values-differ
      help       find where it begins: `assert_finite!` on what `actual` was made from; see
                 docs/causes.md#not-finite
    ");
    let failure = failure(Close::new().check(&nan, &nan));
    let causes: Vec<Cause> = failure.findings().iter().map(|f| f.cause()).collect();
    assert_eq!(causes, [Cause::ValuesDiffer, Cause::NotFinite]);
    Ok(())
}

#[test]
fn infinity_is_not_within_a_tolerance_of_infinity() -> Result<()> {
    let finite = tensor(&[[1., 2., 3.]])?;
    let infinite = tensor(&[[1., f32::INFINITY, 3.]])?;
    insta::assert_snapshot!(differ(&finite, &infinite), @"
    assertion `close` failed
    1 of 3 elements differs (33.3%)

      tensors    f32 [1, 3]
      tolerance  |actual - expected| <= 1e-5 + 1.3e-6 * |expected|
      mismatch   index   actual  expected  difference
                 [0, 1]     2.0       inf         inf

      confirmed  values-differ   [0, 1]: 2.0, expected inf
      help       start from the worst element; see docs/causes.md#values-differ
    ");
    Ok(())
}

#[test]
fn zeros_of_both_signs_match_and_a_subnormal_is_not_zero() -> Result<()> {
    let zero = Tensor::new(&[0f32], &Device::Cpu)?;
    assert_close!(zero.neg()?, zero, tolerance = Tolerance::exact());
    let subnormal = Tensor::new(&[f32::from_bits(1)], &Device::Cpu)?;
    assert_close!(subnormal, zero);
    let exact = Close::new().tolerance(Tolerance::exact());
    insta::assert_snapshot!(text(exact.check(&subnormal, &zero)), @"
    assertion `close` failed
    the only element differs

      tensors    f32 [1]
      tolerance  none: equal values only
      mismatch   index  actual  expected  difference  ulps
                 [0]     1e-45       0.0     1.4e-45     1

      confirmed  values-differ   [0]: 1e-45, expected 0.0
      help       start from the worst element; see docs/causes.md#values-differ
    ");
    Ok(())
}

#[test]
fn integers_beyond_the_precision_of_f64_are_told_apart() -> Result<()> {
    let big = (1i64 << 53) + 1;
    let expected = Tensor::new(&[big, big], &Device::Cpu)?;
    let actual = Tensor::new(&[big, big - 1], &Device::Cpu)?;
    insta::assert_snapshot!(differ(&actual, &expected), @"
    assertion `close` failed
    1 of 2 elements differs (50%)

      tensors    i64 [2]
      tolerance  none: equal values only
      mismatch   index            actual          expected  difference
                 [1]    9007199254740992  9007199254740993           1

      confirmed  values-differ   [1]: 9007199254740992, expected 9007199254740993
      help       start from the worst element; see docs/causes.md#values-differ
    ");
    assert_close!(actual, expected, tolerance = 1.0);
    Ok(())
}

#[test]
fn half_precision_is_compared_by_its_own_bounds() -> Result<()> {
    for (dtype, near, far) in [(DType::BF16, 1.01, 1.05), (DType::F16, 1.0004, 1.01)] {
        let x = base()?.to_dtype(dtype)?;
        let scaled = |by: f64| (base()? * by)?.to_dtype(dtype).map_err(Failure::from);
        assert_close!(scaled(near)?, x);
        assert!(Close::new().check(&scaled(far)?, &x).is_err());
    }
    Ok(())
}

#[test]
fn shapes_that_differ_are_told_with_what_would_make_them_agree() -> Result<()> {
    let x = tensor(&[[1., 2., 3.], [4., 5., 6.]])?;
    insta::assert_snapshot!(differ(&x.t()?, &x), @"
    assertion `close` failed
    the shapes differ: [3, 2], expected [2, 3]

      actual    f32 [3, 2]
      expected  f32 [2, 3]

      confirmed  shape-mismatch   the values agree with dimensions 0 and 1 swapped
      help       swap them on one side: `.transpose(0, 1)?`; see docs/causes.md#shape-mismatch
    ");
    insta::assert_snapshot!(differ(&x.unsqueeze(1)?, &x), @"
    assertion `close` failed
    the shapes differ: [2, 1, 3], expected [2, 3]

      actual    f32 [2, 1, 3]
      expected  f32 [2, 3]

      confirmed  shape-mismatch   the values agree once dimensions of size 1 are left out
      help       bring both to one shape, with `squeeze` or `unsqueeze`; see docs/causes.md#shape-mismatch
    ");
    insta::assert_snapshot!(differ(&x.reshape((3, 2))?, &x), @"
    assertion `close` failed
    the shapes differ: [3, 2], expected [2, 3]

      actual    f32 [3, 2]
      expected  f32 [2, 3]

      confirmed  shape-mismatch   as many elements, in another shape
      help       look for a missing `reshape`, `transpose` or `unsqueeze`; see docs/causes.md#shape-mismatch
    ");
    insta::assert_snapshot!(differ(&x.narrow(0, 0, 1)?, &x), @"
    assertion `close` failed
    the shapes differ: [1, 3], expected [2, 3]

      actual    f32 [1, 3]
      expected  f32 [2, 3]

      confirmed  shape-mismatch   [1, 3] is not [2, 3]
      help       follow the named dimension back to where it took the wrong size; see
                 docs/causes.md#shape-mismatch
    ");
    Ok(())
}

#[test]
fn dtypes_must_agree() -> Result<()> {
    let x = base()?;
    insta::assert_snapshot!(differ(&x, &x.to_dtype(DType::F64)?), @"
    assertion `close` failed
    the dtypes differ: f32, expected f64

      actual    f32 [3, 3]
      expected  f64 [3, 3]

      confirmed  values-differ   values of two dtypes are not compared
      help       convert one of the two, say with `.to_dtype(DType::F64)?`; see docs/causes.md#values-differ
    ");
    Ok(())
}

#[test]
fn two_empty_tensors_prove_nothing() -> Result<()> {
    let x = Tensor::zeros((0, 3), DType::F32, &Device::Cpu)?;
    let failure = failure(Close::new().check(&x, &x));
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(crate::support::text(&failure), @"
    assertion `close` proves nothing here
    no element was compared: both tensors are empty

      tensors  f32 [0, 3]

      help       compare tensors that hold something, or assert the shape
    ");
    Ok(())
}

#[test]
fn a_tolerance_that_cannot_be_used_is_refused() -> Result<()> {
    let x = base()?;
    let refused = text(Close::new().tolerance(-1.0).check(&x, &x));
    insta::assert_snapshot!(refused, @"
    assertion `close` did not run
    `tolerance` is absolute -1; allowed: 0 or more
    ");
    let failure = failure(Close::new().tolerance(Tolerance::relative(f64::NAN)).check(&x, &x));
    assert_eq!(failure.kind(), FailureKind::NotRun);
    Ok(())
}

#[test]
fn the_failure_is_where_the_check_was_called() -> Result<()> {
    let x = base()?;
    let failure = failure(Close::new().check(&(&x + 1.)?, &x));
    let location = failure.location().expect("a location");
    assert!(location.file().ends_with("close.rs"), "{location}");
    Ok(())
}

#[test]
#[should_panic(expected = "after 3 steps")]
fn the_macro_panics_with_its_context() {
    let x = Tensor::new(&[1f32], &Device::Cpu).expect("a tensor");
    let y = Tensor::new(&[2f32], &Device::Cpu).expect("a tensor");
    assert_close!(x, y, tolerance = 0.5, "after {} steps", 3);
}
