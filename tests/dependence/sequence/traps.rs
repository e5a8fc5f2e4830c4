//! Outputs and masks that once misled.

use candling::{
    FailureKind, Seed,
    check::{CacheConsistent, PaddingInvariant, PositionSensitive},
    prelude::*,
};

use super::small::{CPU, CacheBug, Decoder, ids};
use crate::support::text;

#[test]
fn a_masked_vocabulary_hides_no_cache() -> candling::Result<()> {
    let vocabulary: Vec<f32> = (0..17).map(|i| if i % 3 == 0 { 0.0 } else { -1e9 }).collect();
    for seed in (0..10).map(Seed::new) {
        for dtype in [DType::F32, DType::F16] {
            let vocabulary = Tensor::new(vocabulary.as_slice(), CPU)?.to_dtype(dtype)?;
            let checked = |bug| {
                let model = Decoder::new(seed, dtype, bug)?;
                CacheConsistent::new().check(
                    |x| model.full(x)?.broadcast_add(&vocabulary),
                    |x, at| model.step(x, at)?.broadcast_add(&vocabulary),
                    &ids(seed)?,
                )
            };
            let report = checked(CacheBug::None)?;
            assert!(report.allowed < 0.5, "{report:?}");
            let failure = checked(CacheBug::OneLayerNotKept).unwrap_err();
            assert_eq!(failure.cause(), Some(Cause::CacheMismatch), "{failure}");
        }
    }
    Ok(())
}

/// Logits of 20 in f16 are 0.016 apart, and their probabilities a quarter of that.
#[test]
fn probabilities_in_half_precision_are_no_alarm() -> candling::Result<()> {
    for seed in (0..12).map(Seed::new) {
        for dtype in [DType::F16, DType::BF16] {
            let model = Decoder::new(seed, dtype, CacheBug::None)?;
            let sharp = |logits: Tensor| candle_nn::ops::softmax(&(logits * 20.0)?, 2);
            assert_cache_consistent!(
                |x| sharp(model.full(x)?),
                |x, at| sharp(model.step(x, at)?),
                &ids(seed)?,
                "{seed:?} {dtype:?}"
            );
        }
    }
    Ok(())
}

/// Padding of zeros times its mask is the padding: that is no sign of a mask that is not read.
#[test]
fn a_maximum_sees_masked_zeros() -> candling::Result<()> {
    let x = Seed::new(1).normal("x", (3, 6, 4), DType::F32, CPU)?;
    let largest = |x: &Tensor, mask: &Tensor| x.broadcast_mul(&mask.unsqueeze(2)?)?.max(1);
    let failure = PaddingInvariant::new().check(largest, &x).unwrap_err();
    insta::assert_snapshot!(text(&failure), @"
    assertion `padding_invariant` failed
    rows of 4, padded by 2 on the right, row 0, output 3 is 0 instead of -0.334

      tried              padded by 1 on the right                equal
                         padded by 6 on the right                equal
                         with other content on the right         equal
                         a row alone, padded by 6 on the right   equal
                         rows of 4, padded by 2 on the right     differs by 0.334
      rounding explains  1.5e-5
      mask               1 for real, 0 for padding, of f32

      confirmed  padding-leak   row 0, output 3: what the padding holds does not matter, and how much there is
                                does: something counts it, or positions shift
      help       look for a mean or a norm over time that divides by its length, for a maximum that sees masked
                 zeros, and for positions that are not counted from the first real one; see
                 docs/causes.md#padding-leak
    ");
    Ok(())
}

#[test]
fn a_class_that_no_order_changes_is_not_judged() -> candling::Result<()> {
    let x = Seed::new(1).normal("x", (3, 6, 4), DType::F32, CPU)?;
    let failure = PositionSensitive::new().check(|x: &Tensor| x.sum(1)?.argmax(1), &x).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::NotRun);
    insta::assert_snapshot!(text(&failure), @"
    assertion `position_sensitive` did not run
    the function returned a tensor of dtype u32: a decision that no other order changes tells nothing of the order

      help       return the logits, in place of their argmax
    ");
    assert_position_sensitive!(|x| x.cumsum(1)?.ge(0.0), &x);
    Ok(())
}
