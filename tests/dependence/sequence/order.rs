//! The order of the positions.

use candling::{
    FailureKind, Seed, assert_position_sensitive,
    candle_core::IndexOp,
    check::{PositionSensitive, PositionSensitiveReport},
    prelude::*,
};

use super::{
    SEEDS,
    small::{CPU, CacheBug, Decoder, Encoder, EncoderBug, Places, Pooling, ids},
};
use crate::support::text;

const POOLINGS: [Pooling; 3] = [Pooling::None, Pooling::Mean, Pooling::First];

fn encoder(seed: u64) -> candling::Result<Encoder> {
    Encoder::new(Seed::new(seed), DType::F32)
}

fn checked(model: &Encoder) -> candling::Result<PositionSensitiveReport> {
    PositionSensitive::new().check(|x| model.whole(x), &ids(Seed::new(5))?)
}

#[test]
fn healthy_models_pass() -> candling::Result<()> {
    for seed in 0..SEEDS {
        let ids = ids(Seed::new(seed))?;
        for pooling in &POOLINGS[..if seed < 5 { 3 } else { 1 }] {
            let pooling = *pooling;
            for places in [Places::Learned, Places::Rotary] {
                let model = encoder(seed)?.pooling(pooling).places(places);
                let report = assert_position_sensitive!(|x| model.whole(x), &ids);
                assert!(report.positions == 7 && report.change > 4.0 * report.noise, "{report:?}");
            }
        }
        let model = Decoder::new(Seed::new(seed), DType::F32, CacheBug::None)?;
        assert_position_sensitive!(|x| model.full(x), ids);
        // Its mask tells the order to a decoder without positions.
        let x = Seed::new(seed).normal("x", (2, 6, 4), DType::F32, CPU)?;
        assert_position_sensitive!(|x| x.cumsum(1), &x);
    }
    Ok(())
}

#[test]
fn models_without_positions_are_found_whatever_they_return() -> candling::Result<()> {
    for seed in 0..SEEDS {
        for pooling in [Pooling::None, Pooling::Mean] {
            let failure =
                checked(&encoder(seed)?.bug(EncoderBug::NoPositions).pooling(pooling)).unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Violated, "{failure}");
            assert_eq!(failure.cause(), Some(Cause::PositionIgnored), "{failure}");
        }
    }
    Ok(())
}

#[test]
fn positions_that_begin_anew_are_found() -> candling::Result<()> {
    for seed in 0..3 {
        for places in [Places::Learned, Places::Rotary] {
            let failure = checked(&encoder(seed)?.bug(EncoderBug::WrappedPositions).places(places))
                .unwrap_err();
            assert_eq!(failure.cause(), Some(Cause::PositionIgnored), "{failure}");
            assert_eq!(failure.findings()[0].place(), Some("distance 4"), "{failure}");
        }
    }
    Ok(())
}

#[test]
fn half_precision_is_no_alarm() -> candling::Result<()> {
    for seed in 0..4 {
        for dtype in [DType::F64, DType::F16, DType::BF16] {
            let model = Encoder::new(Seed::new(seed), dtype)?;
            let x = Seed::new(seed).normal("x", (5, 2, 16), dtype, CPU)?.transpose(0, 1)?;
            assert_position_sensitive!(|x| model.whole(x), &x, "{dtype:?}");
            let blind = model.bug(EncoderBug::NoPositions);
            let failure =
                PositionSensitive::new().check(|x: &Tensor| blind.whole(x), &x).unwrap_err();
            assert_ne!(failure.kind(), FailureKind::Vacuous, "{failure}");
            // An encoding of a hundredth of a place cannot be told from rounding.
            let small = |x: &Tensor| {
                x.broadcast_add(
                    &(Tensor::arange(0u32, 5, CPU)?.to_dtype(dtype)? * 0.001)?.unsqueeze(1)?,
                )
            };
            match PositionSensitive::new().check(small, &x) {
                Ok(_) => assert_eq!(dtype, DType::F64),
                Err(failure) => assert_eq!(failure.kind(), FailureKind::NotRun, "{failure}"),
            }
        }
    }
    Ok(())
}

#[test]
fn other_dims_and_several_inputs_are_reordered() -> candling::Result<()> {
    let x = Seed::new(1).normal("x", (2, 4, 6), DType::F32, CPU)?;
    assert_position_sensitive!(|x| x.cumsum(2), &x, dim = 2);
    let failure = PositionSensitive::new().dim(2).check(|x: &Tensor| x.cumsum(1), &x).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::PositionIgnored));
    let y = Seed::new(1).normal("y", (2, 3), DType::F32, CPU)?;
    let both = [x.clone(), y];
    assert_position_sensitive!(|[x, y]| x.i((.., 0, ..3))? + y, &both);
    PositionSensitive::new().allow(Cause::PositionIgnored).check(|x: &Tensor| x.mean(1), &x)?;
    Ok(())
}

/// Of padded rows the outputs of the padding are zeros, whatever stands there.
#[test]
fn exchanges_inside_the_padding_are_no_alarm() -> candling::Result<()> {
    for seed in 0..3 {
        let model = encoder(seed)?;
        let lengths = Tensor::new(&[[1f32, 1., 1., 0., 0., 0., 0.]], CPU)?.repeat((3, 1))?;
        let report = assert_position_sensitive!(
            |[ids, mask]| model.forward(ids, mask)?.broadcast_mul(&mask.unsqueeze(2)?),
            &[ids(Seed::new(seed))?, lengths.clone()]
        );
        assert_eq!(report.orders, 8);
        // The mask stays where it is: only the ids are reordered.
        let report = assert_position_sensitive!(
            |ids| model.forward(ids, &lengths)?.broadcast_mul(&lengths.unsqueeze(2)?),
            &ids(Seed::new(seed))?
        );
        assert_eq!(report.orders, 8);
    }
    Ok(())
}

/// As many classes as positions, from the last three positions only: what is further back may be in any order.
#[test]
fn outputs_of_the_size_of_the_time_are_no_positions() -> candling::Result<()> {
    let x = Seed::new(1).normal("x", (2, 7, 7), DType::F32, CPU)?;
    let window = |x: &Tensor| x.narrow(1, x.dim(1)? - 3, 3)?.cumsum(1)?.sqr()?.sum(1);
    let report = assert_position_sensitive!(window, &x);
    assert!(!report.per_position && report.orders == 8);
    Ok(())
}

#[test]
fn the_texts_read_well() -> candling::Result<()> {
    let of = |model: Encoder| checked(&model).map_or_else(|f| text(&f), |_| "passed".to_owned());
    let blind = || Ok::<_, candling::Failure>(encoder(3)?.bug(EncoderBug::NoPositions));
    insta::assert_snapshot!(of(blind()?), @"
    assertion `position_sensitive` failed
    in another order of the 7 positions the outputs are the same, in that order: nothing knows where a position is

      orders             reversed, rotated by one, 2 and 3 exchanged, 2 and 4 exchanged and 4 more
      rounding explains  1.85e-5

      confirmed  position-ignored   of 8 orders, none moves the output by more than 9.54e-7, beyond its order
      help       check that the positional encoding is added, and not all zeros; see
                 docs/causes.md#position-ignored
    ");
    insta::assert_snapshot!(of(blind()?.pooling(Pooling::Mean)), @"
    assertion `position_sensitive` failed
    in another order of the 7 positions the output is the same

      orders             reversed, rotated by one, 2 and 3 exchanged, 2 and 4 exchanged and 4 more
      rounding explains  1.5e-5

      confirmed  position-ignored   of 8 orders, none moves the output by more than 3.87e-7
      help       check that the positional encoding is added, and not all zeros; see
                 docs/causes.md#position-ignored
    ");
    insta::assert_snapshot!(of(encoder(3)?.bug(EncoderBug::WrappedPositions)), @"
    assertion `position_sensitive` failed
    positions 1 and 5 are the same to the function

      rounding explains  2.02e-5

      confirmed  position-ignored   distance 4: exchanged, they move the output by no more than 4.77e-7 beyond its
                                    order; 7 of 8 orders are noticed
      help       look for positions that begin anew (`position % length`), or a table shorter than the input; see
                 docs/causes.md#position-ignored
    ");
    Ok(())
}
