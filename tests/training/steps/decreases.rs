//! What `assert_loss_decreases!` says of good learners and of bad ones.

use candle_core::{DType, Module, Tensor};
use candle_nn::{AdamW, Optimizer, SGD, loss, ops};
use candling::{
    Cause, Failure, FailureKind, Learner, Seed, assert_loss_decreases, check::LossDecreases,
};

use super::{
    super::models::{Mlp, bits, classes, device},
    rules::plain,
};
use crate::support::text;

fn failure(learner: &Learner<'_>, batch: (&Tensor, &Tensor)) -> Failure {
    LossDecreases::new().check(learner, batch).expect_err("the bug was not seen")
}

#[test]
fn a_learner_passes_in_every_dtype_and_is_left_as_it_was() {
    for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
        let (vars, model) = Mlp::seeded(1, [6, 16, 4], dtype);
        let (x, y) = classes(1, dtype);
        let before = bits(&vars);
        let loss = |o: &Tensor, y: &Tensor| loss::cross_entropy(&o.to_dtype(DType::F32)?, y);
        let learner = Learner::new(&vars, |x| model.forward(x), loss);
        let report = assert_loss_decreases!(learner, (&x, &y), "{dtype:?}");
        assert!(report.losses.last() < report.losses.first());
        assert!(report.kept > Some(0.1));
        assert_eq!(report.judged_alone, if dtype.size_in_bytes() > 2 { 4 } else { 0 });
        assert_eq!(bits(&vars), before);
    }
}

#[test]
fn views_single_rows_and_learners_of_their_own_data_pass() {
    let (vars, model) = Mlp::seeded(2, [6, 16, 4], DType::F32);
    let (x, y) = classes(2, DType::F32);
    let learner = Learner::new(&vars, |x| model.forward(x), loss::cross_entropy);
    let view = x.t().unwrap().contiguous().unwrap().t().unwrap();
    assert_loss_decreases!(learner, (&view, &y));
    assert_loss_decreases!(learner, (&x.narrow(0, 3, 1).unwrap(), &y.narrow(0, 3, 1).unwrap()));
    let owning = Learner::from_loss(&vars, || loss::cross_entropy(&model.forward(&x)?, &y));
    assert_loss_decreases!(owning, ());
}

#[test]
fn large_rates_that_recover_and_random_losses_pass() {
    let (vars, model) = Mlp::seeded(3, [6, 32, 4], DType::F32);
    let (x, y) = classes(3, DType::F32);
    let learner = Learner::new(&vars, |x| model.forward(x), loss::cross_entropy);
    assert_loss_decreases!(learner.clone().optimizer(|v| SGD::new(v, 1.0)), (&x, &y));
    assert_loss_decreases!(learner.clone().optimizer(|v| AdamW::new(v, plain(0.1))), (&x, &y));
    assert_loss_decreases!(learner.optimizer(|v| AdamW::new(v, plain(1e-5))), (&x, &y));

    let dropout = candle_nn::Dropout::new(0.3);
    let random = Learner::new(
        &vars,
        |x: &Tensor| model.l2.forward(&dropout.forward(&model.l1.forward(x)?.relu()?, true)?),
        loss::cross_entropy,
    );
    let report = assert_loss_decreases!(random, (&x, &y));
    assert_eq!(report.kept, None);
    let with_modes = Learner::with_modes(
        &vars,
        |x: &Tensor, t| model.l2.forward(&dropout.forward(&model.l1.forward(x)?.relu()?, t)?),
        loss::cross_entropy,
    );
    assert!(assert_loss_decreases!(with_modes, (&x, &y)).kept.is_some());
}

#[test]
fn an_optimizer_that_does_not_descend_is_told_why() {
    let (vars, model) = Mlp::seeded(4, [6, 16, 4], DType::F32);
    let (x, y) = classes(4, DType::F32);
    let before = bits(&vars);
    let learner = Learner::new(&vars, |x| model.forward(x), loss::cross_entropy);
    let at = |rate: f64| failure(&learner.clone().optimizer(move |v| SGD::new(v, rate)), (&x, &y));
    insta::assert_snapshot!(text(&at(-0.1)), @"
    assertion `loss_decreases` failed
    the optimizer does not lower the loss: 1.6 before, 1.73 at its lowest in 50 steps

      loss           ▁▁▁▁▁▁▁▁▂▂▂▂▂▃▃▃▃▃▄▄▄▄▅▅▅▅▅▆▆▆▆▇▇▇▇▇████   1.6 .. 50635
      learning rate  -0.1

      confirmed  loss-sign   the loss falls against its gradient, and the optimizer steps along it, at a learning
                             rate of -0.1
      help       make the learning rate positive, and the optimizer subtract its step; see
                 docs/causes.md#loss-sign
    ");
    insta::assert_snapshot!(text(&at(1e4)), @"
    assertion `loss_decreases` failed
    the optimizer takes the loss from 1.6 to NaN in 6 steps

      loss           ▁▂▄▅▇█✗   1.6 .. 3.18e35
      learning rate  10000

      confirmed  learning-rate-high   at 10 the loss falls: 1.6 -> 1.49 after 9 steps
      help       lower the learning rate tenfold; see docs/causes.md#learning-rate-high
    ");
    insta::assert_snapshot!(text(&at(1e-12)), @"
    assertion `loss_decreases` failed
    the optimizer does not lower the loss: 1.6 before, 1.6 at its lowest in 50 steps

      loss           ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁   1.6 .. 1.6
      learning rate  1e-12

      confirmed  learning-rate-low   at 1e-6 the loss falls: 1.59555 -> 1.59554 after 1 step
      help       raise the learning rate tenfold; see docs/causes.md#learning-rate-low
    ");
    let none = learner.clone().optimizer(|_| SGD::new(Vec::new(), 0.1));
    insta::assert_snapshot!(text(&failure(&none, (&x, &y))), @"
    assertion `loss_decreases` failed
    the optimizer does not lower the loss: 1.6 before, 1.6 at its lowest in 50 steps

      loss           ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁   1.6 .. 1.6
      learning rate  0.1

      confirmed  optimizer-misses-variable   no step changes a bit of any variable, at any learning rate tried
      help       build the optimizer after the model, from `varmap.all_vars()`; see
                 docs/causes.md#optimizer-misses-variable
    ");
    assert_eq!(bits(&vars), before);
    let allowed = LossDecreases::new().allow(Cause::LossSign);
    allowed.check(&learner.optimizer(|v| SGD::new(v, -0.1)), (&x, &y)).unwrap();
}

#[test]
fn a_gradient_that_points_the_wrong_way_is_named() {
    let (vars, model) = Mlp::seeded(5, [6, 32, 4], DType::F32);
    let (x, y) = classes(5, DType::F32);
    let through = |sign: f64| {
        let model = &model;
        Learner::new(
            &vars,
            move |x: &Tensor| {
                let h = model.l1.forward(x)?.tanh()?;
                let rounded = ((&h * 8.0)?.round()? / 8.0)?;
                let passed = (&h * sign)?;
                model.l2.forward(&((rounded - &passed)?.detach() + passed)?)
            },
            loss::cross_entropy,
        )
    };
    assert_loss_decreases!(through(1.0), (&x, &y));
    // A surrogate of another slope still descends.
    assert_loss_decreases!(through(0.3), (&x, &y));
    insta::assert_snapshot!(text(&failure(&through(-1.0), (&x, &y))), @"
    assertion `loss_decreases` failed
    the loss rises against the gradient of 1 variable

      confirmed  gradient-wrong   l1.weight: no step against the gradient lowers the loss, and steps along it do;
                                  so for 1 of 4 variables
      help       check the sign of a hand-written backward pass, and of a straight-through estimator: `x + (f(x) -
                 x).detach()`; see docs/causes.md#gradient-wrong
    ");
}

#[test]
fn a_kink_and_a_floor_are_no_wrong_gradient() {
    // At its lowest, |w| rises both ways, and candle gives it a slope of 1.
    let (vars, vb) = Seed::new(6).var_builder(DType::F32, &device());
    let w = vb.get(4, "w").unwrap();
    let b = vb.get_with_hints(4, "b", candle_nn::Init::Const(0.3)).unwrap();
    let learner = Learner::from_loss(&vars, || w.abs()?.sum_all()? + b.sqr()?.sum_all()?);
    assert_loss_decreases!(learner, ());
    let lowest = Learner::from_loss(&vars, || w.abs()?.sum_all());
    let failed = LossDecreases::new().check(&lowest, ()).unwrap_err();
    assert_eq!(failed.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(failed.headline(), @"the loss is at its lowest, in a kink: from 0 it rises against its gradient and along it");

    let (vars, model) = Mlp::seeded(6, [6, 16, 4], DType::F32);
    let (x, _) = classes(6, DType::F32);
    let y = model.forward(&x).unwrap().detach();
    let fitted = Learner::new(&vars, |x| model.forward(x), loss::mse);
    let failure = failure(&fitted, (&x, &y));
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(text(&failure), @"
    assertion `loss_decreases` proves nothing here
    every gradient is exactly zero, at a loss of 0

      help       give it a batch that is not fitted already; `assert_gradients_flow!` tells zeros from cuts
    ");
}

#[test]
fn a_gradient_that_is_another_one_by_design_is_no_wrong_sign() {
    // The loss rises by 1.1 of what the gradient of `code` promises; the rest of the model learns.
    let (vars, vb) = Seed::new(8).var_builder(DType::F32, &device());
    let code = vb.get_with_hints(4, "code", candle_nn::Init::Const(0.7)).unwrap();
    let rest = vb.get_with_hints(4, "rest", candle_nn::Init::Const(0.9)).unwrap();
    let learner = |stopped: f64| {
        let (code, rest) = (code.clone(), rest.clone());
        Learner::from_loss(&vars, move || {
            code.sum_all()? - (code.detach().sum_all()? * stopped)?
                + (rest.sqr()?.sum_all()? * 4.0)?
        })
    };
    assert_loss_decreases!(learner(2.1), ());
    let failure = LossDecreases::new().check(&learner(2.0), ()).unwrap_err();
    insta::assert_snapshot!(text(&failure), @"
    assertion `loss_decreases` failed
    the loss rises against the gradient of 1 variable

      confirmed  gradient-wrong   code: no step against the gradient lowers the loss, and steps along it do; so
                                  for 1 of 2 variables
      help       check the sign of a hand-written backward pass, and of a straight-through estimator: `x + (f(x) -
                 x).detach()`; see docs/causes.md#gradient-wrong
    ");
}

#[test]
fn a_loss_without_a_gradient_is_told() {
    let (vars, model) = Mlp::seeded(7, [6, 16, 4], DType::F32);
    let (x, y) = classes(7, DType::F32);
    let detached =
        Learner::new(&vars, |x| model.forward(x), |o, y| loss::cross_entropy(&o.detach(), y));
    insta::assert_snapshot!(text(&failure(&detached, (&x, &y))), @"
    assertion `loss_decreases` failed
    the loss has no gradient: no step can lower it

      confirmed  loss-detached   the output carries a graph and the loss does not: no variable gets a gradient
      help       look for `detach`, `argmax`, `to_scalar`, or a tensor rebuilt from a `Vec` between output and
                 loss; see docs/causes.md#loss-detached
    ");
    let nan = Learner::new(
        &vars,
        |x| model.forward(x),
        |o: &Tensor, _: &Tensor| ops::log_softmax(&(o * f64::INFINITY)?, 1)?.mean_all(),
    );
    assert_eq!(failure(&nan, (&x, &y)).cause(), Some(Cause::NotFinite));
}
