//! Sensitivity: what it sees, what it says, and what it refuses.

use candle_core::{DType, Device, Result, Tensor};
use candling::{
    Cause, Failure, FailureKind, Seed, assert_sensitive,
    check::{Direction, Sensitive},
};

use crate::support::text;

const CPU: &Device = &Device::Cpu;

fn normal(dims: &[usize], dtype: DType) -> Tensor {
    Seed::new(1).normal("x", dims, dtype, CPU).unwrap()
}

fn up(x: &Tensor) -> Result<Tensor> {
    x + 1.0
}

fn failure(options: Sensitive, f: impl FnMut(&Tensor) -> Result<Tensor>, x: &Tensor) -> Failure {
    options.check(f, x, up).unwrap_err()
}

#[test]
fn a_change_that_matters_is_noticed() {
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let x = normal(&[3, 4], dtype);
        let report = assert_sensitive!(|x| x.sum(1), &x, up);
        assert_eq!((report.rows, report.rows_moved, report.elements_moved), (3, 3, 3));
        assert_sensitive!(|x| x.tanh(), x, up, direction = Direction::Up, "{dtype:?}");
        assert_sensitive!(|x| x.neg(), &x, up, direction = Direction::Down, every_row = true);
        let shift_invariant = |x: &Tensor| x.broadcast_sub(&x.mean_keepdim(1)?);
        let failure = failure(Sensitive::new(), shift_invariant, &x);
        assert_eq!(failure.cause(), Some(Cause::NotSensitive), "{dtype:?}");
    }
}

#[test]
fn a_channel_that_is_not_read() {
    let x = normal(&[2, 3, 2], DType::F32);
    let green = |x: &Tensor| {
        Tensor::cat(&[x.narrow(1, 0, 1)?, up(&x.narrow(1, 1, 1)?)?, x.narrow(1, 2, 1)?], 1)
    };
    assert_sensitive!(|x| x.mean(1), &x, green);
    let failure = Sensitive::new().check(|x: &Tensor| x.narrow(1, 0, 1), &x, green).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Violated);
    insta::assert_snapshot!(text(&failure), @"
    assertion `sensitive` failed
    the output does not notice the perturbation

      input   dims [2, 3, 2]
      output  f32 [2, 1, 2]
      moved   0 of 4 values (0%), in 0 of 2 rows; the largest change is 0
      noise   equal bit for bit: no rounding is involved

      confirmed  not-sensitive   all 4 output values are equal bit for bit before and after
      help       check that the changed input reaches the model; see docs/causes.md#not-sensitive
    ");
}

#[test]
fn a_change_within_the_noise_is_none() {
    let x = normal(&[2, 3], DType::F32);
    let failure = failure(Sensitive::new(), |x| x.broadcast_sub(&x.mean_keepdim(1)?), &x);
    insta::assert_snapshot!(text(&failure), @"
    assertion `sensitive` failed
    the output hardly notices the perturbation: no value moves by more than 8.94e-8

      input   dims [2, 3]
      output  f32 [2, 3]
      moved   0 of 6 values (0%), in 0 of 2 rows; the largest change is 8.94e-8
      noise   rounding explains changes up to 9.54e-7, 4 times the noise measured on the function

      confirmed  not-sensitive   the largest change is 8.94e-8, and 9.54e-7 is needed
      help       check that the changed input reaches the model; see docs/causes.md#not-sensitive
    ");
}

#[test]
fn the_wrong_direction_names_the_value() {
    let x = normal(&[2, 3], DType::F32);
    let towards = |direction| Sensitive::new().direction(direction);
    let failure_of = failure(towards(Direction::Down), Tensor::exp, &x);
    assert_eq!(failure_of.cause(), Some(Cause::WrongDirection));
    insta::assert_snapshot!(text(&failure_of), @"
    assertion `sensitive` failed
    all 6 output values move up under the perturbation, and should move down

      input       dims [2, 3]
      output      f32 [2, 3]
      moved down  0 of 6 values (0%), in 0 of 2 rows; the largest change is 6.34
      noise       rounding explains changes up to 1.14e-5, 4 times the noise measured on the function

      confirmed  wrong-direction   [0, 1]: 3.69 before, 10 after
      help       check the sign, and the order of the operands; see docs/causes.md#wrong-direction
    ");
    // a parabola goes down before it goes up
    let failure_of = failure(towards(Direction::Up), Tensor::sqr, &x);
    insta::assert_snapshot!(text(&failure_of), @"
    assertion `sensitive` failed
    2 of 6 output values move down under the perturbation, and should move up

      input     dims [2, 3]
      output    f32 [2, 3]
      moved up  4 of 6 values (66.7%), in 2 of 2 rows; the largest change is 3.61
      noise     rounding explains changes up to 5.72e-6, 4 times the noise measured on the function

      confirmed  wrong-direction   [1, 1]: 0.959 before, 0.000424 after
      help       check the sign, and the order of the operands; see docs/causes.md#wrong-direction
    ");
    let flat = failure(towards(Direction::Up), |x| x.ge(-100.0), &x);
    assert_eq!(flat.cause(), Some(Cause::NotSensitive));
}

#[test]
fn every_row_and_at_least() {
    let x = Tensor::new(&[[1f32, 2.0], [-5.0, -6.0], [3.0, 1.0]], CPU).unwrap();
    let report = assert_sensitive!(|x| x.relu(), &x, up);
    assert_eq!((report.rows_moved, report.elements_moved), (2, 4));
    insta::assert_snapshot!(text(&failure(Sensitive::new().every_row(true), Tensor::relu, &x)), @"
    assertion `sensitive` failed
    2 of 3 rows notice the perturbation, and every row should

      input   dims [3, 2]
      output  f32 [3, 2]
      moved   4 of 6 values (66.7%), in 2 of 3 rows; the largest change is 1
      noise   rounding explains changes up to 1.91e-6, 4 times the noise measured on the function

      confirmed  not-sensitive   no value moves in row 1
      help       check that the changed input reaches the model; see docs/causes.md#not-sensitive
    ");
    assert_sensitive!(|x| x.relu(), &x, up, at_least = 1.0);
    insta::assert_snapshot!(text(&failure(Sensitive::new().at_least(1.5), Tensor::relu, &x)), @"
    assertion `sensitive` failed
    the output hardly notices the perturbation: no value moves by more than 1

      input   dims [3, 2]
      output  f32 [3, 2]
      moved   0 of 6 values (0%), in 0 of 3 rows; the largest change is 1
      noise   changes of 1.5 and more count, as given

      confirmed  not-sensitive   the largest change is 1, and 1.5 is needed
      help       check that the changed input reaches the model; see docs/causes.md#not-sensitive
    ");
    assert_sensitive!(|x| x.relu(), &x, up, at_least = 1.5, allow = Cause::NotSensitive);
}

#[test]
fn integers_scalars_layouts_and_several_inputs() {
    let ids = Tensor::new(&[[3u32, 1, 2]], CPU).unwrap();
    assert_sensitive!(|x| x.argmax(1), &ids, |x| x.flip(&[1]));
    let scalar = Tensor::new(2f32, CPU).unwrap();
    let report = assert_sensitive!(|x| x.sqr(), &scalar, up, direction = Direction::Up);
    assert_eq!((report.rows, report.elements), (1, 1));
    let x = normal(&[4, 6], DType::F32);
    assert_sensitive!(|x| x.sum(1), &x.t().unwrap(), up);
    assert_sensitive!(|x| x.sum(1), &x.narrow(1, 2, 3).unwrap(), [up, |x| x.neg()]);
    let both = [x.clone(), x.clone()];
    assert_sensitive!(|[a, b]| a - b, &both, |[a, b]| Ok([up(a)?, b.clone()]));
    let infinite = Tensor::new(&[f32::NEG_INFINITY, 1.0], CPU).unwrap();
    assert_sensitive!(|x| x.clone().detach().affine(1.0, 0.0), &infinite, up);
}

#[test]
fn what_cannot_be_judged_says_so() {
    let x = normal(&[2, 3], DType::F32);
    let check = |p: fn(&Tensor) -> Result<Tensor>| {
        Sensitive::new().check(|x: &Tensor| x.sqrt()?.sum(1), &x.abs().unwrap(), p).unwrap_err()
    };
    let same = check(|x| Ok(x.clone()));
    assert_eq!(same.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(text(&same), @"
    assertion `sensitive` proves nothing here
    the perturbation leaves the input as it is, bit for bit: there was nothing to notice

      input  dims [2, 3]

      help       give an input that the perturbation changes, or another one
    ");
    insta::assert_snapshot!(text(&check(|x| x.neg())), @"
    assertion `sensitive` did not run
    the output holds NaN after the perturbation, which is no direction and no size

      confirmed  not-finite   [0]: 2.06 before, NaN after
      help       start at the named origin: what comes after it is only carried along; see
                 docs/causes.md#not-finite
    ");
    insta::assert_snapshot!(text(&check(|x| x.narrow(0, 0, 1))), @"
    assertion `sensitive` did not run
    the output's shape is another after the perturbation: [1], before [2]; values cannot be compared

      help       perturb values, and leave the input's shape as it is; or reduce the output to one shape in the
                 function
    ");
    assert!(text(&check(|x| x.reshape(7))).contains("returned an error"));
    let bad = failure(Sensitive::new().at_least(-1.0), Tensor::tanh, &x);
    insta::assert_snapshot!(text(&bad), @"
    assertion `sensitive` did not run
    `at_least` is -1; allowed: 0 or more
    ");
    let empty = Tensor::zeros((0, 3), DType::F32, CPU).unwrap();
    assert_eq!(failure(Sensitive::new(), Tensor::tanh, &empty).kind(), FailureKind::Vacuous);
    let random = |x: &Tensor| x + x.rand_like(0.0, 1.0)?;
    assert_eq!(failure(Sensitive::new(), random, &x).kind(), FailureKind::NotRun);
}
