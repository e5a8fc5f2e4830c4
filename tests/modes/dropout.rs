//! Dropout that is not what it says.

use candle_core::{DType, Module, Tensor};
use candle_nn::{embedding, linear, loss};
use candling::{Cause, Learner, check::TrainEvalModes};

use super::models::{
    Attention, Kept, builder, dropout, learner, mask, masked, mlp, rows, two, violated,
};

fn declared(rate: f64) -> TrainEvalModes {
    TrainEvalModes::new().dropout(rate)
}

/// The failure of a model that does this to its hidden units, with a rate of 0.2 declared.
fn fails(between: impl Fn(&Tensor, bool) -> candle_core::Result<Tensor>) -> candling::Failure {
    let (learner, _) = mlp(DType::F32, between);
    violated(declared(0.2), &learner, &rows(16, DType::F32))
}

fn in_training(
    train: bool,
    x: &Tensor,
    drop: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
) -> candle_core::Result<Tensor> {
    if train { drop(x) } else { Ok(x.clone()) }
}

#[test]
fn dropout_that_is_never_on_is_inactive() {
    let (learner, _) = mlp(DType::F32, |x, _| dropout(x, 0.2, false));
    let x = rows(16, DType::F32);
    insta::assert_snapshot!(violated(declared(0.2), &learner, &x).text(), @"
    assertion `train_eval_modes` failed
    dropout is declared, and training does without

      confirmed  dropout-inactive   62 training passes on one input give the same output bit for bit, that of
                                    evaluation, at a declared rate of 0.2
      help       pass `train = true` down to every layer; see docs/causes.md#dropout-inactive
      rerun      cargo test modes::dropout::dropout_that_is_never_on_is_inactive
    ");
}

#[test]
fn a_mask_that_is_drawn_once_is_inactive() {
    let kept = Kept::default();
    let (learner, _) = mlp(DType::F32, |x, train| {
        in_training(train, x, |x| {
            let mask = kept.first(|| mask(x.dims(), 0.2, DType::F32)? / 0.8)?;
            if mask.dims() == x.dims() { x * mask } else { Ok(x.clone()) }
        })
    });
    let failure = violated(declared(0.2), &learner, &rows(16, DType::F32));
    assert_eq!(failure.cause(), Some(Cause::DropoutInactive));
    assert!(failure.findings().iter().any(|f| f.evidence().contains("drawn once")), "{failure}");
    // Seen without a declaration, too.
    let failure = violated(TrainEvalModes::new(), &learner, &rows(16, DType::F32));
    assert_eq!(failure.cause(), Some(Cause::DropoutInactive));
}

#[test]
fn a_rate_of_several_that_is_found_nowhere_is_named() {
    let (vars, vb) = builder(1, DType::F32);
    let attention = Attention::new(6, &vb.pp("attention"));
    let head = linear(6, 3, vb.pp("head")).unwrap();
    let model = learner(&vars, |x, train| {
        let x = dropout(x, 0.4, train)?;
        head.forward(&attention.forward(&x, |weights| dropout(weights, 0.1, false))?)
    });
    let x = candling::Seed::new(1).normal("x", (16, 5, 6), DType::F32, super::models::CPU).unwrap();
    let failure = violated(TrainEvalModes::new().dropout([0.4, 0.1]), &model, &x);
    assert_eq!(failure.cause(), Some(Cause::DropoutInactive));
    assert!(failure.findings()[0].evidence().contains("a rate of 0.1"), "{failure}");

    let (learner, _) = mlp(DType::F32, |x, train| dropout(x, 0.2, train));
    let failure =
        violated(TrainEvalModes::new().dropout([0.2, 0.2]), &learner, &rows(16, DType::F32));
    assert_eq!(
        failure.findings()[0].evidence(),
        "a rate of 0.2 is declared 2 times, and found in 1 place"
    );
}

#[test]
fn too_few_draws_to_tell_prove_nothing() {
    let (learner, _) = mlp(DType::F32, |x, _| Ok(x.clone()));
    let failure = declared(1e-4).check(&learner, &rows(2, DType::F32)).unwrap_err();
    assert_eq!(failure.kind(), candling::FailureKind::Vacuous);
    insta::assert_snapshot!(failure.text(), @"
    assertion `train_eval_modes` proves nothing here
    512 training passes dropped nothing, which at a rate of 0.0001 is to be expected of 2 rows

      help       give it an input of more rows, or more `passes`
      rerun      cargo test modes::dropout::too_few_draws_to_tell_prove_nothing
    ");
}

#[test]
fn a_mask_without_its_factor_is_unscaled() {
    let seed = candling::Seed::new(1);
    let calls = std::cell::Cell::new(0);
    let failure = fails(|x, train| {
        in_training(train, x, |x| {
            let label = format!("{}", calls.replace(calls.get() + 1));
            let draw = seed.uniform(&label, 0.0..1.0, x.shape(), DType::F32, super::models::CPU)?;
            x * draw.ge(0.2)?.to_dtype(DType::F32)?
        })
    });
    insta::assert_snapshot!(failure.text(), @"
    assertion `train_eval_modes` failed
    dropout changes the scale of what it passes on

      dropout  after l1  drops 0.196 of 4192 values, keeps the others times 1

      confirmed  dropout-unscaled   after l1: 0.196 of 4192 values are dropped, and those that stay are left as
                                    they are; at p = 0.2 it must be 1.25
      help       divide the kept values by 1 - p; see docs/causes.md#dropout-unscaled
      rerun      cargo test modes::dropout::a_mask_without_its_factor_is_unscaled
    ");
}

#[test]
fn wrong_factors_are_read_off() {
    let evidence = |between: &dyn Fn(&Tensor, bool) -> candle_core::Result<Tensor>| {
        let failure = fails(between);
        assert_eq!(failure.cause(), Some(Cause::DropoutUnscaled), "{failure}");
        failure.findings()[0].evidence().to_owned()
    };
    let by =
        |scale: f64| evidence(&move |x, train| in_training(train, x, |x| masked(x, 0.2, scale)));
    assert!(by(0.8).contains("which is 1-p"), "{}", by(0.8));
    assert!(by(5.0).contains("by 5, which is 1/p; at p = 0.2 it must be 1.25"), "{}", by(5.0));
    assert!(by(1.5625).contains("twice"));
    let twice = evidence(&|x, train| if train { dropout(x, 0.2, true) } else { x * 0.8 });
    assert!(twice.contains("evaluation multiplies all by 0.8 as well"), "{twice}");
    let undone = evidence(&|x, train| in_training(train, x, |x| dropout(x, 0.2, true)? * 0.8));
    assert!(undone.contains("left as they are"), "{undone}");
    // In attention, behind the softmax.
    let (vars, vb) = builder(1, DType::F32);
    let attention = Attention::new(6, &vb.pp("attention"));
    let model = learner(&vars, |x, train| {
        attention.forward(x, |weights| in_training(train, weights, |w| masked(w, 0.2, 1.0)))
    });
    let x = candling::Seed::new(1).normal("x", (16, 5, 6), DType::F32, super::models::CPU).unwrap();
    let failure = violated(declared(0.2), &model, &x);
    assert_eq!(failure.cause(), Some(Cause::DropoutUnscaled), "{failure}");
}

#[test]
fn wrong_factors_are_seen_in_every_dtype_and_undeclared() {
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let (learner, _) = mlp(dtype, |x, train| in_training(train, x, |x| masked(x, 0.2, 1.0)));
        let failure = violated(declared(0.2), &learner, &rows(16, dtype));
        assert_eq!(failure.cause(), Some(Cause::DropoutUnscaled), "{dtype:?}");
        let (learner, _) = mlp(dtype, |x, train| in_training(train, x, |x| masked(x, 0.2, 5.0)));
        let failure = violated(TrainEvalModes::new(), &learner, &rows(16, dtype));
        assert_eq!(failure.cause(), Some(Cause::DropoutUnscaled), "{dtype:?}");
    }
}

#[test]
fn the_share_kept_for_the_share_dropped_is_told() {
    let seed = candling::Seed::new(1);
    let calls = std::cell::Cell::new(0);
    let failure = fails(|x, train| {
        in_training(train, x, |x| {
            let label = format!("{}", calls.replace(calls.get() + 1));
            let draw = seed.uniform(&label, 0.0..1.0, x.shape(), DType::F32, super::models::CPU)?;
            x * (draw.ge(0.8)?.to_dtype(DType::F32)? * 5.0)?
        })
    });
    insta::assert_snapshot!(failure.text(), @"
    assertion `train_eval_modes` failed
    dropout drops another share than declared

      dropout  after l1  drops 0.814 of 4192 values, keeps the others times 5

      confirmed  dropout-rate   after l1: 0.814 of 4192 values are dropped, 0.2 declared: 0.2 is the share that is
                                kept, where it should be the share that is dropped
      help       candle's `dropout(x, p)` and `Dropout::new(p)` take the share that is dropped, as PyTorch does:
                 give them 1 - keep; see docs/causes.md#dropout-rate
      rerun      cargo test modes::dropout::the_share_kept_for_the_share_dropped_is_told
    ");
    let other = fails(|x, train| dropout(x, 0.35, train));
    assert_eq!(other.cause(), Some(Cause::DropoutRate));
    // Two in a row, where one is declared.
    let twice = fails(|x, train| dropout(&dropout(x, 0.2, train)?, 0.5, train));
    assert_eq!(twice.cause(), Some(Cause::DropoutRate));
    assert_eq!(twice.findings()[0].place(), Some("after l1 (2)"));
}

#[test]
fn one_mask_for_all_rows_is_told() {
    let failure = fails(|x, train| {
        in_training(train, x, |x| {
            x.broadcast_mul(&(mask(&[1, x.dim(1)?], 0.2, DType::F32)? / 0.8)?)
        })
    });
    assert_eq!(failure.cause(), Some(Cause::BatchMixed), "{failure}");
    let (learner, _) = mlp(DType::F32, |x, train| {
        in_training(train, x, |x| {
            x.broadcast_mul(&(mask(&[1, x.dim(1)?], 0.2, DType::F32)? / 0.8)?)
        })
    });
    let options = declared(0.2).allow(Cause::BatchMixed);
    let report = options.check(&learner, &rows(16, DType::F32)).unwrap();
    assert_eq!(report.allowed.len(), 1);
}

#[test]
fn dropout_on_the_output_is_seen_behind_a_fused_norm() {
    let (vars, vb) = builder(1, DType::F32);
    let (l1, l2) = two(&vb);
    let norm = candle_nn::layer_norm(32, 1e-5, vb.pp("norm")).unwrap();
    let learner = learner(&vars, |x, train| {
        let x = norm.forward(&l1.forward(x)?)?;
        in_training(train, &l2.forward(&x)?, |x| masked(x, 0.2, 1.0))
    });
    let failure = violated(declared(0.2), &learner, &rows(16, DType::F32));
    assert_eq!(failure.cause(), Some(Cause::DropoutUnscaled), "{failure}");
}

#[test]
fn one_mask_for_all_rows_of_ids_is_told() {
    let (vars, vb) = builder(1, DType::F32);
    let words = embedding(20, 8, vb.pp("words")).unwrap();
    let head = linear(8, 3, vb.pp("head")).unwrap();
    let of = |dims: fn(&[usize]) -> [usize; 3]| {
        let (words, head) = (&words, &head);
        Learner::with_modes(
            &vars,
            move |ids: &Tensor, train| {
                let x = words.forward(ids)?;
                let x = in_training(train, &x, |x| {
                    x.broadcast_mul(&(mask(&dims(x.dims()), 0.2, DType::F32)? / 0.8)?)
                })?;
                head.forward(&x.mean(1)?)
            },
            loss::cross_entropy,
        )
    };
    let ids = candling::Seed::new(1).tokens("ids", 20, (16, 7), super::models::CPU).unwrap();
    let failure = declared(0.2).check(&of(|d| [1, d[1], d[2]]), &ids).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::BatchMixed), "{failure}");
    // Whole words, and the same features at all times.
    declared(0.2).check(&of(|d| [d[0], d[1], 1]), &ids).unwrap();
    declared(0.2).check(&of(|d| [d[0], 1, d[2]]), &ids).unwrap();
}

#[test]
fn a_rate_that_is_off_by_two_points_is_seen() {
    let (learner, _) = mlp(DType::F32, |x, train| dropout(x, 0.12, train));
    let x = rows(64, DType::F32);
    let failure = violated(declared(0.1), &learner, &x);
    assert_eq!(failure.cause(), Some(Cause::DropoutRate), "{failure}");
    let (learner, _) = mlp(DType::F32, |x, train| dropout(x, 0.1, train));
    declared(0.1).check(&learner, &x).unwrap();
}
