//! What cannot be used is said, and nothing is left changed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Module, Tensor};
use candle_nn::{Optimizer, SGD, VarMap, loss};
use candling::{
    Failure, FailureKind, Learner,
    check::{LossDecreases, StepUpdates},
};

use super::super::models::{Mlp, bits, classes, device};
use crate::support::text;

fn refused<T>(result: candling::Result<T>) -> Failure {
    let Err(failure) = result else { panic!("it ran") };
    assert_eq!(failure.kind(), FailureKind::NotRun, "{failure}");
    failure
}

#[test]
fn settings_that_cannot_be_used() {
    let (vars, _) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let idle = || Ok(());
    let refusal =
        |options: StepUpdates<'_>| refused(options.check(&vars, idle)).headline().to_owned();
    insta::assert_snapshot!(refusal(StepUpdates::new().steps(0)), @"`steps` is 0; allowed: 1 or more");
    insta::assert_snapshot!(refusal(StepUpdates::new().learning_rate(-0.1)), @"`learning_rate` is -0.1; allowed: a finite number above 0");
    insta::assert_snapshot!(refusal(StepUpdates::new().learning_rate(f64::NAN)), @"`learning_rate` is NaN; allowed: a finite number above 0");
    insta::assert_snapshot!(refusal(StepUpdates::new().frozen(["encoder."])), @r#"`frozen` is "encoder.", which begins no variable's name; allowed: the beginning of one of l1.bias, l1.weight, l2.bias, l2.weight"#);
    insta::assert_snapshot!(refusal(StepUpdates::new().decayed(["norm"])), @r#"`decayed` is "norm", which begins no variable's name; allowed: the beginning of one of l1.bias, l1.weight, l2.bias, l2.weight"#);
    insta::assert_snapshot!(refusal(StepUpdates::new().frozen(["l"])), @"none of the 4 variables may train: all are frozen, integers or running statistics");
    insta::assert_snapshot!(text(&refused(StepUpdates::new().check(&VarMap::new(), idle))), @"
    assertion `step_updates` did not run
    there are no variables to train

      possible   variable-untracked   a `VarMap` is empty until the model is built from it
      help       build the model first, then pass its `VarMap`
    ");

    let two = Tensor::zeros(2, DType::F32, &device()).unwrap();
    insta::assert_snapshot!(refusal(StepUpdates::new().loss(|| Ok(two.clone()))), @"the loss closure returned a tensor of dims [2] and dtype f32; allowed: a scalar of a float dtype");
    let count = Tensor::new(3u32, &device()).unwrap();
    insta::assert_snapshot!(refusal(StepUpdates::new().loss(|| Ok(count.clone()))), @"the loss closure returned a tensor of dims [] and dtype u32; allowed: a scalar of a float dtype");
}

#[test]
fn closures_that_fail_are_told_with_the_call() {
    let (vars, model) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let (x, y) = classes(1, DType::F32);
    let before = bits(&vars);
    let mut optimizer = SGD::new(vars.all_vars(), 0.1).unwrap();
    let mut batches = 5;
    let failure = refused(StepUpdates::new().check(&vars, || {
        if batches == 0 {
            candle_core::bail!("no more batches")
        }
        batches -= 1;
        optimizer.backward_step(&loss::cross_entropy(&model.forward(&x)?, &y)?)
    }));
    insta::assert_snapshot!(text(&failure), @"
    assertion `step_updates` did not run
    the step returned an error

      error  no more batches
      call   6
    ");
    let failure = refused(StepUpdates::new().check(&vars, || panic!("out of range")));
    insta::assert_snapshot!(text(&failure), @"
    assertion `step_updates` did not run
    the step panicked

      panic  out of range
      call   1
    ");
    let failure = refused(StepUpdates::new().loss(|| x.matmul(&x)).check(&vars, || Ok(())));
    assert_eq!(failure.headline(), "the loss closure returned an error");
    assert_eq!(bits(&vars), before);
}

#[test]
fn variables_that_are_nan_before_are_refused() {
    let (vars, _) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    candling::set_constant(&vars, f64::NAN).unwrap();
    insta::assert_snapshot!(text(&refused(StepUpdates::new().check(&vars, || Ok(())))), @"
    assertion `step_updates` did not run
    variable `l1.bias` is not finite before the first step

      confirmed  not-finite   l1.bias: NaN or infinite before the first step
      help       start at the named origin: what comes after it is only carried along; see
                 docs/causes.md#not-finite
    ");
}

#[test]
fn learners_and_batches_that_cannot_be_used() {
    let (vars, model) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let (x, y) = classes(1, DType::F32);
    let learner = Learner::new(&vars, |x| model.forward(x), loss::cross_entropy);
    let refusal =
        |x: &Tensor| refused(LossDecreases::new().check(&learner, (x, &y))).headline().to_owned();
    insta::assert_snapshot!(refusal(&x.narrow(0, 0, 0).unwrap()), @"`batch` is the input of dims [0, 6], empty; allowed: at least one row");
    insta::assert_snapshot!(refusal(&Tensor::new(1f32, &device()).unwrap()), @"`batch` is the input of rank 0; allowed: the batch as the first dimension");
    insta::assert_snapshot!(refusal(&(&x / 0.0).unwrap()), @"`batch` is the input with NaN or infinite values; allowed: finite values");
    let failure = refused(LossDecreases::new().steps(0).check(&learner, (&x, &y)));
    insta::assert_snapshot!(failure.headline(), @"`steps` is 0; allowed: 1 or more");
    let inference = Learner::forward_only(|x: &Tensor| model.forward(x));
    refused(LossDecreases::new().check(&inference, (&x, &y)));

    let before = bits(&vars);
    let mut calls = 0;
    let failing = Learner::new(
        &vars,
        |x: &Tensor| model.forward(x),
        move |o, y| {
            calls += 1;
            if calls == 6 {
                panic!("in the middle")
            }
            loss::cross_entropy(o, y)
        },
    );
    let outcome = catch_unwind(AssertUnwindSafe(|| LossDecreases::new().check(&failing, (&x, &y))));
    assert!(outcome.is_err() || outcome.is_ok_and(|o| o.is_err()));
    assert_eq!(bits(&vars), before);
}
