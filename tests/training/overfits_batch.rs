//! What `assert_overfits_batch!` says of good models and of bad ones.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Module, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, SGD, VarMap, loss, ops};
use candling::{
    Cause, Failure, FailureKind, Learner, Seed, assert_overfits_batch,
    check::{OverfitsBatch, Trajectory},
};

use super::models::{Mlp, bits, classes, device};
use crate::support::text;

fn failure(learner: &Learner<'_>, batch: (&Tensor, &Tensor)) -> Failure {
    OverfitsBatch::new().check(learner, batch).expect_err("the bug was not seen")
}

#[test]
fn a_classifier_passes_and_reports() {
    let (x, y) = classes(1, DType::F32);
    let (vars, model) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| model.forward(x), loss::cross_entropy);
    let report = assert_overfits_batch!(learner, (&x, &y), accuracy = 1.0, "sixteen rows");
    assert_eq!(report.trajectory, Trajectory::Converged);
    assert_eq!(report.losses.len(), report.steps + 1);
    assert_eq!(report.accuracy, Some(1.0));
    assert!(report.final_loss <= report.target && report.target < report.initial_loss);
}

#[test]
fn every_float_dtype_is_trained() {
    for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
        let (x, y) = classes(1, dtype);
        let (vars, model) = Mlp::seeded(1, [6, 16, 4], dtype);
        let learner = Learner::new(&vars, |x| model.forward(x), loss::cross_entropy);
        let report = OverfitsBatch::new().check(&learner, (&x, &y)).unwrap();
        assert!(report.final_loss < 0.1 * report.initial_loss, "{dtype:?}: {report:?}");
    }
}

#[test]
fn regression_binary_and_sequence_learners_pass() {
    let seed = Seed::new(2);
    let x = seed.normal("x", (16, 6), DType::F32, &device()).unwrap();
    let (vars, model) = Mlp::seeded(2, [6, 32, 1], DType::F32);

    let y = seed.normal("y", (16, 1), DType::F32, &device()).unwrap();
    let regression = Learner::new(&vars, |x| model.forward(x), loss::mse);
    assert_overfits_batch!(regression, (&x, &y));

    let y = y.gt(0.0).unwrap().to_dtype(DType::F32).unwrap();
    let binary = Learner::new(&vars, |x| model.forward(x), loss::binary_cross_entropy_with_logit);
    assert_overfits_batch!(&binary, (&x, &y));

    let (vars, vb) = seed.var_builder(DType::F32, &device());
    let embedding = candle_nn::embedding(11, 16, vb.pp("embed")).unwrap();
    let rnn = candle_nn::gru(16, 16, Default::default(), vb.pp("gru")).unwrap();
    let head = candle_nn::linear(16, 11, vb.pp("head")).unwrap();
    let tokens = seed.tokens("tokens", 11, (4, 7), &device()).unwrap();
    let next = seed.tokens("next", 11, (4, 7), &device()).unwrap();
    let sequence = Learner::new(
        &vars,
        |x| {
            use candle_nn::RNN;
            let states = rnn.seq(&embedding.forward(x)?)?;
            let states: Vec<_> = states.iter().map(|state| state.h()).collect();
            head.forward(&Tensor::stack(&states, 1)?)
        },
        |logits, y| loss::cross_entropy(&logits.flatten_to(1)?, &y.flatten_all()?),
    );
    let report = assert_overfits_batch!(sequence, (&tokens, &next));
    assert_eq!(report.accuracy, Some(1.0));
}

#[test]
fn several_inputs_and_closures_that_own_their_data_pass() {
    let (x, y) = classes(3, DType::F32);
    let (vars, model) = Mlp::seeded(3, [6, 16, 4], DType::F32);
    let half = (&x * 0.5).unwrap();
    let two =
        Learner::new(&vars, |[a, b]: &[Tensor; 2]| model.forward(&(a + b)?), loss::cross_entropy);
    assert_overfits_batch!(two, (&[half.clone(), half.clone()], &y));

    let own = Learner::from_loss(&vars, || loss::cross_entropy(&model.forward(&x)?, &y));
    let report = assert_overfits_batch!(own, ());
    assert_eq!(report.accuracy, None);
}

#[test]
fn layouts_and_a_batch_of_one_pass() {
    let (x, y) = classes(4, DType::F32);
    let (vars, model) = Mlp::seeded(4, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| model.forward(x), loss::cross_entropy);
    let transposed = x.t().unwrap().contiguous().unwrap().t().unwrap();
    assert!(!transposed.is_contiguous());
    assert_overfits_batch!(learner, (&transposed, &y));
    let one = (x.narrow(0, 3, 1).unwrap(), y.narrow(0, 3, 1).unwrap());
    // One row has no other row's target, and a bias alone can fit it: only the zeroed input can tell.
    let outcome = OverfitsBatch::new().check(&learner, &one);
    assert!(outcome.is_ok() || outcome.unwrap_err().kind() == FailureKind::Vacuous);
}

#[test]
fn dropout_and_batch_norm_pass_by_their_modes() {
    let (x, y) = classes(5, DType::F32);
    let (vars, vb) = Seed::new(5).var_builder(DType::F32, &device());
    let l1 = candle_nn::linear(6, 32, vb.pp("l1")).unwrap();
    let norm = candle_nn::batch_norm(32, 1e-5, vb.pp("norm")).unwrap();
    let l2 = candle_nn::linear(32, 4, vb.pp("l2")).unwrap();
    let learner = Learner::with_modes(
        &vars,
        |x: &Tensor, train| {
            use candle_nn::ModuleT;
            let h = norm.forward_t(&l1.forward(x)?, train)?.relu()?;
            l2.forward(&candle_nn::Dropout::new(0.2).forward(&h, train)?)
        },
        loss::cross_entropy,
    );
    let before = bits(&vars);
    assert_overfits_batch!(learner, (&x, &y));
    assert_eq!(bits(&vars), before, "running statistics come back too");
}

/// A learner, and what is wrong with it.
fn bug<'a>(
    vars: &VarMap,
    forward: impl FnMut(&Tensor) -> candle_core::Result<Tensor> + 'a,
    loss: impl FnMut(&Tensor, &Tensor) -> candle_core::Result<Tensor> + 'a,
) -> Failure {
    let (x, y) = classes(1, DType::F32);
    failure(&Learner::new(vars, forward, loss), (&x, &y))
}

#[test]
fn a_double_softmax_is_named_by_its_formula() {
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let failure = bug(&vars, |x| ops::softmax(&m.forward(x)?, 1), loss::cross_entropy);
    assert_eq!(failure.cause(), Some(Cause::LossOnProbabilities));
    assert!(failure.findings()[0].is_confirmed());
    insta::assert_snapshot!(text(&failure), @"
    assertion `overfits_batch` failed
    the loss stops above its target: 1.38 -> 0.801 in 300 steps (target 0.0138)

      loss       █▆▅▄▃▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁   0.801 .. 1.38
      shape      floor above zero
      accuracy   0.938
      optimizer  the default: AdamW, at a learning rate of 0.01

      confirmed  loss-on-probabilities   the loss is the cross-entropy of logits, and the outputs' rows sum to 1:
                                         its floor over 4 classes is 0.744, not 0
      help       remove the softmax or sigmoid before the loss: it applies its own; see
                 docs/causes.md#loss-on-probabilities
    ");
}

#[test]
fn a_flipped_sign_is_named_by_its_formula() {
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let failure = bug(&vars, |x| m.forward(x), |o, y| loss::cross_entropy(o, y)?.neg());
    insta::assert_snapshot!(text(&failure), @"
    assertion `overfits_batch` failed
    the loss starts below zero: -1.62 -> -1139 in 300 steps

      loss       ████████████████▇▇▇▇▇▇▆▆▆▆▅▅▅▄▄▄▃▃▃▂▂▂▁▁   -1139 .. -1.62
      accuracy   0.25
      optimizer  the default: AdamW, at a learning rate of 0.01

      confirmed  loss-sign   the loss is exactly minus the cross-entropy of logits
      help       the loss closure returns the negative of what it should; see docs/causes.md#loss-sign
    ");
}

#[test]
fn logits_in_a_likelihood_have_no_floor() {
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let failure = bug(&vars, |x| m.forward(x), loss::nll);
    assert_eq!(failure.cause(), Some(Cause::LossOnLogits));
    let failure = bug(&vars, |x| ops::softmax(&m.forward(x)?, 1), loss::nll);
    assert_eq!(failure.cause(), Some(Cause::LossOnProbabilities));
    let (x, y) = classes(1, DType::F32);
    let right = Learner::new(&vars, |x| ops::log_softmax(&m.forward(x)?, 1), loss::nll);
    assert_overfits_batch!(right, (&x, &y));
}

#[test]
fn a_cut_gradient_fails_even_a_fit() {
    let (vars, m) = Mlp::seeded(1, [6, 64, 4], DType::F32);
    let failure =
        bug(&vars, |x| m.l2.forward(&m.l1.forward(x)?.relu()?.detach()), loss::cross_entropy);
    assert_eq!(failure.cause(), Some(Cause::GradientCut));
    insta::assert_snapshot!(text(&failure), @"
    assertion `overfits_batch` failed
    the loss falls, but not as it should: 2.13 -> 0.0138 in 299 steps

      loss       █▇▇▆▆▅▅▄▄▄▄▃▃▃▃▃▃▂▂▂▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁   0.0138 .. 2.13
      shape      converged
      accuracy   1
      optimizer  the default: AdamW, at a learning rate of 0.01

      confirmed  gradient-cut   l1.weight, l1.bias: moving 2 of 4 variables changes the result (the loss by up to
                                0.305), yet no gradient arrives; the graph ends after `l1.bias`, before
                                `l2.weight`: a small move changes it too, so the derivative exists and is dropped:
                                by a `detach`, by values copied out and in again, or by a fused operation
      help       look for `detach`, `to_vec`, `Var::from_tensor`, `slice_set`, `KvCache`, `QMatMul`, and candle's
                 fused operations: `layer_norm`, `rms_norm`, `softmax_last_dim`, `rope`, `sdpa` have no backward
                 pass; `layer_norm_slow`, `rms_norm_slow`, `ops::softmax`, `rope_slow` have one; see
                 docs/causes.md#gradient-cut
    ");
}

#[test]
fn a_detached_loss_is_told_from_a_cut_model() {
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let failure = bug(&vars, |x| m.forward(x), |o, y| loss::cross_entropy(&o.detach(), y));
    assert_eq!(failure.cause(), Some(Cause::LossDetached));
    let failure = bug(&vars, |x| Ok(m.forward(x)?.detach()), loss::cross_entropy);
    assert_eq!(failure.cause(), Some(Cause::GradientCut));
    let (_, other) = Mlp::seeded(2, [6, 16, 4], DType::F32);
    let failure = bug(&vars, |x| Ok(other.forward(x)?.detach()), loss::cross_entropy);
    assert_eq!(failure.cause(), Some(Cause::VariableUntracked));
}

#[test]
fn what_the_optimizer_misses_is_named() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy)
        .optimizer(|vars| AdamW::new_lr(vars[..2].to_vec(), 1e-2));
    let failure = failure(&learner, (&x, &y));
    assert_eq!(failure.cause(), Some(Cause::OptimizerMissesVariable));
    assert_eq!(failure.findings()[0].place(), Some("l2.bias, l2.weight"));
    insta::assert_snapshot!(text(&failure), @"
    assertion `overfits_batch` failed
    the loss still falls when the steps run out: 1.62 -> 0.18 in 300 steps (target 0.0139)

      loss      █▆▅▄▄▃▃▃▃▃▂▂▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁   0.18 .. 1.62
      shape     slow
      accuracy  1

      confirmed  optimizer-misses-variable   l2.bias, l2.weight: a gradient arrives at 2 variables, but no step
                                             moves them, not even at a learning rate of 10
      possible   learning-rate-low           the loss still falls when the steps run out, at a learning rate of
                                             0.01
      help       build the optimizer after the model, from `varmap.all_vars()`; see
                 docs/causes.md#optimizer-misses-variable
    ");
}

#[test]
fn a_learning_rate_too_low_to_move_a_bit_is_told_from_a_missing_optimizer() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    for rate in [0.0, 1e-12] {
        let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy)
            .optimizer(move |vars| SGD::new(vars, rate));
        let failure = failure(&learner, (&x, &y));
        assert_eq!(failure.cause(), Some(Cause::LearningRateLow), "{failure}");
        assert!(failure.findings()[0].is_confirmed());
    }
}

#[test]
fn a_frozen_variable_that_moves_is_named() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let all = vars.all_vars();
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy)
        .frozen(["l1."])
        .optimizer(move |_| AdamW::new_lr(all.clone(), 1e-2));
    let failure = failure(&learner, (&x, &y));
    assert_eq!(failure.cause(), Some(Cause::FrozenVariableMoved));
    let right = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy).frozen(["l1."]);
    assert_overfits_batch!(right, (&x, &y));
    assert_overfits_batch!(learner, (&x, &y), allow = Cause::FrozenVariableMoved);
}

#[test]
fn a_growing_loss_and_a_slow_one_are_told_apart() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let at = |lr: f64| {
        let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy)
            .optimizer(move |vars| AdamW::new(vars, ParamsAdamW { lr, ..Default::default() }));
        failure(&learner, (&x, &y))
    };
    let slow = at(1e-5);
    assert_eq!(slow.cause(), Some(Cause::LearningRateLow));
    insta::assert_snapshot!(text(&slow), @"
    assertion `overfits_batch` failed
    the loss still falls when the steps run out: 1.62 -> 1.59 in 300 steps (target 0.0139)

      loss      █████▇▇▇▇▇▆▆▆▆▆▅▅▅▅▅▄▄▄▄▄▃▃▃▃▃▂▂▂▂▂▁▁▁▁▁   1.59 .. 1.62
      shape     slow
      accuracy  0.25

      confirmed  learning-rate-low   at a learning rate of 0.01, 1.62 -> 0.0138 in 157 steps
      help       use a learning rate near 0.01; see docs/causes.md#learning-rate-low
    ");
    let climbing = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy)
        .optimizer(|vars| SGD::new(vars, -0.1));
    let climbing = failure(&climbing, (&x, &y));
    assert_eq!(climbing.cause(), Some(Cause::LossSign));
    assert!(climbing.findings()[0].is_confirmed(), "{climbing}");
}

#[test]
fn equal_inputs_with_different_targets_are_named() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 32, 4], DType::F32);
    let twice = Tensor::cat(&[x.narrow(0, 0, 8).unwrap(), x.narrow(0, 0, 8).unwrap()], 0).unwrap();
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
    let failure = failure(&learner, (&twice, &y));
    assert_eq!(failure.cause(), Some(Cause::LabelsContradictory));
    insta::assert_snapshot!(text(&failure), @"
    assertion `overfits_batch` failed
    the loss stops above its target: 2.81 -> 0.694 in 300 steps (target 0.0139)

      loss       ▅▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁   0.694 .. 2.81
      shape      floor above zero
      accuracy   0.5
      optimizer  the default: AdamW, at a learning rate of 0.01, then 0.001 and 0.1

      confirmed  labels-contradictory   rows 0 and 8: 8 rows have the input of an earlier row and another target:
                                        no function fits both
      help       look for a shuffle of only one side, or duplicates with other labels; see
                 docs/causes.md#labels-contradictory
    ");
}

#[test]
fn an_output_that_never_varies_is_named() {
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let failure = bug(&vars, |x| m.forward(&x.zeros_like()?), loss::cross_entropy);
    assert_eq!(failure.cause(), Some(Cause::OutputConstant));
}

#[test]
fn a_nan_behind_a_relu_is_found() {
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let failure = bug(
        &vars,
        |x| m.l2.forward(&m.l1.forward(x)?.relu()?.sqrt()?.relu()?),
        loss::cross_entropy,
    );
    assert_eq!(failure.cause(), Some(Cause::NotFinite));
    assert_eq!(failure.findings()[0].place(), Some("after l1"), "{failure}");
}

#[test]
fn a_fit_that_needs_no_input_is_vacuous() {
    let (x, _) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
    let equal = Tensor::full(2u32, 16, &device()).unwrap();
    let failure = OverfitsBatch::new().check(&learner, (&x, &equal)).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(text(&failure), @"
    assertion `overfits_batch` proves nothing here
    the fit does not depend on the input: all targets are equal, so a bias fits them

      fitted  0.741 -> 0.00679 in 26 steps

      help       give the batch rows with different targets
    ");
}

#[test]
fn what_cannot_be_told_apart_fails_no_fit() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 32, 4], DType::F32);
    // A variable that nothing uses, in a model whose evaluations differ: whether it matters cannot be told.
    let spare = candle_core::Var::new(&[1f32], &device()).unwrap();
    vars.data().lock().unwrap().insert("spare".to_owned(), spare);
    let learner = Learner::new(
        &vars,
        |x| m.l2.forward(&candle_nn::Dropout::new(0.1).forward(&m.l1.forward(x)?.relu()?, true)?),
        loss::cross_entropy,
    );
    assert_overfits_batch!(learner, (&x, &y), steps = 600);
}

#[test]
fn every_variable_comes_back_on_success_failure_and_panic() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let before = bits(&vars);
    let good = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
    assert_overfits_batch!(good, (&x, &y));
    assert_eq!(bits(&vars), before);

    bug(&vars, |x| ops::softmax(&m.forward(x)?, 1), loss::cross_entropy);
    assert_eq!(bits(&vars), before);

    let mut calls = 0;
    let panics = Learner::new(
        &vars,
        |x| {
            calls += 1;
            assert!(calls < 10, "the model broke");
            m.forward(x)
        },
        loss::cross_entropy,
    );
    let outcome = catch_unwind(AssertUnwindSafe(|| OverfitsBatch::new().check(&panics, (&x, &y))));
    assert!(outcome.is_err());
    drop(panics);
    assert_eq!(bits(&vars), before);
}

#[test]
fn the_same_training_gives_the_same_losses() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
    let losses = || OverfitsBatch::new().check(&learner, (&x, &y)).unwrap().losses;
    assert_eq!(losses(), losses());
}

#[test]
fn a_deep_model_does_not_overflow_the_stack() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = Learner::new(
        &vars,
        |x| {
            let mut h = m.forward(x)?;
            for _ in 0..3000 {
                h = (h + 0.0)?;
            }
            Ok(h)
        },
        loss::cross_entropy,
    );
    let failure = OverfitsBatch::new().steps(2).check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Violated);
}

#[test]
fn the_macro_panics_at_the_callers_line_with_its_context_first() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), |o, y| loss::cross_entropy(o, y)?.neg());
    let panic = catch_unwind(AssertUnwindSafe(|| {
        assert_overfits_batch!(learner, (&x, &y), steps = 20, "tiny MLP, seed {}", 1);
    }))
    .unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    let first = message.lines().next().unwrap();
    assert!(first.contains("assertion `overfits_batch` failed: tiny MLP, seed 1"), "{message}");

    let line = line!() + 1;
    let failure = OverfitsBatch::new().check(&learner, (&x, &y)).unwrap_err();
    let at = failure.location().unwrap();
    assert_eq!((at.file(), at.line()), (file!(), line));
    assert!(failure.to_string().ends_with(&format!("at {at}")));
}
