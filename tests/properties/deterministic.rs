//! The same input, asked again.

use std::cell::{Cell, RefCell};

use candle_core::{DType, Result, Tensor, Var};
use candle_nn::{Dropout, Module};
use candling::{Cause, Failure, FailureKind, Seed, assert_deterministic, check::Deterministic};

use super::zoo::{CPU, layers};
use crate::support::text;

fn x() -> Tensor {
    Seed::new(1).normal("x", (4, 3), DType::F32, CPU).expect("twelve numbers")
}

fn failing(f: impl FnMut(&Tensor) -> Result<Tensor>, x: &Tensor) -> Failure {
    Deterministic::new().check(f, x).expect_err("a function that is not deterministic")
}

fn violated(f: impl FnMut(&Tensor) -> Result<Tensor>, x: &Tensor) -> Failure {
    let failure = failing(f, x);
    assert_eq!(failure.kind(), FailureKind::Violated, "{failure}");
    failure
}

#[test]
fn a_running_average_in_a_field_comes_to_rest() {
    let mean = RefCell::new(x().zeros_like().unwrap());
    let smoothed = |x: &Tensor| {
        let new = ((x * 0.5)? + (&*mean.borrow() * 0.5)?)?;
        mean.replace(new.clone());
        Ok(new)
    };
    insta::assert_snapshot!(text(&violated(smoothed, &x())), @"
    assertion `deterministic` failed
    the same input gives another output when it is asked again: 12 of 12 output values differ, by up to 0.371

      worst              [3, 2]: -0.743, then -1.11
      from call to call  0.608, 0.304, 0.152, 0.076, 0.038

      confirmed  state-kept   each call is closer to the last one, as with an average or a cache that fills up:
                              0.608 apart at first, 0.038 in the end
      help       reset the state, or pass it explicitly; see docs/causes.md#state-kept
    ");
}

#[test]
fn a_sum_over_calls_goes_on() {
    let sum = RefCell::new(x().zeros_like().unwrap());
    let added = |x: &Tensor| {
        let new = (x + &*sum.borrow())?;
        sum.replace(new.clone());
        Ok(new)
    };
    insta::assert_snapshot!(text(&violated(added, &x())), @"
    assertion `deterministic` failed
    the same input gives another output when it is asked again: 12 of 12 output values differ, by up to 1.49

      worst              [3, 2]: -1.49, then -2.97
      from call to call  2.43, 2.43, 2.43, 2.43, 2.43

      confirmed  state-kept   every call moves the output on in one direction, by 2.43, 2.43, 2.43, ...: something
                              is added up
      help       reset the state, or pass it explicitly; see docs/causes.md#state-kept
    ");
}

#[test]
fn the_first_call_alone_is_another() {
    let warm = Cell::new(false);
    let warms_up = |x: &Tensor| if warm.replace(true) { x.tanh() } else { x.sin() };
    insta::assert_snapshot!(text(&violated(warms_up, &x())), @"
    assertion `deterministic` failed
    the same input gives another output when it is asked again: 12 of 12 output values differ, by up to 0.102

      worst  [0, 1]: 0.965, then 0.863

      confirmed  state-kept   the first call differs from the 11 after it, which are equal
      help       reset the state, or pass it explicitly; see docs/causes.md#state-kept
    ");
}

#[test]
fn calls_alternate_or_go_round() {
    let calls = Cell::new(0u32);
    let round = |x: &Tensor, period: u32| {
        let call = calls.replace(calls.get() + 1);
        x * f64::from(call % period + 1)
    };
    insta::assert_snapshot!(violated(|x| round(x, 2), &x()).findings()[0], @"state-kept: the calls alternate between two results");
    calls.set(0);
    let round = |x: &Tensor, period: u32| {
        let call = calls.replace(calls.get() + 1);
        x * f64::from(call % period + 1)
    };
    insta::assert_snapshot!(violated(|x| round(x, 3), &x()).findings()[0], @"state-kept: the calls go round 3 results, always in the same order");
}

#[test]
fn a_cache_that_is_cleared_when_it_is_full_goes_round() {
    let calls = Cell::new(0u32);
    // Two calls that nothing repeats, then three results in turn.
    let cached = |x: &Tensor| {
        let call = calls.replace(calls.get() + 1);
        x * f64::from(if call < 2 { call + 7 } else { call % 3 + 1 })
    };
    insta::assert_snapshot!(violated(cached, &x()).findings()[0], @"state-kept: after the first 2 calls they go round 3 results, always in the same order");
}

#[test]
fn a_state_that_has_all_but_settled_is_no_rounding() {
    let state = RefCell::new(0.0);
    let mut calls = 0;
    let decays = |x: &Tensor| {
        let mean = f64::from(x.mean_all()?.to_scalar::<f32>()?);
        let was = *state.borrow();
        state.replace(0.1 * was + mean);
        calls += 1;
        // The last bits never come to rest.
        x + (was + 1e-6 * f64::from(calls % 7 * calls % 5))
    };
    let failure = violated(decays, &x());
    assert_eq!(failure.cause(), Some(Cause::StateKept), "{failure}");
}

#[test]
fn a_choice_between_two_results_is_no_state() {
    for seed in 0..30 {
        let calls = Cell::new(0u64);
        // A coin, by a seed of each call.
        let coin = |x: &Tensor| {
            let call = calls.replace(calls.get() + 1);
            let up = Seed::new(seed).tokens(&call.to_string(), 2, 1, CPU)?.to_vec1::<u32>()?[0];
            x + f64::from(up)
        };
        match Deterministic::new().check(coin, &x()) {
            // The first seven calls fell on one side.
            Ok(report) => assert_eq!(report.calls, 7),
            Err(failure) if failure.headline().contains("asked before") => {}
            Err(failure) => {
                assert_eq!(failure.cause(), Some(Cause::NotReproducible), "{failure}");
            }
        }
    }
}

#[test]
fn a_cache_that_is_never_reset_grows() {
    let mut cache: Option<Tensor> = None;
    let cached = |x: &Tensor| {
        let all = match &cache {
            Some(before) => Tensor::cat(&[before, x], 0)?,
            None => x.clone(),
        };
        cache = Some(all.clone());
        Ok(all)
    };
    insta::assert_snapshot!(text(&violated(cached, &x())), @"
    assertion `deterministic` failed
    the same input gives dims [4, 3], and when it is asked again dims [8, 3]

      confirmed  state-kept   the output grows with every call, [4, 3], then [8, 3], then [12, 3], then [16, 3]:
                              what earlier calls put in is still there
      help       reset the state, or pass it explicitly; see docs/causes.md#state-kept
    ");
}

#[test]
fn what_was_asked_before_stays_or_goes() {
    // The previous input's mean goes into the result.
    let before = RefCell::new(None::<Tensor>);
    let previous = |x: &Tensor| {
        let mean = x.mean_all()?;
        let shift = before.replace(Some(mean.clone())).unwrap_or(mean);
        x.broadcast_sub(&shift)
    };
    insta::assert_snapshot!(text(&violated(previous, &x())), @"
    assertion `deterministic` failed
    the result depends on what was asked before: 12 of 12 output values differ, by up to 0.0099

      worst       [0, 0]: 0.499, then 0.489
      in between  other values

      confirmed  state-kept   the call after another input differs, and the next is as before: each depends on the
                              one before it
      help       reset the state, or pass it explicitly; see docs/causes.md#state-kept
    ");
    // The largest value ever seen scales it.
    let largest = Cell::new(0f32);
    let scaled = |x: &Tensor| {
        let here = x.abs()?.max_all()?.to_scalar::<f32>()?;
        largest.set(largest.get().max(here));
        x / f64::from(largest.get())
    };
    insta::assert_snapshot!(text(&violated(scaled, &x())), @"
    assertion `deterministic` failed
    the result depends on what was asked before: 12 of 12 output values differ, by up to 0.869

      worst       [3, 2]: -1, then -0.131
      in between  larger values

      confirmed  state-kept   the calls after another input differ from those before it: what it left behind stays
      help       reset the state, or pass it explicitly; see docs/causes.md#state-kept
    ");
}

#[test]
fn an_error_that_comes_with_the_second_call() {
    let used = Cell::new(false);
    let once = |x: &Tensor| match used.replace(true) {
        false => Ok(x.clone()),
        true => candle_core::bail!("the stream is at its end"),
    };
    insta::assert_snapshot!(text(&violated(once, &x())), @"
    assertion `deterministic` failed
    the second call on the same input returns an error, and the first does not

      error  the stream is at its end

      confirmed  state-kept   an error that depends on how often the function was called
      help       reset the state, or pass it explicitly; see docs/causes.md#state-kept
    ");
    // The state has the batch size of the input before.
    let state = RefCell::new(None::<Tensor>);
    let recurrent = |x: &Tensor| {
        let old = state.replace(Some(x.clone())).unwrap_or(x.clone());
        ((x + old)? - x)?.sum(1)
    };
    insta::assert_snapshot!(text(&violated(recurrent, &x())), @"
    assertion `deterministic` failed
    the result depends on what was asked before: 4 of 4 output values differ, by up to 3.02

      worst       [1]: -1.85, then 1.17
      in between  other values

      confirmed  state-kept   the call after another input differs, and the next is as before: each depends on the
                              one before it
      help       reset the state, or pass it explicitly; see docs/causes.md#state-kept
    ");
}

#[test]
fn randomness_is_dropout_where_it_shows() {
    let x = Seed::new(1).normal("x", (32, 16), DType::F32, CPU).unwrap();
    // candle's own generator has no seed: the numbers of the text are not the same twice.
    let dropout = Dropout::new(0.25);
    let failure = violated(|x| dropout.forward(x, true), &x);
    assert!(failure.findings()[0].is_confirmed());
    assert_eq!(failure.cause(), Some(Cause::DropoutInEval));
    let rate = failure.findings()[0].evidence();
    assert!(
        rate.contains("dropout at a rate of about 0.2") || rate.contains("about 0.3"),
        "{rate}"
    );

    // A mask of the seed and the call, behind a layer.
    let (_vars, vb) = Seed::new(3).var_builder(DType::F32, CPU);
    let head = layers(&[16, 4], &vb).unwrap();
    let calls = Cell::new(0);
    let hidden = |x: &Tensor| {
        let call = calls.replace(calls.get() + 1);
        let mask = Seed::new(call).uniform("mask", 0.0..1.0, x.shape(), DType::F32, CPU)?;
        head[0].forward(&(x * mask.ge(0.5)?.to_dtype(DType::F32)?)?)
    };
    insta::assert_snapshot!(text(&violated(hidden, &x)), @"
    assertion `deterministic` failed
    the same input gives another output when it is asked again: 128 of 128 output values differ, by up to 3.16

      worst              [31, 0]: -1.14, then 2.02
      from call to call  11.5, 9.8, 8.84, 11.3, 11

      possible   dropout-in-eval   6 calls, no two of them in a row equal, and nothing connects them: active
                                   dropout or another random draw would do that
      possible   state-kept        a cache or a running average that every call adds to would do it, too
      help       call the model in evaluation mode (`forward_t(x, false)`); draw what must be random from a
                 `Seed`; reset its cache in the closure
    ");
    let allowed = Deterministic::new().allow(Cause::DropoutInEval);
    let report = allowed.check(|x: &Tensor| dropout.forward(x, true), &x).unwrap();
    assert_eq!(report.allowed[0].cause(), Cause::DropoutInEval);
}

#[test]
fn a_sum_in_changing_order_differs_by_roundings() {
    let x = Seed::new(1).normal("x", (2, 300), DType::F32, CPU).unwrap();
    let calls = Cell::new(0);
    let shuffled = |x: &Tensor| {
        let call = calls.replace(calls.get() + 1);
        let keys = Seed::new(call).uniform("order", 0.0..1.0, 300, DType::F32, CPU)?;
        let order = keys.arg_sort_last_dim(true)?;
        (x * 3.0)?.index_select(&order, 1)?.cumsum(1)?.narrow(1, 299, 1)
    };
    let failure = violated(shuffled, &x);
    assert_eq!(failure.cause(), Some(Cause::NotReproducible), "{failure}");
    assert!(!failure.findings()[0].is_confirmed());
}

#[test]
fn a_call_must_not_write_into_its_input() {
    let x = x();
    let before = x.to_vec2::<f32>().unwrap();
    let clears = |x: &Tensor| {
        let sum = x.sum(1)?;
        x.narrow(1, 0, 2)?.zero_set()?;
        Ok(sum)
    };
    insta::assert_snapshot!(text(&violated(clears, &x)), @"
    assertion `deterministic` failed
    the call writes into its input: 8 of 12 values changed by it

      confirmed  state-kept   the input at [0, 1]: was 1.31 before the call and is 0 after it
      help       work on a copy, `x.copy()?`: `slice_set`, `zero_set`, `scatter_set` and `Var::set` write into
                 storage that other handles share; see docs/causes.md#state-kept
    ");
    assert_eq!(x.to_vec2::<f32>().unwrap(), before, "the caller's own input is safe");

    // The same through a variable that shares the input's storage.
    let var = Var::from_tensor(&x).unwrap();
    let handle = var.clone();
    let sets = |x: &Tensor| {
        handle.set(&(handle.as_tensor() * 2.0)?)?;
        Ok(x.clone())
    };
    insta::assert_snapshot!(text(&violated(sets, var.as_tensor())), @"
    assertion `deterministic` failed
    the call writes into its input: 12 of 12 values changed by it

      confirmed  state-kept   the input at [3, 2]: was -1.49 before the call and is -2.97 after it, through
                              another handle of its storage
      help       work on a copy, `x.copy()?`: `slice_set`, `zero_set`, `scatter_set` and `Var::set` write into
                 storage that other handles share; see docs/causes.md#state-kept
    ");
}

#[test]
fn an_output_that_shares_its_storage_with_a_state_is_seen() {
    let counter = Var::zeros((4, 3), DType::F32, CPU).unwrap();
    let counts = |x: &Tensor| {
        counter.set(&(counter.as_tensor() + x)?)?;
        Ok(counter.as_tensor().clone())
    };
    assert_eq!(violated(counts, &x()).cause(), Some(Cause::StateKept));
}

#[test]
fn a_function_that_refuses_other_inputs_is_fine() {
    let fixed = |x: &Tensor| x.reshape((4, 3))?.tanh();
    let report = assert_deterministic!(fixed, &x());
    assert_eq!(report.between, ["other values", "larger values"]);
    assert_eq!(report.refused.len(), 2);
    assert!(report.refused[0].1.contains("Shape mismatch"), "{:?}", report.refused);
    // An error halfway leaves the function in another state: no one but the check gave it that input.
    let state = Cell::new(1.0);
    let fragile = |x: &Tensor| {
        state.set(if x.dim(0)? == 4 { state.get() } else { 2.0 });
        x.reshape((4, 3))? * state.get()
    };
    let report = assert_deterministic!(fragile, &x());
    assert_eq!((report.calls, report.refused.len()), (5, 1));
}

#[test]
fn inputs_and_outputs_of_every_kind() -> candling::Result<()> {
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        assert_deterministic!(|x| x.sqr(), &x().to_dtype(dtype)?);
    }
    let ids = Seed::new(1).tokens("ids", 7, (2, 5), CPU)?;
    assert_deterministic!(|x| x.to_dtype(DType::F32)?.argmax(1), &ids);
    let zeros = Tensor::zeros((2, 2), DType::U32, CPU)?;
    let report = assert_deterministic!(|x| Ok(x.clone()), &zeros, repeats = 2, "ids of one value");
    assert_eq!(report.between, ["the first row alone", "twice as many rows"]);
    assert_deterministic!(|x| x.sum(0), &x().t()?, seed = Seed::new(3));
    assert_deterministic!(|x| x.sum(0), &x().narrow(0, 1, 1)?.broadcast_as((5, 3))?);
    assert_deterministic!(|[a, b]| a + b, &[x(), x()]);
    assert_deterministic!(|x| x.sum_all(), &x().narrow(0, 0, 1)?);
    assert_deterministic!(|x| x.zeros_like(), &x(), "a constant is deterministic");
    assert_deterministic!(|x| x.log(), &x(), "with NaN in it");
    Ok(())
}

#[test]
fn what_cannot_be_judged_says_why() {
    let nothing = failing(|x| x.narrow(0, 0, 0), &x());
    insta::assert_snapshot!(text(&nothing), @"
    assertion `deterministic` proves nothing here
    the function returned an empty tensor, of dims [0, 3]: nothing can differ in it
    ");
    insta::assert_snapshot!(text(&failing(|x| (x * f64::NAN)?.sum(1), &x())), @"
    assertion `deterministic` proves nothing here
    the output is nothing but NaN: no difference could show in it

      confirmed  not-finite   all 4 output values are NaN
      help       start at the named origin: what comes after it is only carried along; see
                 docs/causes.md#not-finite
    ");
    let refusing = |x: &Tensor| x.reshape(7);
    assert_eq!(failing(refusing, &x()).kind(), FailureKind::NotRun);
    let scalar = Tensor::new(1f32, CPU).unwrap();
    assert_eq!(failing(|x| Ok(x.clone()), &scalar).kind(), FailureKind::NotRun);
    let empty = Tensor::zeros((0, 2), DType::F32, CPU).unwrap();
    assert_eq!(failing(|x| Ok(x.clone()), &empty).kind(), FailureKind::Vacuous);
    let nan = Tensor::new(&[f32::NAN], CPU).unwrap();
    assert_eq!(failing(|x| Ok(x.clone()), &nan).cause(), Some(Cause::NotFinite));
    let once = Deterministic::new().repeats(1).check(|x: &Tensor| x.tanh(), &x()).unwrap_err();
    insta::assert_snapshot!(text(&once), @"
    assertion `deterministic` did not run
    `repeats` is 1; allowed: 2 or more: a single call has nothing to be compared with
    ");
}
