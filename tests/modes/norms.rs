//! Running statistics that are not what they are for.

use candle_core::{DType, Module, Tensor};
use candle_nn::{BatchNormConfig, ModuleT};
use candling::{Cause, check::TrainEvalModes};

use super::models::{
    Images, OwnNorm, batch_norm, builder, by_batch, candles, images, learner, normed, rows,
    violated,
};

#[test]
fn a_norm_that_always_evaluates_is_frozen() {
    let (vars, vb) = builder(1, DType::F32);
    let norm = batch_norm(32, &vb);
    let model = normed(&vars, &vb, move |x, _| norm.forward_t(x, false));
    let x = rows(16, DType::F32);
    insta::assert_snapshot!(violated(TrainEvalModes::new(), &model, &x).text(), @"
    assertion `train_eval_modes` failed
    training does not move the running statistics

      norms  norm  running statistics stay, evaluation uses them

      confirmed  norm-stats-frozen   norm: no training pass moves norm.running_mean and norm.running_var: they
                                     stay at 0 and 1, also when they are set far off
      help       call `forward_t(x, true)` in training; see docs/causes.md#norm-stats-frozen
      rerun      cargo test modes::norms::a_norm_that_always_evaluates_is_frozen
    ");
    let options = TrainEvalModes::new().allow(Cause::NormStatsFrozen);
    let report = options.check(&model, &x).unwrap();
    assert!(!report.norms[0].moves && report.norms[0].momentum.is_none());

    let (vars, vb) = builder(1, DType::F32);
    let (model, norm) = (Images::new(&vb), batch_norm(8, &vb));
    let model = learner(&vars, |x, _| model.forward(x, |x| norm.forward_t(x, false)));
    let failure = violated(TrainEvalModes::new(), &model, &images(4));
    assert_eq!(failure.cause(), Some(Cause::NormStatsFrozen));
}

#[test]
fn a_momentum_of_nothing_or_everything_is_told() {
    let of = |momentum: f64| {
        let (vars, vb) = builder(1, DType::F32);
        let config = BatchNormConfig { momentum, ..BatchNormConfig::default() };
        let norm = candle_nn::batch_norm(32, config, vb.pp("norm")).unwrap();
        let learner = normed(&vars, &vb, candles(norm));
        violated(TrainEvalModes::new(), &learner, &rows(16, DType::F32))
    };
    assert_eq!(of(0.0).cause(), Some(Cause::NormStatsFrozen));
    insta::assert_snapshot!(of(1.0).text(), @"
    assertion `train_eval_modes` failed
    evaluation normalises by the statistics of a batch

      norms  norm  running statistics move, momentum 1, evaluation uses them

      confirmed  norm-stats-of-batch   norm: each training pass replaces its running statistics: a momentum of 1
                                       keeps those of the last batch alone
      help       momentum is the share of the new batch in candle and PyTorch, 0.1 as a rule, and 1 minus that in
                 Keras; see docs/causes.md#norm-stats-of-batch
      rerun      cargo test modes::norms::a_momentum_of_nothing_or_everything_is_told
    ");
}

#[test]
fn a_variance_that_stays_is_named() {
    let (vars, vb) = builder(1, DType::F32);
    let norm = OwnNorm::new(32, 0.1, &vars, &vb.pp("norm"));
    let forgotten = move |x: &Tensor, train: bool| {
        if !train {
            return norm.by_running(x);
        }
        let kept = norm.var.as_tensor().copy()?;
        norm.update(x)?;
        norm.var.set(&kept)?;
        by_batch(x)
    };
    let failure =
        violated(TrainEvalModes::new(), &normed(&vars, &vb, forgotten), &rows(16, DType::F32));
    assert_eq!(failure.cause(), Some(Cause::NormStatsFrozen));
    assert_eq!(failure.findings()[0].place(), Some("norm.running_var"));
}

#[test]
fn statistics_that_evaluation_does_not_use_are_named() {
    let x = rows(16, DType::F32);
    // By the batch's own.
    let (vars, vb) = builder(1, DType::F32);
    let norm = OwnNorm::new(32, 0.1, &vars, &vb.pp("norm"));
    let own = move |x: &Tensor, train: bool| {
        if train {
            norm.update(x)?;
        }
        by_batch(x)
    };
    let failure = violated(TrainEvalModes::new(), &normed(&vars, &vb, own), &x);
    assert_eq!(failure.cause(), Some(Cause::NormStatsOfBatch), "{failure}");
    // By nothing.
    let (vars, vb) = builder(1, DType::F32);
    let norm = OwnNorm::new(32, 0.1, &vars, &vb.pp("norm"));
    let skipped = move |x: &Tensor, train: bool| {
        if !train {
            return Ok(x.clone());
        }
        norm.update(x)?;
        by_batch(x)
    };
    let failure = violated(TrainEvalModes::new(), &normed(&vars, &vb, skipped), &x);
    assert_eq!(failure.cause(), Some(Cause::VariableUnused), "{failure}");
}

#[test]
fn a_batch_of_one_row_is_told() {
    let (vars, vb) = builder(1, DType::F32);
    let norm = batch_norm(32, &vb);
    let model = normed(&vars, &vb, candles(norm));
    let failure = violated(TrainEvalModes::new(), &model, &rows(1, DType::F32));
    insta::assert_snapshot!(failure.text(), @"
    assertion `train_eval_modes` failed
    training makes NaN

      norms  norm  running statistics move, momentum 0.1, evaluation uses them

      confirmed  not-finite   norm.running_var: NaN or infinite after one training pass, and with them everything
                              in evaluation, for good
      help       the variance of one value is 0/0: train batch norm on two rows or more, and drop a last batch of
                 one; see docs/causes.md#not-finite
      rerun      cargo test modes::norms::a_batch_of_one_row_is_told
    ");
    // Of an image there are many values, and nothing is wrong.
    let (vars, vb) = builder(1, DType::F32);
    let (model, norm) = (Images::new(&vb), batch_norm(8, &vb));
    let model = learner(&vars, |x, train| model.forward(x, |x| norm.forward_t(x, train)));
    TrainEvalModes::new().check(&model, &images(1)).unwrap();
}

#[test]
fn nan_is_told() {
    let x = rows(16, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let (l1, l2) = super::models::two(&vb);
    let model = learner(&vars, |x, train| {
        let x = l1.forward(x)?;
        l2.forward(&if train { x.log()? } else { x })
    });
    let failure = violated(TrainEvalModes::new(), &model, &x);
    assert_eq!(failure.cause(), Some(Cause::NotFinite));
    assert_eq!(failure.findings()[0].place(), Some("after l1"));

    let (vars, vb) = builder(1, DType::F32);
    let (l1, l2) = super::models::two(&vb);
    let model = learner(&vars, |x, _| l2.forward(&l1.forward(x)?.sqrt()?));
    let failure = violated(TrainEvalModes::new(), &model, &x);
    assert_eq!(failure.headline(), "evaluation makes NaN");
    assert_eq!(failure.findings()[0].place(), Some("after l1"));
}
