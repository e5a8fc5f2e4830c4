use candling::{FailureKind, Result, check::Disjoint, prelude::*};

use super::{failure, text};

fn rows(n: usize) -> Result<Tensor> {
    Ok(Seed::new(1).normal("x", (n, 3), DType::F32, &Device::Cpu)?)
}

#[test]
fn sets_without_a_common_row_pass_in_every_dtype_and_layout() -> Result<()> {
    let x = rows(20)?;
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        let x = x.to_dtype(dtype)?;
        let report = assert_disjoint!(x.narrow(0, 0, 15)?, x.narrow(0, 15, 5)?);
        assert_eq!((report.train_rows, report.validation_rows, report.shared), (15, 5, 0));
    }
    let turned = x.t()?.contiguous()?.t()?;
    assert_disjoint!(turned.narrow(0, 0, 9)?, &x.narrow(0, 9, 11)?, "turned {}", 1);
    let ids = Tensor::arange(0u32, 10, &Device::Cpu)?;
    assert_disjoint!(ids.narrow(0, 0, 6)?, ids.narrow(0, 6, 4)?);
    Ok(())
}

#[test]
fn slices_that_overlap_are_told() -> Result<()> {
    let x = rows(20)?;
    let result = Disjoint::new().check(&x.narrow(0, 0, 15)?, &x.narrow(0, 13, 7)?);
    insta::assert_snapshot!(text(result), @"
    assertion `disjoint` failed
    2 of 7 validation rows are in the training set (28.6%)

      train       f32 [15, 3]
      validation  f32 [7, 3]
      rows        validation 0 = 13, 1 = 14 in train

      confirmed  split-overlap   validation row 0, train row 13: validation rows 0..2 are train rows 13..15, in
                                 order: two slices of one set overlap
      help       let one slice begin where the other ends; see docs/causes.md#split-overlap
    ");
    Ok(())
}

#[test]
fn copies_on_both_sides_are_named_with_the_duplicates() -> Result<()> {
    let x = rows(12)?;
    let train = Tensor::cat(&[x.narrow(0, 0, 8)?, x.narrow(0, 2, 1)?], 0)?;
    let order = Tensor::new(&[9u32, 7, 10, 1, 3, 0, 5, 11], &Device::Cpu)?;
    let result = Disjoint::new().check(&train, &x.index_select(&order, 0)?);
    insta::assert_snapshot!(text(result), @"
    assertion `disjoint` failed
    5 of 8 validation rows are in the training set (62.5%)

      train       f32 [9, 3]
      validation  f32 [8, 3]
      rows        validation 1 = 7, 3 = 1, 4 = 3, 5 = 0 and 1 more in train
      repeated    1 row of train equals an earlier row of it

      confirmed  split-overlap   validation row 1, train row 7: 5 rows of the same values
      help       split before augmenting, and split by sample, not by view of a sample; see
                 docs/causes.md#split-overlap
    ");
    Ok(())
}

#[test]
fn a_row_is_found_in_another_dtype_and_layout() -> Result<()> {
    let x = Tensor::new(&[[0f32, 1.0], [f32::NAN, 2.0], [4.0, 5.0]], &Device::Cpu)?;
    let one = |values: [f64; 2]| -> Result<Tensor> { Ok(Tensor::new(&[values], &Device::Cpu)?) };
    for row in [[-0.0, 1.0], [f64::NAN, 2.0], [4.0, 5.0]] {
        let failure = failure(Disjoint::new().check(&x, &one(row)?));
        assert_eq!(failure.cause(), Some(Cause::SplitOverlap));
    }
    assert_disjoint!(x, one([1.0, 0.0])?);
    let turned = x.t()?.contiguous()?.t()?;
    assert!(Disjoint::new().check(&turned, &x.narrow(0, 2, 1)?).is_err());
    let bytes = Tensor::new(&[[4u8, 5]], &Device::Cpu)?;
    assert!(Disjoint::new().check(&x, &bytes).is_err());
    Ok(())
}

#[test]
fn the_same_set_twice_is_told_and_can_be_allowed() -> Result<()> {
    let x = rows(6)?;
    let said = text(Disjoint::new().check(&x, &x));
    assert!(said.contains("all 6 validation rows are in the training set"), "{said}");
    let report = assert_disjoint!(x, x, allow = Cause::SplitOverlap);
    assert_eq!((report.shared, report.train_duplicates), (6, 0));
    Ok(())
}

#[test]
fn what_cannot_be_compared_is_refused() -> Result<()> {
    let x = rows(4)?;
    let scalar = Tensor::new(1f32, &Device::Cpu)?;
    let refused = [
        Disjoint::new().check(&scalar, &x),
        Disjoint::new().check(&x, &x.narrow(1, 0, 2)?),
        Disjoint::new().check(&x, &x.narrow(0, 0, 0)?),
        Disjoint::new().check(&x.narrow(1, 0, 0)?, &x.narrow(1, 0, 0)?),
    ]
    .map(|result| {
        let failure = failure(result);
        assert_ne!(failure.kind(), FailureKind::Violated);
        failure.headline().to_owned()
    });
    insta::assert_snapshot!(refused.join("\n"), @"
    `train` is f32 [], a scalar; allowed: rows as the first dimension
    `validation` is f32 [4, 2] beside f32 [4, 3]; allowed: rows of the dimensions that `train` has
    `validation` is empty: nothing could be shared
    `train` is empty: nothing could be shared
    ");
    Ok(())
}
