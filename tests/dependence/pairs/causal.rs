//! What a passed `assert_causal!` says, and what it costs.

use candle_core::{DType, Result, Tensor};
use candling::{Cause, Seed, assert_causal, check::Causal};

use super::models::{CPU, planted, sequence};

#[test]
fn the_report_says_what_was_proved() {
    let report = assert_causal!(|x: &Tensor| x.cumsum(1), sequence(1, 16, 129), "context");
    assert_eq!((report.positions, report.cuts, report.reach, report.rows), (129, 128, 1, 16));
    assert_eq!(report.calls, 2 + 128 / 16 + 2);
}

#[test]
fn a_small_batch_is_repeated_where_the_function_takes_that() {
    let report = Causal::new().check(|x: &Tensor| x.cumsum(1), &sequence(1, 2, 33)).unwrap();
    assert_eq!((report.rows, report.calls), (8, 2 + 2 + 4 + 2));
    let two_rows = |x: &Tensor| match x.dim(0)? {
        2 => x.cumsum(1),
        rows => candle_core::bail!("{rows} rows for 2"),
    };
    let report = Causal::new().check(two_rows, &sequence(1, 2, 33)).unwrap();
    assert_eq!((report.rows, report.cuts), (2, 32));
}

#[test]
fn a_long_sequence_is_cut_in_places() {
    let x = Seed::new(1).normal("x", (8, 3000, 1), DType::F32, CPU).unwrap();
    // candle's `cumsum` multiplies by a matrix of 3000 x 3000.
    let next = |x: &Tensor| x.add(&x.pad_with_zeros(1, 1, 0)?.narrow(1, 0, 3000)?);
    let report = Causal::new().check(next, &x).unwrap();
    assert!(report.cuts < 600 && report.reach == 7, "{report:?}");
    let f = |x: &Tensor| planted(&next(x)?, x, 1507, 1500, 1.0);
    let failure = Causal::new().check(f, &x).unwrap_err();
    assert_eq!(failure.findings()[0].place(), Some("output 1500, input 1507"));
}

fn reversed(x: &Tensor) -> Result<Tensor> {
    x.flip(&[1])?.contiguous()?.cumsum(1)?.contiguous()?.flip(&[1])
}

#[test]
fn every_spelling_of_a_function_works() {
    let x = sequence(1, 2, 4);
    let mut calls = 0;
    let mut counted = |x: &Tensor| {
        calls += 1;
        x.cumsum(1)
    };
    Causal::new().check(&mut counted, &x).unwrap();
    assert!(calls > 0);
    let failure = Causal::new().check(reversed, &x).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::FutureLeak));
    assert!(failure.location().is_some_and(|at| at.file().ends_with("causal.rs")));
    assert_eq!(failure.assertion(), Some("causal"));
    for seed in 0..20 {
        let failure = Causal::new().seed(Seed::new(seed)).check(reversed, &x).unwrap_err();
        assert_eq!(failure.cause(), Some(Cause::FutureLeak));
    }
}

#[test]
#[should_panic(expected = "assertion `causal` failed: reversed 1")]
fn the_macro_panics_with_its_context() {
    assert_causal!(reversed, &sequence(1, 2, 4), dim = 1, "reversed {}", 1);
}
