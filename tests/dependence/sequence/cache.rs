//! Full pass and cached step.

use std::cell::RefCell;

use candling::{
    FailureKind, Seed, assert_cache_consistent,
    candle_nn::{GRUConfig, LSTMConfig, gru, lstm, rnn::RNN},
    check::{CacheConsistent, CacheConsistentReport},
    prelude::*,
};

use super::{
    SEEDS,
    small::{CPU, CacheBug, Decoder, ROWS, ids},
};
use crate::support::text;

fn checked(seed: Seed, bug: CacheBug) -> candling::Result<CacheConsistentReport> {
    let model = Decoder::new(seed, DType::F32, bug)?;
    CacheConsistent::new().check(|x| model.full(x), |x, offset| model.step(x, offset), &ids(seed)?)
}

#[test]
fn healthy_decoders_pass_whatever_their_closures_return() -> candling::Result<()> {
    for seed in 0..SEEDS {
        let seed = Seed::new(seed);
        let mut model = Decoder::new(seed, DType::F32, CacheBug::None)?;
        let ids = ids(seed)?;
        let last = |x: &Tensor| x.narrow(1, x.dim(1)? - 1, 1);
        let report = assert_cache_consistent!(|x| model.full(x), |x, at| model.step(x, at), ids);
        assert!(report.positions == 7 && report.runs.len() == 7, "{:?}", report.runs);
        assert!(report.runs.iter().all(|run| run.first_different.is_none()));
        assert!(report.difference * 4.0 < report.allowed, "{report:?}");
        model.last_only = true;
        assert_cache_consistent!(|x| last(&model.full(x)?), |x, at| model.step(x, at), &ids);
        assert_cache_consistent!(
            |x| last(&model.full(x)?)?.squeeze(1),
            |x, at| model.step(x, at),
            &ids
        );
        assert_cache_consistent!(|x| model.full(x), |x, at| model.step(x, at)?.squeeze(1), &ids);
        // One closure for both: the full pass is a step at offset 0.
        assert_cache_consistent!(|x| model.step(x, 0), |x, at| model.step(x, at), &ids);
        model.last_only = false;
        let one = ids.narrow(0, 1, 1)?;
        assert_cache_consistent!(|x| last(&model.full(x)?), |x, at| model.step(x, at), &one);
    }
    Ok(())
}

#[test]
fn every_float_and_layout_passes() -> candling::Result<()> {
    for seed in 0..10 {
        let seed = Seed::new(seed);
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            let model = Decoder::new(seed, dtype, CacheBug::None)?;
            let x = seed.normal("x", (7, 2, 16), dtype, CPU)?.transpose(0, 1)?;
            assert_cache_consistent!(|x| model.full(x), |x, at| model.step(x, at), &x, "{dtype:?}");
            // A model in half precision that returns f32.
            let f32 = |x: Tensor| x.to_dtype(DType::F32);
            let ids = ids(seed)?;
            assert_cache_consistent!(
                |x| f32(model.full(x)?),
                |x, at| f32(model.step(x, at)?),
                &ids,
                "{dtype:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn recurrent_networks_pass() -> candling::Result<()> {
    for seed in 0..SEEDS {
        let seed = Seed::new(seed);
        let (_, vb) = seed.var_builder(DType::F32, CPU);
        let x = seed.normal("x", (2, 6, 4), DType::F32, CPU)?;
        let cell = lstm(4, 8, LSTMConfig::default(), vb.pp("lstm"))?;
        let state = RefCell::new(cell.zero_state(2)?);
        let full = |x: &Tensor| {
            let states = cell.seq_init(x, &cell.zero_state(x.dim(0)?)?)?;
            cell.states_to_tensor(&states)
        };
        let step = |x: &Tensor, offset: usize| {
            let before = if offset == 0 { cell.zero_state(2)? } else { state.borrow().clone() };
            let states = cell.seq_init(x, &before)?;
            *state.borrow_mut() = states[states.len() - 1].clone();
            cell.states_to_tensor(&states)
        };
        assert_cache_consistent!(full, step, &x);
        let cell = gru(4, 8, GRUConfig::default(), vb.pp("gru"))?;
        let state = RefCell::new(cell.zero_state(2)?);
        assert_cache_consistent!(
            |x| cell.states_to_tensor(&cell.seq(x)?),
            |x, offset| {
                let before = if offset == 0 { cell.zero_state(2)? } else { state.borrow().clone() };
                let states = cell.seq_init(x, &before)?;
                *state.borrow_mut() = states[states.len() - 1].clone();
                cell.states_to_tensor(&states)
            },
            &x
        );
    }
    Ok(())
}

#[test]
fn every_defect_is_found_on_every_seed_and_named() -> candling::Result<()> {
    use CacheBug as Bug;
    let cases = [
        (Bug::OffsetIgnored, Cause::CacheMismatch, "the offset is not used"),
        (Bug::NeverReset, Cause::StateKept, "after another prompt"),
        (Bug::HalfReset, Cause::StateKept, "after another prompt"),
        (Bug::MaskLacksOffset, Cause::CacheMismatch, "the mask of a chunk lacks the offset"),
        (Bug::NoChunkMask, Cause::CacheMismatch, "the mask of a chunk is missing"),
        (Bug::NotKept, Cause::CacheMismatch, "nothing is kept in the cache"),
        (Bug::OneLayerNotKept, Cause::CacheMismatch, "weighs them otherwise"),
        (Bug::ReadsFirst, Cause::CacheMismatch, "the output of position 0"),
        (Bug::RowsSwapped, Cause::CacheMismatch, "weighs them otherwise"),
        (Bug::NoWindow, Cause::CacheMismatch, "a cache needs the mask of the full pass"),
        (Bug::Window, Cause::CacheMismatch, "look at what the cache drops"),
        (Bug::ShortTable, Cause::CacheMismatch, "weighs them otherwise"),
        (Bug::OffByOne, Cause::CacheMismatch, "weighs them otherwise"),
    ];
    for (bug, cause, words) in cases {
        for seed in 0..8 {
            let failure = checked(Seed::new(seed), bug).expect_err(&format!("{bug:?}, {seed}"));
            let flat = text(&failure).split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(failure.kind(), FailureKind::Violated, "{bug:?}, {seed}: {flat}");
            assert_eq!(failure.cause(), Some(cause), "{bug:?}, {seed}: {flat}");
            assert!(flat.contains(words), "{bug:?}, {seed}: {}", text(&failure));
        }
    }
    Ok(())
}

#[test]
fn the_texts_read_well() -> candling::Result<()> {
    let of = |bug| checked(Seed::new(3), bug).map_or_else(|f| text(&f), |_| "passed".to_owned());
    insta::assert_snapshot!(of(CacheBug::MaskLacksOffset), @"");
    insta::assert_snapshot!(of(CacheBug::NeverReset), @"");
    insta::assert_snapshot!(of(CacheBug::NotKept), @"");
    insta::assert_snapshot!(of(CacheBug::OffsetIgnored), @"");
    insta::assert_snapshot!(of(CacheBug::NoWindow), @"");
    insta::assert_snapshot!(of(CacheBug::ReadsFirst), @"");
    insta::assert_snapshot!(of(CacheBug::SingleTokens), @"");
    Ok(())
}

#[test]
fn what_is_known_can_be_said() -> candling::Result<()> {
    let seed = Seed::new(1);
    let ids = ids(seed)?;
    let model = Decoder::new(seed, DType::F32, CacheBug::SingleTokens)?;
    let report = assert_cache_consistent!(
        |x| model.full(x),
        |x, at| model.step(x, at),
        &ids,
        single_tokens = true
    );
    let names: Vec<String> = report.runs.iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        [
            "one by one",
            "one by one, after another prompt",
            "all at once",
            "5 tokens, then one by one"
        ]
    );
    let model = Decoder::new(seed, DType::F32, CacheBug::NoWindow)?;
    let allowed = Cause::CacheMismatch;
    let report = assert_cache_consistent!(
        |x| model.full(x),
        |x, at| model.step(x, at),
        &ids,
        allow = allowed
    );
    assert!(report.runs.iter().any(|run| run.first_different.is_some()));
    assert_cache_consistent!(|x| model.full(x), |x, at| model.step(x, at), &ids, tolerance = 1e3);
    Ok(())
}

/// The step's values are right, and its first answers are NaN behind other tokens.
#[test]
fn a_full_pass_that_sees_the_future_is_told_from_a_cache() -> candling::Result<()> {
    let seed = Seed::new(1);
    let model = Decoder::new(seed, DType::F32, CacheBug::None)?;
    let ids = ids(seed)?;
    let failure = CacheConsistent::new()
        .check(
            |x| {
                let own = model.full(x)?;
                own.broadcast_add(&own.mean_keepdim(1)?)
            },
            |x, at| model.step(x, at),
            &ids,
        )
        .unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::FutureLeak));
    let failure = CacheConsistent::new()
        .check(
            |x| model.full(x),
            |x, at| if at > 1 { model.step(x, at)? * f64::NAN } else { model.step(x, at) },
            &ids,
        )
        .unwrap_err();
    assert!(failure.findings().iter().any(|f| f.cause() == Cause::NotFinite), "{failure}");
    // Another model altogether.
    let other = Decoder::new(Seed::new(2), DType::F32, CacheBug::None)?;
    let failure = CacheConsistent::new()
        .check(|x| model.full(x), |x, at| other.step(x, at), &ids)
        .unwrap_err();
    assert!(text(&failure).contains("the first token differs already"), "{failure}");
    assert_eq!(ids.dim(0)?, ROWS);
    Ok(())
}
