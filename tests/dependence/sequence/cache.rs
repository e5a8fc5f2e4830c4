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
    small::{CPU, CacheBug, Decoder, ids},
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
        // The other forms are computed as this one is.
        if seed.value() >= 5 {
            continue;
        }
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
    for seed in 0..4 {
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

/// The outputs at all positions, and the state after the last.
fn unrolled<R: RNN>(
    cell: &R,
    x: &Tensor,
    before: &R::State,
) -> candle_core::Result<(Tensor, R::State)> {
    let states = cell.seq_init(x, before)?;
    let joined = cell.states_to_tensor(&states)?;
    let outputs = joined.reshape((x.dim(0)?, x.dim(1)?, ()))?;
    Ok((outputs, states[states.len() - 1].clone()))
}

fn recurrent<R: RNN>(cell: &R, x: &Tensor) -> candling::Result<()> {
    let zero = cell.zero_state(x.dim(0)?)?;
    let state = RefCell::new(zero.clone());
    let full = |x: &Tensor| Ok(unrolled(cell, x, &cell.zero_state(x.dim(0)?)?)?.0);
    let step = |x: &Tensor, offset: usize| {
        let before = if offset == 0 { zero.clone() } else { state.borrow().clone() };
        let (outputs, after) = unrolled(cell, x, &before)?;
        *state.borrow_mut() = after;
        Ok(outputs)
    };
    assert_cache_consistent!(full, step, x);
    // The state is carried over from one sequence to the next.
    let step = |x: &Tensor, _: usize| {
        let (outputs, after) = unrolled(cell, x, &state.borrow().clone())?;
        *state.borrow_mut() = after;
        Ok(outputs)
    };
    let failure = CacheConsistent::new().check(full, step, x).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::StateKept), "{failure}");
    // Every call starts anew.
    let failure = CacheConsistent::new().check(full, |x, _| full(x), x).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::CacheMismatch), "{failure}");
    Ok(())
}

#[test]
fn recurrent_networks_pass_and_fail_as_caches_do() -> candling::Result<()> {
    for seed in 0..SEEDS {
        let seed = Seed::new(seed);
        let (_, vb) = seed.var_builder(DType::F32, CPU);
        let x = seed.normal("x", (2, 6, 4), DType::F32, CPU)?;
        recurrent(&lstm(4, 8, LSTMConfig::default(), vb.pp("lstm"))?, &x)?;
        recurrent(&gru(4, 8, GRUConfig::default(), vb.pp("gru"))?, &x)?;
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
        (Bug::RowsSwapped, Cause::CacheMismatch, "the cache mixes rows"),
        (Bug::NoWindow, Cause::CacheMismatch, "a cache needs the mask of the full pass"),
        (Bug::Window, Cause::CacheMismatch, "look at what the cache drops"),
        (Bug::ShortTable, Cause::CacheMismatch, "weighs them otherwise"),
        (Bug::OffByOne, Cause::CacheMismatch, "weighs them otherwise"),
    ];
    for (bug, cause, words) in cases {
        for seed in 0..3 {
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
    insta::assert_snapshot!(of(CacheBug::MaskLacksOffset), @"
    assertion `cache_consistent` failed
    in chunks of 2, 5, the step leaves the full pass at position 2: 2.03 instead of 2.61

      against the full pass  one by one                         equal within 2.74e-6
                             one by one, after another prompt   equal within 2.74e-6
                             all at once                        equal
                             5 tokens, then one by one          equal within 2.56e-6
                             in chunks of 2, 5                  differs from position 2 on, by up to 3.78
                             in chunks of 5, 2                  differs from position 5 on, by up to 2.72
                             in chunks of 1, 2, 4               differs from position 1 on, by up to 3.6
      rounding explains      3.02e-5

      confirmed  cache-mismatch   row 0, position 2, output 8: token by token and the prompt at once are right; in
                                  a chunk, position 2 does not see token 1: the mask of a chunk lacks the offset
      help       a chunk of t tokens at an offset needs a mask of (t, offset + t): position i sees the keys
                 0..=offset + i; see docs/causes.md#cache-mismatch
    ");
    insta::assert_snapshot!(of(CacheBug::NeverReset), @"
    assertion `cache_consistent` failed
    one by one, after another prompt, the step leaves the full pass at position 0: -4.25 instead of 0.543

      against the full pass  one by one                         equal within 2.74e-6
                             one by one, after another prompt   differs from position 0 on, by up to 4.79
      rounding explains      3.02e-5

      confirmed  state-kept   the same tokens from offset 0 again, after another prompt, are 4.79 away from
                              position 0 on
      help       clear the cache where the offset is 0, and all of it; see docs/causes.md#state-kept
    ");
    insta::assert_snapshot!(of(CacheBug::NotKept), @"
    assertion `cache_consistent` failed
    one by one, the step leaves the full pass at position 1: 1.26 instead of -1.71

      against the full pass  one by one                         differs from position 1 on, by up to 5.79
                             one by one, after another prompt   differs from position 1 on, by up to 5.79
                             all at once                        equal
                             5 tokens, then one by one          differs from position 5 on, by up to 5.4
                             in chunks of 2, 5                  differs from position 2 on, by up to 4.82
                             in chunks of 5, 2                  differs from position 5 on, by up to 5.4
                             in chunks of 1, 2, 4               differs from position 1 on, by up to 6.27
      rounding explains      3.02e-5

      confirmed  cache-mismatch   row 0, position 1, output 5: at position 6 the step does not notice any earlier
                                  token: nothing is kept in the cache, or nothing is read from it
      help       append keys and values to the cache, and attend to what it returns, not to those of the call; see
                 docs/causes.md#cache-mismatch
    ");
    insta::assert_snapshot!(of(CacheBug::OffsetIgnored), @"
    assertion `cache_consistent` failed
    one by one, the step leaves the full pass at position 1: 0.107 instead of 0.172

      against the full pass  one by one                         differs from position 1 on, by up to 3.6
                             one by one, after another prompt   differs from position 1 on, by up to 3.6
                             all at once                        equal
                             5 tokens, then one by one          differs from position 5 on, by up to 2.67
                             in chunks of 2, 5                  differs from position 2 on, by up to 3
                             in chunks of 5, 2                  differs from position 5 on, by up to 2.82
                             in chunks of 1, 2, 4               differs from position 1 on, by up to 4.41
      rounding explains      3.02e-5

      confirmed  cache-mismatch   row 0, position 1, output 1: the step sees the tokens that the full pass sees,
                                  and another offset gives the same, bit for bit: the offset is not used
      help       pass the offset on: the position of a token is `offset` plus its place in the call; see
                 docs/causes.md#cache-mismatch
    ");
    insta::assert_snapshot!(of(CacheBug::NoWindow), @"
    assertion `cache_consistent` failed
    one by one, the step leaves the full pass at position 3: 0.169 instead of -1.58

      against the full pass  one by one                         differs from position 3 on, by up to 3.73
                             one by one, after another prompt   differs from position 3 on, by up to 3.73
                             all at once                        differs from position 3 on, by up to 3.73
                             5 tokens, then one by one          differs from position 3 on, by up to 3.73
                             in chunks of 2, 5                  differs from position 3 on, by up to 3.73
                             in chunks of 5, 2                  differs from position 3 on, by up to 3.73
                             in chunks of 1, 2, 4               differs from position 3 on, by up to 3.73
      rounding explains      3.42e-5

      confirmed  cache-mismatch   row 0, position 3, output 9: at position 6 the step sees positions 0 to 5 before
                                  it, the full pass positions 2 to 5
      help       a cache needs the mask of the full pass: keep the window, and drop what is older; see
                 docs/causes.md#cache-mismatch
    ");
    insta::assert_snapshot!(of(CacheBug::ReadsFirst), @"
    assertion `cache_consistent` failed
    all at once, the step leaves the full pass at position 6: 3.34 instead of 0.314

      against the full pass  one by one                         equal within 2.74e-6
                             one by one, after another prompt   equal within 2.74e-6
                             all at once                        differs from position 6 on, by up to 3.68
                             5 tokens, then one by one          differs from position 4 on, by up to 2.88
                             in chunks of 2, 5                  differs from position 1 on, by up to 3.08
                             in chunks of 5, 2                  differs from position 4 on, by up to 2.98
                             in chunks of 1, 2, 4               differs from position 2 on, by up to 5.62
      rounding explains      3.02e-5

      confirmed  cache-mismatch   row 0, position 6, output 4: at position 6 the step returns the output of
                                  position 0
      help       take the output of the last token of a call: `logits.i((.., t - 1))`; see
                 docs/causes.md#cache-mismatch
    ");
    insta::assert_snapshot!(of(CacheBug::RowsSwapped), @"
    assertion `cache_consistent` failed
    one by one, the step leaves the full pass at position 1: 2.23 instead of 0.172

      against the full pass  one by one                         differs from position 1 on, by up to 5.17
                             one by one, after another prompt   differs from position 1 on, by up to 5.17
                             all at once                        equal
                             5 tokens, then one by one          differs from position 5 on, by up to 5.23
                             in chunks of 2, 5                  differs from position 2 on, by up to 3.82
                             in chunks of 5, 2                  differs from position 5 on, by up to 3.64
                             in chunks of 1, 2, 4               differs from position 1 on, by up to 5.4
      rounding explains      3.02e-5

      confirmed  cache-mismatch   row 0, position 1, output 1: row 1 of the step notices the tokens of row 0, and
                                  in the full pass it does not: the cache mixes rows
      help       the cache keeps the rows of a batch in order; look for an index over rows, or a reshape; see
                 docs/causes.md#cache-mismatch
    ");
    insta::assert_snapshot!(of(CacheBug::NoChunkMask), @"
    assertion `cache_consistent` failed
    in chunks of 2, 5, the step leaves the full pass at position 2: 1.44 instead of -2.34

      against the full pass  one by one                         equal within 2.74e-6
                             one by one, after another prompt   equal within 2.74e-6
                             all at once                        equal
                             5 tokens, then one by one          equal within 2.56e-6
                             in chunks of 2, 5                  differs from position 2 on, by up to 4.09
                             in chunks of 5, 2                  differs from position 5 on, by up to 1.19
                             in chunks of 1, 2, 4               differs from position 1 on, by up to 2.96
      rounding explains      3.02e-5

      confirmed  cache-mismatch   row 0, position 2, output 6: token by token and the prompt at once are right; in
                                  a chunk, position 2 sees token 6, which comes after it: the mask of a chunk is
                                  missing
      help       a chunk of t tokens at an offset needs a mask of (t, offset + t): position i sees the keys
                 0..=offset + i; see docs/causes.md#cache-mismatch
    ");
    insta::assert_snapshot!(of(CacheBug::SingleTokens), @"
    assertion `cache_consistent` did not run
    the step returned an error

      error  one token at a time, not 5
      call   5 tokens at offset 2
      run    in chunks of 2, 5

      help       where the step is only ever given one token at a time, say `single_tokens = true`
    ");
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

#[test]
fn what_is_no_matter_of_the_cache_is_told_from_it() -> candling::Result<()> {
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
    Ok(())
}

/// Running sums of `[2, time, width]`, the last alone or all, one number each or several, whatever the sizes.
#[test]
fn dims_that_could_be_either_are_read_right() -> candling::Result<()> {
    for (time, width) in [(2, 2), (3, 3), (3, 1), (5, 4), (2, 1)] {
        let x = Seed::new(1).normal("x", (2, time, width), DType::F32, CPU)?;
        let state = RefCell::new(x.zeros_like()?.narrow(1, 0, 1)?);
        let step = |x: &Tensor, offset: usize| {
            if offset == 0 {
                let zeros = state.borrow().zeros_like()?;
                *state.borrow_mut() = zeros;
            }
            let sums = x.cumsum(1)?.broadcast_add(&state.borrow())?;
            *state.borrow_mut() = sums.narrow(1, sums.dim(1)? - 1, 1)?;
            Ok(sums)
        };
        let last = |sums: Tensor| sums.narrow(1, sums.dim(1)? - 1, 1)?.squeeze(1);
        for report in [
            assert_cache_consistent!(|x| x.cumsum(1), step, &x),
            assert_cache_consistent!(|x| last(x.cumsum(1)?), step, &x),
            assert_cache_consistent!(|x| x.cumsum(1), |x, at| last(step(x, at)?), &x),
            assert_cache_consistent!(|x| last(x.cumsum(1)?), |x, at| last(step(x, at)?), &x),
            assert_cache_consistent!(|x| x.cumsum(1)?.sum(2), |x, at| step(x, at)?.sum(2), &x),
        ] {
            assert_eq!(report.positions, time);
        }
        let failure = CacheConsistent::new()
            .check(|x| last(x.cumsum(1)?), |x, _| x.cumsum(1), &x)
            .unwrap_err();
        assert_eq!(failure.cause(), Some(Cause::CacheMismatch), "{failure}");
    }
    Ok(())
}
