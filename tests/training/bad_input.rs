//! What cannot be used is said: the argument, what it was, what is allowed.

use std::error::Error;

use candle_core::{DType, Module, Tensor, Var};
use candle_nn::{VarMap, loss};
use candling::{
    Batch, Cause, Failure, FailureKind, Learner,
    check::{Healthy, OverfitsBatch},
};

use super::models::{Mlp, classes, device};
use crate::support::text;

fn refused(learner: &Learner<'_>, batch: impl Into<Batch>) -> Failure {
    let failure = OverfitsBatch::new().check(learner, batch).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::NotRun, "{failure}");
    failure
}

/// The sentence alone: the rest of the text is the same for all.
fn sentence(learner: &Learner<'_>, batch: impl Into<Batch>) -> String {
    refused(learner, batch).headline().to_owned()
}

#[test]
fn batches_that_cannot_be_used() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);

    let empty = (x.narrow(0, 0, 0).unwrap(), y.narrow(0, 0, 0).unwrap());
    insta::assert_snapshot!(text(&refused(&learner, &empty)), @"
    assertion `overfits_batch` did not run
    `batch` is the input of dims [0, 6], empty; allowed: at least one row
    ");

    let fewer = y.narrow(0, 0, 12).unwrap();
    insta::assert_snapshot!(sentence(&learner, (&x, &fewer)), @"the loss closure returned an error");

    let scalar = Tensor::new(1f32, &device()).unwrap();
    insta::assert_snapshot!(sentence(&learner, (&scalar, &y)), @"`batch` is the input of rank 0; allowed: the batch as the first dimension");

    let nan = (&x / 0.0).unwrap();
    let failure = refused(&learner, (&nan, &y));
    assert_eq!(failure.cause(), Some(Cause::NotFinite));
    insta::assert_snapshot!(failure.headline(), @"`batch` is the input with NaN or infinite values; allowed: finite values");

    insta::assert_snapshot!(sentence(&learner, ()), @"`batch` is `()`; allowed: an input and its targets, `(&x, &y)`");
    insta::assert_snapshot!(sentence(&learner, (&[x.clone(), x.clone()], &y)), @"the forward closure returned an error");

    let two = Learner::new(&vars, |[a, _]: &[Tensor; 2]| m.forward(a), loss::cross_entropy);
    let uneven = [x.clone(), x.narrow(0, 0, 3).unwrap()];
    insta::assert_snapshot!(sentence(&two, (&uneven, &y)), @"`batch` is input 0 of dims [16, 6] beside input 1 of dims [3, 6]; allowed: one number of rows for all");
}

#[test]
fn losses_that_cannot_be_used() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let with = |loss: fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>| {
        refused(&Learner::new(&vars, |x| m.forward(x), loss), (&x, &y))
    };
    insta::assert_snapshot!(text(&with(|o, _| Ok(o.clone()))), @"
    assertion `overfits_batch` did not run
    the loss closure returned a tensor of dims [16, 4]; allowed: a scalar

      help       end the loss closure with `mean_all()`
    ");

    let right = |o: &Tensor, y: &Tensor| o.argmax(1)?.eq(y)?.to_dtype(DType::U32)?.sum_all();
    let failure = with(right);
    assert_eq!(failure.cause(), Some(Cause::LossDetached));
    insta::assert_snapshot!(text(&failure), @"
    assertion `overfits_batch` did not run
    the loss closure returned a scalar of dtype u32; allowed: a float dtype

      possible   loss-detached   an integer carries no gradient; a count of right answers is a metric, not a loss
      help       look for `detach`, `argmax`, `to_scalar`, or a tensor rebuilt from a `Vec` between output and
                 loss; see docs/causes.md#loss-detached
    ");

    let scalar = Learner::new(&vars, |x| m.forward(x)?.sum_all(), |o, _| Ok(o.clone()));
    insta::assert_snapshot!(text(&refused(&scalar, (&x, &y))), @"
    assertion `overfits_batch` did not run
    the forward closure returned a scalar; allowed: an output with the batch as its first dimension

      help       a closure that returns the loss itself belongs into `Learner::from_loss`
    ");

    let negative = Learner::new(&vars, |x| m.forward(x), |o, _| o.sqr()?.mean_all()? - 100.0);
    insta::assert_snapshot!(text(&refused(&negative, (&x, &y))), @"
    assertion `overfits_batch` did not run
    `loss_below` is not given, and the loss starts below zero, at -98.3; allowed: the loss that a fitted batch has, which no rule can tell for a loss without a floor at zero

      possible   loss-sign   most losses of the field are never negative; this one starts at -98.3 and goes to
                             -100
      help       the loss closure returns the negative of what it should; see docs/causes.md#loss-sign
    ");
}

#[test]
fn a_loss_that_is_nan_from_the_start_names_its_origin() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let of = |learner: Learner<'_>| OverfitsBatch::new().check(&learner, (&x, &y)).unwrap_err();

    let failure = of(Learner::new(&vars, |x| m.forward(x)?.log(), loss::cross_entropy));
    assert_eq!(failure.cause(), Some(Cause::NotFinite));
    assert_eq!(failure.findings()[0].place(), Some("after l2"));

    let failure = of(Learner::new(&vars, |x| m.forward(x), |o, _| o.log()?.mean_all()));
    assert!(failure.findings().iter().any(|f| f.place() == Some("the loss closure")));
    insta::assert_snapshot!(text(&failure), @"
    assertion `overfits_batch` failed
    the loss is NaN before the first step

      loss       ✗
      shape      not finite
      optimizer  the default: AdamW, at a learning rate of 0.01

      confirmed  loss-on-logits   on outputs squashed into (0, 1) the loss is finite: it takes the logarithm of
                                  raw outputs
      confirmed  not-finite       the loss closure: the output in [-2.32, 3.07] is finite, the loss is NaN before
                                  the first step
      help       apply `log_softmax` (or `sigmoid`) first, or use the loss that takes logits; see
                 docs/causes.md#loss-on-logits
      help       start at the named origin: what comes after it is only carried along; see
                 docs/causes.md#not-finite
    ");

    candling::set_with(&vars, |_, shape| Tensor::full(f32::NAN, shape, &device())).unwrap();
    let failure = of(Learner::new(&vars, |x| m.forward(x), loss::cross_entropy));
    assert_eq!(failure.findings()[0].place(), Some("variable l1.bias and 3 more"));
}

#[test]
fn learners_that_cannot_be_trained() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);

    let none = Learner::new(&VarMap::new(), |x| m.forward(x), loss::cross_entropy);
    insta::assert_snapshot!(text(&refused(&none, (&x, &y))), @"
    assertion `overfits_batch` did not run
    the learner has no variables to train

      possible   variable-untracked   a `VarMap` is empty until the model is built from it, and weights of
                                      `from_mmaped_safetensors` are not in it
      help       build the model first, then pass its `VarMap` to `Learner::new`
    ");

    let frozen = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy).frozen(["l1", "l2"]);
    insta::assert_snapshot!(sentence(&frozen, (&x, &y)), @"none of the learner's 4 variables may train: all are frozen, integers or running statistics");

    let typo = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy).frozen(["encoder."]);
    insta::assert_snapshot!(sentence(&typo, (&x, &y)), @r#"`frozen` is "encoder.", which begins no variable's name; allowed: the beginning of one of l1.bias, l1.weight, l2.bias, l2.weight"#);

    let integers = vec![Var::new(&[1u32], &device()).unwrap()];
    let integers = Learner::new(&integers, |x| m.forward(x), loss::cross_entropy);
    insta::assert_snapshot!(sentence(&integers, (&x, &y)), @"none of the learner's 1 variable may train: all are frozen, integers or running statistics");

    let inference = Learner::forward_only(|x| m.forward(x));
    insta::assert_snapshot!(sentence(&inference, (&x, &y)), @"the learner has no variables to train");

    let own = Learner::from_loss(&vars, || loss::cross_entropy(&m.forward(&x)?, &y));
    insta::assert_snapshot!(sentence(&own, (&x, &y)), @"`batch` is an input and targets; allowed: `()`: the closure of `Learner::from_loss` owns its data");
}

#[test]
fn settings_that_cannot_be_used() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
    let of = |options: OverfitsBatch| {
        let failure = options.check(&learner, (&x, &y)).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::NotRun);
        failure.headline().to_owned()
    };
    insta::assert_snapshot!(of(OverfitsBatch::new().steps(0)), @"`steps` is 0; allowed: 1 or more");
    insta::assert_snapshot!(of(OverfitsBatch::new().loss_below(f64::NAN)), @"`loss_below` is NaN; allowed: a finite number");
    insta::assert_snapshot!(of(OverfitsBatch::new().accuracy(1.5)), @"`accuracy` is 1.5; allowed: a share in (0, 1]");
    let failure = OverfitsBatch::new().loss_below(9.0).check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(failure.headline(), @"the loss is 1.62 before the first step, at its target of 9 already");

    let of = |options: Healthy| options.check(&learner, (&x, &y)).unwrap_err();
    insta::assert_snapshot!(of(Healthy::new().skip(["overfit"])).headline(), @r#"`skip` is "overfit"; allowed: finite, labels, initialized, deterministic, batch_independent, uses_input, causal, train_eval_modes, initial_loss, gradients_flow, gradients_correct, units_alive, loss_decreases, overfits_batch"#);
    insta::assert_snapshot!(of(Healthy::new().classes(0)).headline(), @"`classes` is 0; allowed: 1 or more");
    let nothing = of(Healthy::new().skip([
        "finite",
        "labels",
        "deterministic",
        "batch_independent",
        "uses_input",
        "causal",
        "train_eval_modes",
        "initialized",
        "initial_loss",
        "gradients_flow",
        "gradients_correct",
        "units_alive",
        "loss_decreases",
        "overfits_batch",
    ]));
    assert_eq!(nothing.kind(), FailureKind::Vacuous);
}

#[test]
fn an_error_of_a_closure_is_shown_with_its_source() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [5, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
    let failure = refused(&learner, (&x, &y));
    assert!(failure.source().is_some());
    insta::assert_snapshot!(text(&failure), @"
    assertion `overfits_batch` did not run
    the forward closure returned an error

      error  shape mismatch in matmul, lhs: [16, 6], rhs: [5, 16]
    ");

    let learner = Learner::new(&vars, |x: &Tensor| x.narrow(1, 0, 4), loss::mse);
    insta::assert_snapshot!(text(&refused(&learner, (&x, &y))), @"
    assertion `overfits_batch` did not run
    the loss closure returned an error

      error    shape mismatch in sub, lhs: [16, 4], rhs: [16]
      output   [16, 4] f32
      targets  [16] u32
    ");
}

#[test]
fn healthy_tells_of_every_check() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner =
        Learner::new(&vars, |x| candle_nn::ops::softmax(&m.forward(x)?, 1), loss::cross_entropy);
    let failure = Healthy::new().classes(3).check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Violated);
    insta::assert_snapshot!(text(&failure), @"
    assertion `healthy` failed
    2 of 12 checks failed

      finite             passed
      labels             a label is no class
      initialized        passed
      deterministic      passed
      batch_independent  passed
      uses_input         passed
      initial_loss       passed
      gradients_flow     passed
      gradients_correct  passed
      units_alive        passed
      loss_decreases     passed
      overfits_batch     the loss stops above its target: 1.38 -> 0.801 in 300 steps (target 0.0138)
      loss               █▆▅▄▃▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁   0.801 .. 1.38
      shape              floor above zero
      accuracy           0.938
      optimizer          the default: AdamW, at a learning rate of 0.01

      confirmed  label-out-of-range      target 1: 4 of 16 labels lie outside 0..3; the first is 3
      confirmed  loss-on-probabilities   the loss is the cross-entropy of logits, and the outputs' rows sum to 1:
                                         its floor over 4 classes is 0.744, not 0
      help       labels count from 0; check for an offset, or for a head with too few outputs; see
                 docs/causes.md#label-out-of-range
      help       remove the softmax or sigmoid before the loss: it applies its own; see
                 docs/causes.md#loss-on-probabilities
    ");

    let inference = Learner::forward_only(|x| m.forward(x));
    let report = Healthy::new().check(&inference, (&x, &y)).unwrap();
    assert_eq!(report.ran, ["finite", "deterministic", "batch_independent", "uses_input"]);
}

#[test]
fn failures_pass_through_every_kind_of_question_mark() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
    let own = || -> candling::Result<()> {
        OverfitsBatch::new().steps(0).check(&learner, (&x, &y))?;
        Ok(())
    };
    let boxed = || -> Result<(), Box<dyn Error + Send + Sync>> { Ok(own()?) };
    let any = || -> anyhow::Result<()> { Ok(own()?) };
    let candle = || -> candling::Result<Tensor> { Ok(x.matmul(&x)?) };
    assert!(boxed().unwrap_err().to_string().contains("`steps` is 0"));
    assert!(any().unwrap_err().to_string().contains("`steps` is 0"));
    assert!(candle().unwrap_err().text().contains("shape mismatch in matmul"));
}
