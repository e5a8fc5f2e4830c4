use candling::{FailureKind, Result, check::Finite, prelude::*};

use super::{failure, text};

#[test]
fn finite_floats_of_every_dtype_and_layout_pass() -> Result<()> {
    let x = Tensor::new(&[[0f32, -1., 2.], [3., 4., 5.]], &Device::Cpu)?;
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64, DType::F8E4M3] {
        assert_eq!(assert_finite!(x.to_dtype(dtype)?).elements, 6);
        assert_finite!(x.to_dtype(dtype)?.t()?);
    }
    assert_finite!(Tensor::new(f32::MAX, &Device::Cpu)?);
    Ok(())
}

#[test]
fn each_kind_is_counted_and_the_first_is_named() -> Result<()> {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let x = Tensor::new(&[[0f32, 1., -inf], [nan, inf, nan]], &Device::Cpu)?;
    insta::assert_snapshot!(text(Finite::new().check(&x)), @"
    assertion `finite` failed
    4 of 6 elements are not finite (66.7%)

      tensor  f32 [2, 3]
      NaN     2
      inf     1
      -inf    1

      confirmed  not-finite   [0, 2]: -inf, the first
      help       follow it back: check what this tensor was made from, the same way; see docs/causes.md#not-finite
    ");
    Ok(())
}

#[test]
fn nan_in_one_column_is_said_to_be_there() -> Result<()> {
    let x = Tensor::new(&[[0f32, f32::NAN], [1., f32::NAN], [2., f32::NAN]], &Device::Cpu)?;
    insta::assert_snapshot!(text(Finite::new().check(&x)), @"
    assertion `finite` failed
    3 of 6 elements are not finite (50%)

      tensor  f32 [3, 2]
      NaN     3
      where   all have index 1 in dimension 1

      confirmed  not-finite   [0, 1]: NaN, the first
      help       follow it back: check what this tensor was made from, the same way; see docs/causes.md#not-finite
    ");
    Ok(())
}

#[test]
fn what_cannot_fail_proves_nothing() -> Result<()> {
    let integers = Tensor::new(&[1u32, 2], &Device::Cpu)?;
    insta::assert_snapshot!(text(Finite::new().check(&integers)), @"
    assertion `finite` proves nothing here
    integers are always finite

      tensor  u32 [2]

      help       check the tensor before it is converted, where NaN becomes 0
    ");
    let empty = Tensor::zeros(0, DType::F32, &Device::Cpu)?;
    let failure = failure(Finite::new().check(&empty));
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(crate::support::text(&failure), @"
    assertion `finite` proves nothing here
    the tensor is empty: no value was looked at

      tensor  f32 [0]
    ");
    Ok(())
}
