use candling::{FailureKind, Result, check::Labels, prelude::*};

use super::{failure, text};

fn labels(values: &[i64]) -> Result<Tensor> {
    Ok(Tensor::new(values, &Device::Cpu)?)
}

#[test]
fn labels_of_every_integer_dtype_and_shape_pass() -> Result<()> {
    let y = labels(&[0, 1, 2, 1, 0, 2])?;
    for dtype in [DType::U8, DType::U32, DType::I16, DType::I32, DType::I64] {
        let report = assert_labels!(y.to_dtype(dtype)?, 3, balance = 1.0);
        assert_eq!(report.counts, [2, 2, 2]);
    }
    assert_labels!(y.reshape((2, 3))?.t()?, 3, "turned");
    assert_labels!(labels(&[0, 0])?.narrow(0, 1, 1)?, 1);
    assert_labels!(Tensor::new(0u32, &Device::Cpu)?, 1);
    Ok(())
}

#[test]
fn labels_that_count_from_one_are_told() -> Result<()> {
    let y = labels(&[1, 3, 2, 1, 2, 3])?;
    insta::assert_snapshot!(text(Labels::new().check(&y, 3)), @"
    assertion `labels` failed
    2 of 6 labels are outside 0..3

      labels   i64 [6]
      classes  3
      counts   0: 0, 1: 2, 2: 2

      confirmed  label-out-of-range   [1]: the labels are 1..=3, and none is 0: they count from 1
      help       subtract 1 where the labels are read; one output more on the head hides it; see
                 docs/causes.md#label-out-of-range
    ");
    Ok(())
}

#[test]
fn minus_one_as_a_u32_is_told() -> Result<()> {
    let y = Tensor::new(&[[0u32, 1], [u32::MAX, 0]], &Device::Cpu)?;
    insta::assert_snapshot!(text(Labels::new().check(&y, 2)), @"
    assertion `labels` failed
    1 of 4 labels is outside 0..2

      labels   u32 [2, 2]
      classes  2
      counts   0: 2, 1: 1

      confirmed  label-out-of-range   [1, 0]: label 4294967295, which is -1 as a u32
      help       candle takes this label without an error and gives its row a loss of 0: leave such rows out
                 before the loss; see docs/causes.md#label-out-of-range
    ");
    Ok(())
}

#[test]
fn an_ignored_label_is_of_no_class() -> Result<()> {
    let y = labels(&[0, -100, 1, -100])?;
    let report = assert_labels!(y, 2, ignore = -100);
    assert_eq!((report.ignored, report.counts), (2, vec![1, 1]));
    insta::assert_snapshot!(text(Labels::new().check(&y, 2)), @"
    assertion `labels` failed
    2 of 4 labels are outside 0..2

      labels   i64 [4]
      classes  2
      counts   0: 1, 1: 1

      confirmed  label-out-of-range   [1]: label -100
      help       if -100 marks rows without a label, say `ignore = -100`, and leave them out before the loss; see
                 docs/causes.md#label-out-of-range
    ");
    let all = failure(Labels::new().ignore(-100).check(&labels(&[-100, -100])?, 2));
    assert_eq!(all.kind(), FailureKind::Vacuous);
    Ok(())
}

#[test]
fn a_class_without_a_label_is_named() -> Result<()> {
    let y = labels(&[0, 3, 0, 3, 1])?;
    insta::assert_snapshot!(text(Labels::new().check(&y, 4)), @"
    assertion `labels` failed
    class 2 has no label

      labels   i64 [5]
      classes  4
      counts   0: 2, 1: 1, 2: 0, 3: 2

      confirmed  label-missing-class   none of 5 labels is 2
      help       check the label mapping, and a split of rows that are sorted by class; see
                 docs/causes.md#label-missing-class
    ");
    assert_labels!(y, 4, allow = Cause::LabelMissingClass);
    Ok(())
}

#[test]
fn constant_labels_and_too_few_are_told() -> Result<()> {
    let constant = text(Labels::new().check(&labels(&[1, 1, 1])?, 3));
    assert!(constant.contains("all 3 labels are 1"), "{constant}");
    let few = text(Labels::new().check(&labels(&[1, 5])?, 10));
    assert!(few.contains("2 labels cannot hold 10 classes"), "{few}");
    Ok(())
}

#[test]
fn a_rare_class_is_told_where_balance_is_asked_for() -> Result<()> {
    let y = labels(&[0, 0, 0, 0, 0, 0, 1, 2, 2])?;
    assert_labels!(y, 3);
    assert_labels!(y, 3, balance = 6.0);
    insta::assert_snapshot!(text(Labels::new().balance(5.0).check(&y, 3)), @"
    assertion `labels` failed
    class 0 has 6 times as many labels as class 1, allowed 5

      labels   i64 [9]
      classes  3
      counts   0: 6, 1: 1, 2: 2

      confirmed  label-missing-class   1 label of class 1, 6 of class 0
      help       collect or oversample the rare class after the split, or weight the loss; what is so by nature
                 belongs into `balance`; see docs/causes.md#label-missing-class
    ");
    Ok(())
}

#[test]
fn what_cannot_be_judged_is_refused() -> Result<()> {
    let y = labels(&[0, 1])?;
    let refused = [
        Labels::new().check(&y.to_dtype(DType::F32)?, 2),
        Labels::new().check(&y.to_dtype(DType::BF16)?, 2),
        Labels::new().check(&y, 0),
        Labels::new().balance(0.5).check(&y, 2),
        Labels::new().balance(f64::NAN).check(&y, 2),
        Labels::new().ignore(1).check(&y, 2),
    ]
    .map(|result| {
        let failure = failure(result);
        assert_eq!(failure.kind(), FailureKind::NotRun);
        failure.headline().to_owned()
    });
    insta::assert_snapshot!(refused.join("\n"), @"
    `y` is f32 [2]; allowed: labels of an integer dtype, as u32
    `y` is bf16 [2]; allowed: labels of an integer dtype, as u32
    `classes` is 0; allowed: 1 or more
    `balance` is 0.5; allowed: 1 or more: how many times as many labels the most frequent class may have
    `balance` is NaN; allowed: 1 or more: how many times as many labels the most frequent class may have
    `ignore` is 1, a class of its own; allowed: a label outside 0..2
    ");
    let empty = Tensor::zeros((0, 3), DType::U32, &Device::Cpu)?;
    assert_eq!(failure(Labels::new().check(&empty, 2)).kind(), FailureKind::Vacuous);
    Ok(())
}
