//! Padding.

use candling::{
    FailureKind, Seed, assert_padding_invariant,
    candle_core::{D, IndexOp},
    candle_nn::ops::softmax,
    check::{PaddingInvariant, PaddingInvariantReport, Side},
    prelude::*,
};

use super::{
    SEEDS,
    small::{CPU, Encoder, EncoderBug, Places, Pooling, VOCABULARY, ids},
};
use crate::support::text;

fn encoder(seed: u64) -> candling::Result<Encoder> {
    Encoder::new(Seed::new(seed), DType::F32)
}

fn checked(model: &Encoder, side: Side) -> candling::Result<PaddingInvariantReport> {
    PaddingInvariant::new().side(side).check(|x, mask| model.forward(x, mask), &ids(Seed::new(5))?)
}

#[test]
fn healthy_encoders_pass() -> candling::Result<()> {
    for seed in 0..SEEDS {
        for masked in [f64::NEG_INFINITY, -1e9] {
            let poolings = [Pooling::None, Pooling::Mean, Pooling::First];
            // The same network under another pooling, on the first seeds.
            for pooling in &poolings[..if seed < 5 { 3 } else { 1 }] {
                let pooling = *pooling;
                let model = encoder(seed)?.masked(masked).pooling(pooling);
                let ids = ids(Seed::new(seed))?;
                let report = assert_padding_invariant!(|x, mask| model.forward(x, mask), ids);
                assert_eq!(report.per_position, pooling == Pooling::None);
                assert!(report.tried == 5 && !report.reads_pad && report.mask_dtype == DType::F32);
                assert!(report.difference * 4.0 < report.allowed, "{report:?}");
                let one = ids.narrow(0, 1, 1)?;
                assert_padding_invariant!(|x, mask| model.forward(x, mask), &one, pad = 3);
            }
            // Relative positions bear padding on the left.
            let model = encoder(seed)?.masked(masked).places(Places::Rotary);
            assert_eq!(checked(&model, Side::Both)?.tried, 10);
        }
    }
    Ok(())
}

#[test]
fn every_float_and_layout_passes() -> candling::Result<()> {
    for seed in 0..4 {
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            let model = Encoder::new(Seed::new(seed), dtype)?.pooling(Pooling::Mean);
            let x = Seed::new(seed).normal("x", (5, 2, 16), dtype, CPU)?.transpose(0, 1)?;
            let report = assert_padding_invariant!(|x, mask| model.forward(x, mask), &x);
            assert_eq!(report.mask_dtype, dtype);
            assert_padding_invariant!(|x, mask| model.forward(x, mask), &x, mask_dtype = DType::U8);
            let ids = ids(Seed::new(seed))?;
            assert_padding_invariant!(|x, mask| model.forward(x, mask)?.to_dtype(DType::F32), &ids);
        }
    }
    Ok(())
}

#[test]
fn every_defect_is_found_on_every_seed_and_named() -> candling::Result<()> {
    use EncoderBug as Bug;
    let cases = [
        (Bug::PaddingIgnored, Pooling::None, Side::Right, "the mask is never read"),
        (Bug::PaddingIgnored, Pooling::Mean, Side::Right, "they are read"),
        (Bug::SoftMask, Pooling::None, Side::Right, "they are read"),
        (
            Bug::MaskOfFirstRow,
            Pooling::None,
            Side::Right,
            "one row's mask or length is used for all",
        ),
        (Bug::NoMaskForOneRow, Pooling::None, Side::Right, "the mask is left out for one row"),
        (Bug::NoMaskForOneRow, Pooling::Mean, Side::Right, "the mask is left out for one row"),
        (Bug::None, Pooling::MeanOfAll, Side::Right, "they are read"),
        (Bug::None, Pooling::SumOverTime, Side::Right, "the mean counts the padding"),
        (Bug::RotatesQueriesOnly, Pooling::None, Side::Both, "queries and keys alike"),
        (Bug::None, Pooling::None, Side::Both, "the positions are absolute"),
    ];
    for (bug, pooling, side, words) in cases {
        for seed in 0..3 {
            let model = encoder(seed)?.bug(bug).pooling(pooling);
            let model = match bug {
                Bug::RotatesQueriesOnly => model.places(Places::Rotary),
                _ => model,
            };
            let failure = checked(&model, side).expect_err(&format!("{bug:?}, {seed}"));
            let flat = text(&failure).split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(failure.kind(), FailureKind::Violated, "{bug:?}, {seed}: {flat}");
            assert_eq!(failure.cause(), Some(Cause::PaddingLeak), "{bug:?}, {seed}: {flat}");
            assert!(flat.contains(words), "{bug:?}, {pooling:?}, {seed}: {}", text(&failure));
        }
    }
    Ok(())
}

/// A decoder of two target tokens over an encoded source, whose padding it must not see.
#[test]
fn the_padding_of_a_memory_is_masked() -> candling::Result<()> {
    for seed in 0..3 {
        let seed = Seed::new(seed);
        let encoder = Encoder::new(seed, DType::F32)?;
        let queries = seed.normal("queries", (1, 2, 16), DType::F32, CPU)?;
        let decoder = |x: &Tensor, mask: &Tensor, masked: bool| {
            let memory = encoder.forward(x, mask)?;
            let queries = queries.expand((x.dim(0)?, 2, 16))?.contiguous()?;
            let scores = queries.matmul(&memory.t()?.contiguous()?)?;
            let added = ((mask - 1.0)? * 1e9)?.unsqueeze(1)?;
            let scores = if masked { scores.broadcast_add(&added)? } else { scores };
            softmax(&scores, D::Minus1)?.matmul(&memory)
        };
        let ids = ids(seed)?;
        assert_padding_invariant!(|x, mask| decoder(x, mask, true), &ids);
        let failure =
            PaddingInvariant::new().check(|x, mask| decoder(x, mask, false), &ids).unwrap_err();
        assert_eq!(failure.cause(), Some(Cause::PaddingLeak), "{failure}");
    }
    Ok(())
}

/// Causal and padded on the left, the first rows of the scores are masked everywhere: NaN, and 0 times NaN.
#[test]
fn a_row_masked_everywhere_is_named() -> candling::Result<()> {
    let attention = |x: &Tensor, mask: &Tensor, masked: f32| {
        let t = x.dim(1)?;
        let causal: Vec<f32> =
            (0..t * t).map(|i| if i % t > i / t { masked } else { 0.0 }).collect();
        let zeros = Tensor::zeros((x.dim(0)?, 1, t), DType::F32, CPU)?;
        let keys = mask
            .unsqueeze(1)?
            .eq(0f32)?
            .where_cond(&Tensor::full(masked, zeros.shape(), CPU)?, &zeros)?;
        let added = Tensor::from_vec(causal, (1, t, t), CPU)?.broadcast_add(&keys)?;
        let mut x = x.clone();
        for _ in 0..2 {
            let scores = (x.matmul(&x.t()?.contiguous()?)? + &added)?;
            x = (&x + softmax(&scores, D::Minus1)?.matmul(&x)?)?;
        }
        Ok(x)
    };
    let x = Seed::new(1).normal("x", (2, 4, 3), DType::F32, CPU)?;
    let check = |masked| {
        PaddingInvariant::new().side(Side::Left).check(|x, mask| attention(x, mask, masked), &x)
    };
    check(-1e9)?;
    let failure = check(f32::NEG_INFINITY).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::NotFinite));
    insta::assert_snapshot!(text(&failure), @"
    assertion `padding_invariant` failed
    padded by 1 on the left, a real position is NaN: row 0, position 0, output 2

      tried              padded by 1 on the left                NaN at a real position
                         padded by 4 on the left                NaN at a real position
                         with other content on the left         equal
                         a row alone, padded by 4 on the left   NaN at a real position
                         rows of 3, padded by 1 on the left     NaN at a real position
      rounding explains  5.71e-5
      mask               1 for real, 0 for padding, of f32

      confirmed  not-finite   row 0, position 0, output 2: NaN, padded by 1 on the left: a row of a softmax that
                              is masked everywhere with minus infinity is NaN, and 0 times NaN, too
      help       mask with -1e9 (in f16 -6e4) instead of minus infinity, or let no row be masked everywhere; see
                 docs/causes.md#not-finite
    ");
    Ok(())
}

#[test]
fn a_model_may_read_the_padding_from_its_ids() -> candling::Result<()> {
    let model = encoder(1)?;
    let ids = Seed::new(1).tokens("ids", VOCABULARY - 1, (3, 6), CPU)?;
    let ids = (ids + 1.0)?;
    let report = assert_padding_invariant!(|x, _| model.forward(x, &x.ne(0u32)?), &ids);
    assert!(report.reads_pad);
    let failure = PaddingInvariant::new()
        .pad(3)
        .check(|x, _| model.forward(x, &x.ne(0u32)?), &ids)
        .unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::PaddingLeak));
    Ok(())
}

#[test]
fn the_mask_comes_in_the_dtype_the_function_takes() -> candling::Result<()> {
    let x = Seed::new(1).normal("x", (2, 4, 3), DType::F32, CPU)?;
    let chosen = |x: &Tensor, mask: &Tensor| {
        let mask = mask.unsqueeze(2)?.broadcast_as(x.shape())?;
        let kept = mask.where_cond(x, &x.zeros_like()?)?;
        kept.sum(1)?.broadcast_div(&mask.to_dtype(DType::F32)?.sum(1)?)
    };
    assert_eq!(assert_padding_invariant!(chosen, &x).mask_dtype, DType::U8);
    let model = encoder(1)?.bug(EncoderBug::PaddingIgnored);
    assert_padding_invariant!(
        |x, mask| model.forward(x, mask)?.i((.., 0)),
        &ids(Seed::new(1))?,
        allow = Cause::PaddingLeak
    );
    Ok(())
}

#[test]
fn the_texts_read_well() -> candling::Result<()> {
    let of = |model: Encoder, side| {
        checked(&model, side).map_or_else(|f| text(&f), |_| "passed".to_owned())
    };
    let bug = |bug| Ok::<_, candling::Failure>(encoder(3)?.bug(bug));
    insta::assert_snapshot!(of(bug(EncoderBug::PaddingIgnored)?, Side::Right), @"
    assertion `padding_invariant` failed
    padded by 1 on the right, row 0, position 0, output 0 is -1.3 instead of -0.729

      tried              padded by 1 on the right                differs by 1.16
                         padded by 7 on the right                differs by 2.13
                         with other content on the right         differs by 3.96
                         a row alone, padded by 7 on the right   differs by 2.13
                         rows of 5, padded by 2 on the right     differs by 2.57
      rounding explains  2.53e-5
      mask               1 for real, 0 for padding, of f32

      confirmed  padding-leak   row 0, position 0, output 0: a mask of ones gives the same, bit for bit: the mask
                                is never read
      help       use the mask in attention and pooling; a mask that is built and not added does nothing; see
                 docs/causes.md#padding-leak
    ");
    insta::assert_snapshot!(of(bug(EncoderBug::NoMaskForOneRow)?, Side::Right), @"
    assertion `padding_invariant` failed
    a row alone, padded by 7 on the right, row 0, position 0, output 0 is -1.52 instead of -0.729

      tried              padded by 1 on the right                         equal
                         padded by 7 on the right                         equal
                         with other content on the right                  equal
                         a row alone, padded by 7 on the right            differs by 2.13
                         rows of different lengths, padded on the right   equal within 1.19e-6
      rounding explains  2.53e-5
      mask               1 for real, 0 for padding, of f32

      confirmed  padding-leak   row 0, position 0, output 0: rows in a batch are right, and a row alone is not:
                                the mask is left out for one row
      help       look for a shortcut when the batch is 1, or a `squeeze` that drops the dimension of the batch;
                 see docs/causes.md#padding-leak
    ");
    insta::assert_snapshot!(of(bug(EncoderBug::MaskOfFirstRow)?, Side::Right), @"
    assertion `padding_invariant` failed
    rows of different lengths, padded on the right, row 1, position 0, output 8 is 0.0585 instead of -0.92

      tried              padded by 1 on the right                         equal
                         padded by 7 on the right                         equal
                         with other content on the right                  equal
                         a row alone, padded by 7 on the right            equal within 7.15e-7
                         rows of different lengths, padded on the right   differs by 1.02
      rounding explains  2.53e-5
      mask               1 for real, 0 for padding, of f32

      confirmed  padding-leak   row 1, position 0, output 8: rows of one length are right, and rows of different
                                lengths are not: one row's mask or length is used for all
      help       give each row its own mask, of dims [batch, 1, 1, time] in attention; see
                 docs/causes.md#padding-leak
    ");
    insta::assert_snapshot!(of(encoder(3)?.pooling(Pooling::SumOverTime), Side::Right), @"
    assertion `padding_invariant` failed
    padded by 1 on the right, row 0, output 0 is -0.967 instead of -1.11

      tried              padded by 1 on the right                differs by 0.219
                         padded by 7 on the right                differs by 0.875
                         with other content on the right         equal
                         a row alone, padded by 7 on the right   differs by 0.553
                         rows of 5, padded by 2 on the right     differs by 0.229
      rounding explains  1.34e-5
      mask               1 for real, 0 for padding, of f32

      confirmed  padding-leak   row 0, output 0: rows of 5, padded by 2 on the right, the output is 0.714 times
                                what it is without: the mean counts the padding
      help       divide the sum by the number of real positions: `mask.sum_keepdim(1)`, not by `time`; see
                 docs/causes.md#padding-leak
    ");
    insta::assert_snapshot!(of(bug(EncoderBug::SoftMask)?, Side::Right), @"
    assertion `padding_invariant` failed
    padded by 1 on the right, row 0, position 0, output 0 is -0.729, 7.03e-5 away

      tried              padded by 1 on the right                differs by 0.000245
                         padded by 7 on the right                differs by 0.00144
                         with other content on the right         differs by 0.0597
                         a row alone, padded by 7 on the right   differs by 0.00144
                         rows of 5, padded by 2 on the right     differs by 0.000517
      rounding explains  2.53e-5
      mask               1 for real, 0 for padding, of f32

      confirmed  padding-leak   row 0, position 0, output 0: other values in the padding move real positions by up
                                to 0.0597: they are read
      help       mask the padded positions in attention, pooling and loss, by minus infinity and not by a small
                 number; see docs/causes.md#padding-leak
    ");
    insta::assert_snapshot!(of(bug(EncoderBug::RotatesQueriesOnly)?.places(Places::Rotary), Side::Both), @"
    assertion `padding_invariant` failed
    padded by 1 on the left, row 0, position 0, output 1 is 0.594 instead of -1.29

      tried              padded by 1 on the right                         equal
                         padded by 7 on the right                         equal
                         with other content on the right                  equal
                         a row alone, padded by 7 on the right            equal within 5.96e-7
                         rows of different lengths, padded on the right   equal within 4.77e-7
                         padded by 1 on the left                          differs by 1.99
                         padded by 7 on the left                          differs by 2.62
                         with other content on the left                   equal
                         a row alone, padded by 7 on the left             differs by 2.53
                         rows of 5, padded by 2 on the left               differs by 1.07
      rounding explains  1.96e-5
      mask               1 for real, 0 for padding, of f32

      confirmed  padding-leak   row 0, position 0, output 1: padding on the right changes nothing, and on the left
                                it does, whatever it holds: the positions are absolute, or queries and keys are
                                not turned by the same
      help       count positions from the first real one, or apply rotary embeddings to queries and keys alike;
                 see docs/causes.md#padding-leak
    ");
    Ok(())
}
