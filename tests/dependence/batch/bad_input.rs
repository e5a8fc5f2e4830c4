//! What cannot be tested says so.

use candle_core::{D, DType, Result, Tensor};
use candling::{
    Cause, Failure, FailureKind,
    check::{BatchIndependent, GradientProof},
};

use super::models::{device, normal, text};

fn failure(f: impl FnMut(&Tensor) -> Result<Tensor>, x: &Tensor) -> Failure {
    BatchIndependent::new().check(f, x).expect_err("nothing can be proved")
}

#[test]
fn one_row_has_nothing_to_mix_with() {
    let failure = failure(Tensor::tanh, &normal(1, &[1, 4], DType::F32));
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(text(&failure), @"
    assertion `batch_independent` proves nothing here
    the batch has one row: there is nothing to mix

      help       give it at least 2 rows, better 8 or more
    ");
}

#[test]
fn an_output_that_nothing_changes_proves_nothing() {
    let x = normal(1, &[4, 3], DType::F32);
    let constant = failure(Tensor::ones_like, &x);
    assert_eq!(constant.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(text(&constant), @"
    assertion `batch_independent` proves nothing here
    replacing rows of the input changes nothing in the output, so none of its 4 rows can depend on another

      confirmed  output-constant   all rows of the output are the same, and stay so
      help       look for a softmax over a dimension of size 1, dead units, or an input that is never used; see
                 docs/causes.md#output-constant
    ");
    let own = normal(2, &[4, 3], DType::F32);
    let ignored = failure(|_| Ok(own.clone()), &x);
    assert_eq!(ignored.kind(), FailureKind::Vacuous);
    assert_eq!(ignored.cause(), Some(Cause::InputIgnored));
    let classes = failure(|x| (x * 0.0)?.argmax(D::Minus1), &x);
    assert!(!classes.findings()[0].is_confirmed());
}

#[test]
fn rows_that_never_move_are_counted() {
    let x = normal(1, &[6, 3], DType::F32);
    let masked = |x: &Tensor| {
        let rows: Vec<f32> = (0..x.dim(0)?).map(|row| if row == 4 { 0.0 } else { 1.0 }).collect();
        x.broadcast_mul(&Tensor::from_vec(rows, (x.dim(0)?, 1), x.device())?)
    };
    let report = BatchIndependent::new().check(masked, &x).unwrap();
    assert_eq!(report.unmoved, [4]);
    assert_eq!(report.gradient, GradientProof::Proved { passes: 2, rows: 5 });
}

/// Drops a column where the first row begins with another number.
fn trimmed(x: &Tensor) -> Result<Tensor> {
    let own = normal(1, &[4, 3], DType::F32).get(0)?.get(0)?.to_scalar::<f32>()?;
    let columns = if x.get(0)?.get(0)?.to_scalar::<f32>()? == own { 3 } else { 2 };
    x.narrow(1, 0, columns)
}

#[test]
fn outputs_and_inputs_of_the_wrong_kind() {
    let x = normal(1, &[4, 3], DType::F32);
    for (failure, says) in [
        (failure(|x| x.sum_all(), &x), "allowed: 4 rows first"),
        (failure(|x| x.sum(0), &x), "dims [3] for an input of dims [4, 3]"),
        (failure(Tensor::tanh, &normal(1, &[], DType::F32)), "of rank 0, a scalar"),
        (failure(|x| x.affine(f64::NAN, 0.0), &x), "NaN"),
        (failure(Tensor::tanh, &x.affine(f64::NAN, 0.0).unwrap()), "the input with NaN"),
        (failure(|x| x.matmul(x), &x), "the function returned an error"),
        (failure(|x| x + x.rand_like(0.0, 1.0)?, &x), "two calls on the same input"),
        (failure(trimmed, &x), "dims [4, 3] on the batch, and f32 of dims [4, 2]"),
    ] {
        assert_eq!(failure.kind(), FailureKind::NotRun, "{failure}");
        assert!(failure.text().contains(says), "{failure}");
        assert_eq!(failure.assertion(), Some("batch_independent"));
    }
    let empty = failure(Tensor::tanh, &Tensor::zeros((0, 3), DType::F32, &device()).unwrap());
    assert_eq!(empty.kind(), FailureKind::Vacuous);
}

#[test]
fn state_that_other_inputs_move_is_no_mixing() {
    let x = normal(1, &[4, 3], DType::F32);
    // The first two calls are alike, and every other input leaves something behind.
    let (mut last, mut kept) = (None::<Tensor>, 0.0);
    let failure = failure(
        |x| {
            let out = (x + kept)?;
            if let Some(last) = &last {
                let moved = (x - last)?.abs()?.sum_all()?.to_scalar::<f32>()?;
                kept += f64::from(moved);
            }
            last = Some(x.clone());
            Ok(out)
        },
        &x,
    );
    assert_eq!(failure.kind(), FailureKind::NotRun);
    assert_eq!(failure.cause(), Some(Cause::StateKept));
}

#[test]
fn views_and_masked_logits_are_inputs_and_outputs_as_others_are() {
    let x = normal(1, &[3, 8], DType::F32).t().unwrap();
    let report = BatchIndependent::new().check(Tensor::tanh, &x).unwrap();
    assert_eq!(report.sizes, [1, 3]);
    let masked = |x: &Tensor| x.lt(0.0)?.where_cond(&(x.zeros_like()? - f64::INFINITY)?, x);
    let report = BatchIndependent::new().check(masked, &x).unwrap();
    assert!(matches!(report.gradient, GradientProof::Proved { .. }));
    assert!(report.gradient.to_string().starts_with("no gradient between rows"));
}
