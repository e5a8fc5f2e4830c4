//! What the check cannot be given, and how it says so.

use candle_core::{DType, Module, Tensor};
use candle_nn::loss;
use candling::{FailureKind, Learner, check::TrainEvalModes};

use super::models::{CPU, builder, dropout, learner, mlp, rows, two};

fn not_run(options: TrainEvalModes, learner: &Learner<'_>, x: &Tensor) -> String {
    let failure = options.check(learner, x).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::NotRun, "{failure}");
    failure.text()
}

#[test]
fn a_learner_without_modes_is_refused() {
    let (vars, vb) = builder(1, DType::F32);
    let (l1, _) = two(&vb);
    let x = rows(4, DType::F32);
    let plain = Learner::new(&vars, |x| l1.forward(x), loss::mse);
    insta::assert_snapshot!(not_run(TrainEvalModes::new(), &plain, &x), @"
    assertion `train_eval_modes` did not run
    `learner` is one whose forward closure knows no modes; allowed: a learner from `Learner::with_modes`, whose closure takes `train`

      rerun      cargo test modes::bad_input::a_learner_without_modes_is_refused
    ");
    let inference = Learner::forward_only(|x: &Tensor| l1.forward(x));
    not_run(TrainEvalModes::new(), &inference, &x);
    let owning = Learner::from_loss(&vars, || l1.forward(&x)?.mean_all());
    not_run(TrainEvalModes::new(), &owning, &x);
}

#[test]
fn options_that_mean_nothing_are_refused() {
    let (learner, _) = mlp(DType::F32, |x, train| dropout(x, 0.2, train));
    let x = rows(4, DType::F32);
    insta::assert_snapshot!(not_run(TrainEvalModes::new().dropout(1.0), &learner, &x), @"
    assertion `train_eval_modes` did not run
    `dropout` is 1; allowed: the share that is dropped, at least 0 and below 1

      rerun      cargo test modes::bad_input::options_that_mean_nothing_are_refused
    ");
    not_run(TrainEvalModes::new().dropout([0.1, -0.1]), &learner, &x);
    not_run(TrainEvalModes::new().dropout(f64::NAN), &learner, &x);
    insta::assert_snapshot!(not_run(TrainEvalModes::new().passes(1), &learner, &x), @"
    assertion `train_eval_modes` did not run
    `passes` is 1; allowed: 2 or more: a single pass has nothing to be compared with

      rerun      cargo test modes::bad_input::options_that_mean_nothing_are_refused
    ");
}

#[test]
fn inputs_that_cannot_be_used_are_refused() {
    let (learner, _) = mlp(DType::F32, |x, train| dropout(x, 0.2, train));
    let options = TrainEvalModes::new;
    let scalar = Tensor::new(1f32, CPU).unwrap();
    assert!(not_run(options(), &learner, &scalar).contains("a scalar"));
    let nan = Tensor::new(&[[f32::NAN; 6]], CPU).unwrap();
    assert!(not_run(options(), &learner, &nan).contains("NaN"));
    let empty = Tensor::zeros((0, 6), DType::F32, CPU).unwrap();
    let failure = options().check(&learner, &empty).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Vacuous);
}

#[test]
fn errors_and_panics_of_the_closure_are_told() {
    let x = rows(4, DType::F32);
    let (errs, _) = mlp(DType::F32, |x, train| if train { x.matmul(x) } else { Ok(x.clone()) });
    assert!(
        not_run(TrainEvalModes::new(), &errs, &x).contains("the forward closure returned an error")
    );
    let (errs, _) = mlp(DType::F32, |x, train| if train { Ok(x.clone()) } else { x.matmul(x) });
    not_run(TrainEvalModes::new(), &errs, &x);
    let (panics, _) = mlp(DType::F32, |x, train| {
        assert!(!train, "no training here");
        Ok(x.clone())
    });
    let told = not_run(TrainEvalModes::new(), &panics, &x);
    assert!(told.contains("the forward closure panicked"), "{told}");
    assert!(told.contains("no training here"), "{told}");
    // A graph of nothing: no variable, and an input of ids.
    let (vars, _) = builder(1, DType::F32);
    let ids = learner(&vars, |ids, _| ids.to_dtype(DType::F32));
    TrainEvalModes::new().check(&ids, &Tensor::new(&[[1u32, 2], [3, 4]], CPU).unwrap()).unwrap();
}
