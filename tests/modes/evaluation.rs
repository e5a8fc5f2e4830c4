//! Evaluation that is random, or changes something.

use std::cell::RefCell;

use candle_core::{DType, Module, Tensor};
use candle_nn::{Init, ModuleT};
use candling::{Cause, check::TrainEvalModes};

use super::models::{
    CPU, Kept, OwnNorm, batch_norm, builder, by_batch, dropout, learner, mlp, normed, of_batch,
    rows, two, violated,
};

#[test]
fn dropout_in_evaluation_is_confirmed_at_its_place() {
    let (vars, vb) = builder(1, DType::F32);
    let (l1, l2) = two(&vb);
    let l3 = candle_nn::linear(4, 4, vb.pp("l3")).unwrap();
    // The second of two layers is not told.
    let learner = learner(&vars, |x, train| {
        let x = l2.forward(&dropout(&l1.forward(x)?.relu()?, 0.2, train)?)?;
        l3.forward(&dropout(&x, 0.2, true)?)
    });
    let failure = violated(TrainEvalModes::new().dropout(0.2), &learner, &rows(16, DType::F32));
    assert_eq!(failure.cause(), Some(Cause::DropoutInEval));
    assert!(failure.findings()[0].is_confirmed());
    assert_eq!(failure.findings()[0].place(), Some("after l2"));
    assert_eq!(failure.headline(), "evaluation drops values at random");
}

#[test]
fn a_random_draw_in_evaluation_is_possibly_dropout() {
    let (learner, _) = mlp(DType::F32, |x, _| x + x.randn_like(0.0, 1.0)?);
    let failure = violated(TrainEvalModes::new(), &learner, &rows(16, DType::F32));
    assert_eq!(failure.cause(), Some(Cause::DropoutInEval));
    assert!(!failure.findings()[0].is_confirmed());
    let options = TrainEvalModes::new().allow(Cause::DropoutInEval);
    options.check(&learner, &rows(16, DType::F32)).unwrap();
}

#[test]
fn statistics_that_evaluation_moves_are_named() {
    let (vars, vb) = builder(1, DType::F32);
    let norm = OwnNorm::new(32, 0.1, &vars, &vb.pp("norm"));
    let moves = move |x: &Tensor, train: bool| {
        norm.update(x)?;
        if train { by_batch(x) } else { norm.by_running(x) }
    };
    let failure =
        violated(TrainEvalModes::new(), &normed(&vars, &vb, moves), &rows(16, DType::F32));
    insta::assert_snapshot!(failure.text(), @"
    assertion `train_eval_modes` failed
    evaluation changes the model

      norms  norm  running statistics move, momentum 0.1, evaluation uses them

      confirmed  eval-changes-state   norm.running_mean: an evaluation pass changes 32 of 32 values, the first
                                      from 0 to -0.0443
      confirmed  eval-changes-state   norm.running_var: an evaluation pass changes 32 of 32 values, the first from
                                      1 to 1.14
      help       move running statistics in training alone: `forward_t(x, false)` in evaluation, and no `set`
                 outside the training branch; see docs/causes.md#eval-changes-state
      rerun      cargo test modes::evaluation::statistics_that_evaluation_moves_are_named
    ");
}

#[test]
fn a_weight_that_evaluation_moves_is_named() {
    let (vars, vb) = builder(1, DType::F32);
    let (l1, l2) = two(&vb);
    let var = vars.data().lock().unwrap()["l1.bias"].clone();
    let learner = learner(&vars, |x, train| {
        if !train {
            var.set(&(var.as_detached_tensor() + 0.5)?)?;
        }
        l2.forward(&l1.forward(x)?)
    });
    let failure = violated(TrainEvalModes::new(), &learner, &rows(16, DType::F32));
    assert_eq!(failure.cause(), Some(Cause::EvalChangesState));
    assert_eq!(failure.findings()[0].place(), Some("l1.bias"));
}

#[test]
fn what_is_kept_outside_of_the_variables_shows() {
    // A mean over all batches that evaluation goes on with.
    let kept = Kept::default();
    let (model, _) = mlp(DType::F32, |x, _| {
        let mean = x.mean_keepdim(0)?;
        let mean = match kept.get() {
            Some(old) => ((old * 0.9)? + (mean * 0.1)?)?,
            None => mean,
        };
        kept.replace(mean.detach());
        x.broadcast_sub(&mean)
    });
    let failure = violated(TrainEvalModes::new(), &model, &rows(16, DType::F32));
    assert_eq!(failure.cause(), Some(Cause::EvalChangesState), "{failure}");

    // Statistics that are no variables: training moves them, and they are not put back.
    let statistics = RefCell::new((Tensor::zeros(32, DType::F32, CPU).unwrap(), 0));
    let (model, _) = mlp(DType::F32, |x, train| {
        if train {
            let (mean, _) = of_batch(x)?;
            let mut statistics = statistics.borrow_mut();
            statistics.0 = ((&statistics.0 * 0.9)? + (mean.squeeze(0)?.detach() * 0.1)?)?;
            return by_batch(x);
        }
        x.broadcast_sub(&statistics.borrow().0)
    });
    let report = TrainEvalModes::new().check(&model, &rows(16, DType::F32)).unwrap();
    assert!(report.hidden_state, "{report}");
}

#[test]
fn a_weight_that_a_training_pass_moves_is_named() {
    let (vars, vb) = builder(1, DType::F32);
    let (l1, l2) = two(&vb);
    let var = vars.data().lock().unwrap()["l1.weight"].clone();
    let decayed = learner(&vars, |x, train| {
        if train {
            var.set(&(var.as_detached_tensor() * 0.9)?)?;
        }
        l2.forward(&l1.forward(x)?)
    });
    let failure = violated(TrainEvalModes::new(), &decayed, &rows(16, DType::F32));
    assert_eq!(failure.cause(), Some(Cause::StateKept));
    assert_eq!(failure.findings()[0].place(), Some("l1.weight"));
    // A buffer without a gradient is as a running statistic.
    let (vars, vb) = builder(1, DType::F32);
    let (l1, l2) = two(&vb);
    vb.get_with_hints(32, "codes", Init::Const(1.0)).unwrap();
    let codes = vars.data().lock().unwrap()["codes"].clone();
    let tracked = learner(&vars, |x, train| {
        let x = l1.forward(x)?;
        if train {
            codes.set(&(codes.as_detached_tensor() * 0.9)?)?;
        }
        l2.forward(&x.broadcast_add(&codes.as_detached_tensor())?)
    });
    let report = TrainEvalModes::new().check(&tracked, &rows(16, DType::F32)).unwrap();
    assert_eq!(report.norms[0].statistics, ["codes"]);
}

#[test]
fn a_norm_in_training_mode_names_the_batchs_statistics_first() {
    let (vars, vb) = builder(1, DType::F32);
    let norm = batch_norm(32, &vb);
    let learner = normed(&vars, &vb, move |x, _| norm.forward_t(x, true));
    let failure = violated(TrainEvalModes::new(), &learner, &rows(16, DType::F32));
    insta::assert_snapshot!(failure.text(), @"
    assertion `train_eval_modes` failed
    evaluation normalises by the statistics of a batch

      norms  norm  running statistics move, momentum 0.1, evaluation does not use them

      confirmed  norm-stats-of-batch   norm: evaluation does not notice its running statistics, and its first row
                                       moves by 1 when the other rows change: it normalises by the batch's own
      confirmed  eval-changes-state    norm.running_mean, norm.running_var: an evaluation pass moves them, as one
                                       in training mode does
      help       call `forward_t(x, false)` in evaluation; see docs/causes.md#norm-stats-of-batch
      help       look for a `Var::set` or a training-mode layer in the evaluation path; see
                 docs/causes.md#eval-changes-state
      rerun      cargo test modes::evaluation::a_norm_in_training_mode_names_the_batchs_statistics_first
    ");
}
