use candling::{FailureKind, Result, check::InRange, prelude::*};

use super::{failure, text};

fn tensor(values: &[f32]) -> Result<Tensor> {
    Ok(Tensor::new(values, &Device::Cpu)?)
}

#[test]
fn every_kind_of_range_is_understood() -> Result<()> {
    let x = tensor(&[0., 0.5, 1.])?;
    assert_in_range!(x, 0.0..=1.0);
    assert_in_range!(x, 0.0..1.5);
    assert_in_range!(x, 0.0..);
    assert_in_range!(x, ..=1.0);
    assert_in_range!(x, ..1.1);
    assert_in_range!(x, ..);
    assert!(InRange::new().check(&x, 0.0..1.0).is_err());
    assert!(InRange::new().check(&x, 0.5..).is_err());
    assert!(InRange::new().check(&x, ..0.5).is_err());
    Ok(())
}

#[test]
fn the_ends_are_rounded_to_the_dtype() -> Result<()> {
    let x = tensor(&[0.1, 0.05])?;
    for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64] {
        let x = Tensor::new(&[0.1f64, 0.05], &Device::Cpu)?.to_dtype(dtype)?;
        assert_in_range!(x, 0.05..=0.1, reaches = true, "{dtype:?}");
    }
    assert!(InRange::new().check(&x, 0.05..0.1).is_err());
    Ok(())
}

#[test]
fn integers_and_f8_are_in_ranges_too() -> Result<()> {
    let x = tensor(&[0., 1., 2.])?;
    for dtype in [DType::U8, DType::U32, DType::I16, DType::I32, DType::I64, DType::F8E4M3] {
        let x = x.to_dtype(dtype)?;
        let report = assert_in_range!(x, 0.0..=2.0, reaches = true);
        assert_eq!((report.elements, report.least, report.greatest), (3, 0.0, 2.0));
        assert!(InRange::new().check(&x, 0.0..2.0).is_err());
        assert!(InRange::new().check(&x, 0.5..9.5).is_err());
    }
    Ok(())
}

#[test]
fn values_outside_are_counted_and_the_worst_is_named() -> Result<()> {
    let x = Tensor::new(&[[0f32, 0.5, 1.2], [-3., 1., 0.1]], &Device::Cpu)?;
    insta::assert_snapshot!(text(InRange::new().check(&x, 0.0..=1.0)), @"
    assertion `in_range` failed
    2 of 6 elements are outside 0.0..=1.0 (33.3%)

      tensor    f32 [2, 3]
      least     -3.0 at [1, 0]
      greatest  1.2 at [0, 2]

      confirmed  out-of-range   [1, 0]: -3.0 is below 0.0 by 3
      help       look at the named element and follow it back; see docs/causes.md#out-of-range
    ");
    Ok(())
}

#[test]
fn the_end_itself_is_outside_where_it_is_excluded() -> Result<()> {
    let x = tensor(&[0.2, 0.5, 1.])?;
    let strict = InRange::new().strictly_inside(true);
    insta::assert_snapshot!(text(strict.check(&x, 0.0..=1.0)), @"
    assertion `in_range` failed
    1 of 3 elements is outside (0.0, 1.0) (33.3%)

      tensor    f32 [3]
      least     0.2 at [0]
      greatest  1.0 at [2]

      confirmed  out-of-range   [2]: 1.0 is the end 1.0 itself, which is excluded
      help       look at the named element and follow it back; see docs/causes.md#out-of-range
    ");
    Ok(())
}

#[test]
fn nan_is_in_no_range() -> Result<()> {
    let x = tensor(&[0.2, f32::NAN, 1.])?;
    let failure = failure(InRange::new().check(&x, ..));
    assert_eq!(failure.cause(), Some(Cause::NotFinite));
    insta::assert_snapshot!(crate::support::text(&failure), @"
    assertion `in_range` failed
    1 of 3 elements is NaN (33.3%)

      tensor    f32 [3]
      least     0.2 at [0]
      greatest  1.0 at [2]
      NaN       1, the first at [1]

      confirmed  not-finite   [1]: NaN is in no range
      help       start at the named origin: what comes after it is only carried along; see
                 docs/causes.md#not-finite
    ");
    let all = tensor(&[f32::NAN, f32::NAN])?;
    assert!(InRange::new().check(&all, 0.0..).is_err());
    Ok(())
}

#[test]
fn an_end_that_no_value_reaches_is_named() -> Result<()> {
    let x = tensor(&[0., 0.5, 0.99])?;
    let reaches = InRange::new().reaches(true);
    insta::assert_snapshot!(text(reaches.check(&x, 0.0..=1.0)), @"
    assertion `in_range` failed
    no value of the tensor reaches the high end 1.0

      tensor    f32 [3]
      least     0.0 at [0]
      greatest  0.99 at [2]

      confirmed  out-of-range   0.0..=1.0 is not filled
      help       check the scaling: the extremes were taken from other data, or clipped; see
                 docs/causes.md#out-of-range
    ");
    Ok(())
}

#[test]
fn ranges_that_cannot_be_used_are_refused() -> Result<()> {
    let x = tensor(&[0.])?;
    let refused = |result| -> String {
        let failure = failure(result);
        assert_eq!(failure.kind(), FailureKind::NotRun);
        failure.headline().to_owned()
    };
    let check = InRange::new();
    #[allow(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    let all = [
        refused(check.check(&x, 1.0..=0.0)),
        refused(check.check(&x, 1.0..1.0)),
        refused(check.check(&x, f64::NAN..1.0)),
        refused(check.clone().strictly_inside(true).check(&x, 1.0..=1.0)),
        refused(check.clone().reaches(true).check(&x, 0.0..1.0)),
    ];
    insta::assert_snapshot!(all.join("\n"), @"
    `range` is 1.0..=0.0; allowed: a range that holds a value
    `range` is 1.0..1.0; allowed: a range that holds a value
    `range` is NaN..1.0; allowed: ends that are numbers
    `range` is (1.0, 1.0); allowed: a range that holds a value
    `range` is 0.0..1.0; allowed: with `reaches`, two ends that belong to the range, as in `0.0..=1.0`
    ");
    Ok(())
}

#[test]
fn what_cannot_fail_proves_nothing() -> Result<()> {
    let empty = Tensor::zeros((0, 2), DType::F32, &Device::Cpu)?;
    let integers = Tensor::new(&[1u32], &Device::Cpu)?;
    let kinds = [
        failure(InRange::new().check(&empty, 0.0..)).kind(),
        failure(InRange::new().check(&integers, ..)).kind(),
    ];
    assert_eq!(kinds, [FailureKind::Vacuous; 2]);
    Ok(())
}
