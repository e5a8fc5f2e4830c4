//! What `assert_step_updates!` says of good training steps and of bad ones.

use std::cell::Cell;

use candle_core::{DType, Module, Tensor, Var};
use candle_nn::{AdamW, ModuleT, Optimizer, ParamsAdamW, SGD, VarMap, loss};
use candling::{
    Cause, Failure, FailureKind, Seed, Variables, assert_step_updates,
    check::{StepUpdates, VariableVerdict},
};

use super::{
    super::models::{Mlp, bits, classes, device},
    rules::{Momentum, plain},
};
use crate::support::text;

fn of(vars: &VarMap, wanted: impl Fn(&str) -> bool) -> Vec<Var> {
    let mut named = vars.named();
    named.retain(|(name, _)| wanted(name));
    named.into_iter().map(|(_, var)| var).collect()
}

fn mlp(seed: u64, dtype: DType) -> (VarMap, impl Fn() -> candle_core::Result<Tensor>) {
    let (vars, model) = Mlp::seeded(seed, [6, 16, 4], dtype);
    let (x, y) = classes(seed, dtype);
    let loss = move || loss::cross_entropy(&model.forward(&x)?.to_dtype(DType::F32)?, &y);
    (vars, loss)
}

#[test]
fn a_step_passes_and_reports_and_leaves_the_variables_as_they_were() {
    let (vars, loss) = mlp(1, DType::F32);
    let before = bits(&vars);
    let mut optimizer = AdamW::new(vars.all_vars(), plain(1e-3)).unwrap();
    let report = assert_step_updates!(
        vars,
        || optimizer.backward_step(&loss()?),
        loss = &loss,
        learning_rate = 1e-3,
        "AdamW"
    );
    assert_eq!(bits(&vars), before);
    assert!(report.repeatable);
    assert_eq!(report.calls_per_update, 1);
    assert_eq!(report.ratios.len(), 10);
    insta::assert_snapshot!(report.calls, @"22");
    assert!(report.left_out.is_empty(), "{:?}", report.left_out);
    assert!(report.variables.iter().all(|v| v.verdict == VariableVerdict::Moves));
    insta::assert_snapshot!(report.to_string(), @"
    l1.bias    [16]     moves  by 0.004, 0.00405 of its size
    l1.weight  [16, 6]  moves  by 0.0098, 0.00169 of its size
    l2.bias    [4]      moves  by 0.002, 0.00519 of its size
    l2.weight  [4, 16]  moves  by 0.008, 0.00295 of its size
    ");
}

#[test]
fn every_dtype_and_rule_passes() {
    for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
        let (vars, loss) = mlp(2, dtype);
        // In half precision a usual rate is lost in most values, and candle's AdamW divides by zero in f16.
        let rate = if dtype.size_in_bytes() == 2 { 0.3 } else { 0.05 };
        let mut optimizer = SGD::new(vars.all_vars(), rate).unwrap();
        assert_step_updates!(vars, || optimizer.backward_step(&loss()?), loss = &loss, "{dtype:?}");
        let mut rule = Momentum::new(vars.all_vars(), rate / 5.0, 0.9);
        assert_step_updates!(vars, || rule.step(&loss()?.backward()?), "momentum, {dtype:?}");
    }
}

#[test]
fn random_batches_and_dropout_do_no_harm() {
    let (vars, model) = Mlp::seeded(3, [6, 16, 4], DType::F32);
    let (call, dropout) = (Cell::new(0), candle_nn::Dropout::new(0.3));
    let loss = || {
        call.set(call.get() + 1);
        let (x, y) = classes(call.get(), DType::F32);
        loss::cross_entropy(&model.forward(&dropout.forward(&x, true)?)?, &y)
    };
    for rate in [1e-3, 1e-2] {
        let mut optimizer = AdamW::new(vars.all_vars(), plain(rate)).unwrap();
        let report = assert_step_updates!(vars, || optimizer.backward_step(&loss()?), loss = loss);
        assert!(!report.repeatable);
        let mut optimizer = SGD::new(vars.all_vars(), 10.0 * rate).unwrap();
        assert_step_updates!(vars, || optimizer.backward_step(&loss()?));
    }
}

#[test]
fn averages_clamped_weights_and_running_statistics_are_no_decay() {
    // All in one map: a user's `VarMap` often holds the averages, too.
    let (vars, vb) = Seed::new(4).var_builder(DType::F32, &device());
    let first = candle_nn::linear(6, 16, vb.pp("first")).unwrap();
    let norm = candle_nn::batch_norm(16, 1e-5, vb.pp("norm")).unwrap();
    let head = candle_nn::linear(16, 4, vb.pp("head")).unwrap();
    let live = vars.all_vars();
    let averages: Vec<(Var, Var)> = (vars.named().into_iter())
        .filter(|(name, _)| !name.contains("running_"))
        .map(|(name, var)| {
            let average = Var::from_tensor(&var.as_tensor().copy().unwrap()).unwrap();
            vars.data().lock().unwrap().insert(format!("average.{name}"), average.clone());
            (average, var)
        })
        .collect();
    let (x, y) = classes(4, DType::F32);
    let loss = || {
        let x = norm.forward_t(&first.forward(&x)?, true)?.relu()?;
        loss::cross_entropy(&head.forward(&x)?, &y)
    };
    let mut optimizer = AdamW::new(live.clone(), plain(1e-2)).unwrap();
    assert_step_updates!(vars, || {
        optimizer.backward_step(&loss()?)?;
        for (average, var) in &averages {
            average.set(&((average.as_tensor() * 0.99)? + (var.as_tensor() * 0.01)?)?)?;
        }
        Ok(())
    });
    let mut optimizer = SGD::new(live, 1e-2).unwrap();
    assert_step_updates!(
        of(&vars, |name| !name.starts_with("average.")),
        || {
            optimizer.backward_step(&loss()?)?;
            for (_, var) in &averages {
                var.set(&var.clamp(-1.0, 1.0)?)?;
            }
            Ok(())
        },
        "clamped, as a critic's weights are"
    );
}

#[test]
fn accumulated_gradients_and_a_first_rate_of_zero_are_waited_for() {
    let (vars, loss) = mlp(5, DType::F32);
    let (mut optimizer, mut sum, mut call) =
        (SGD::new(vars.all_vars(), 0.1).unwrap(), None::<candle_core::backprop::GradStore>, 0);
    let report = assert_step_updates!(vars, || {
        let grads = (loss()? / 3.0)?.backward()?;
        match sum.as_mut() {
            Some(sum) => sum.extend(grads)?,
            None => sum = Some(grads),
        }
        call += 1;
        if call % 3 == 0 {
            optimizer.step(&sum.take().unwrap())?
        }
        Ok(())
    });
    assert_eq!(report.calls_per_update, 3);

    let (mut optimizer, mut step) = (AdamW::new(vars.all_vars(), plain(0.0)).unwrap(), 0);
    assert_step_updates!(vars, || {
        optimizer.set_learning_rate(1e-3 * f64::from(step) / 100.0);
        step += 1;
        optimizer.backward_step(&loss()?)
    });
}

fn failure(result: candling::Result<candling::check::StepUpdatesReport>) -> Failure {
    result.expect_err("the bug was not seen")
}

#[test]
fn what_never_moves_is_told_apart() {
    let (vars, loss) = mlp(6, DType::F32);
    let before = bits(&vars);
    let head = of(&vars, |name| name.starts_with("l2."));
    let mut optimizer = SGD::new(head, 0.1).unwrap();
    let failed =
        failure(StepUpdates::new().loss(&loss).check(&vars, || optimizer.backward_step(&loss()?)));
    assert_eq!(failed.cause(), Some(Cause::OptimizerMissesVariable));
    assert_eq!(bits(&vars), before);
    insta::assert_snapshot!(text(&failed), @"
    assertion `step_updates` failed
    2 of 4 variables never move

      variables  l1.bias    [16]     still
                 l1.weight  [16, 6]  still
                 l2.bias    [4]      moves  by 0.0263, 0.0893 of its size
                 l2.weight  [4, 16]  moves  by 0.127, 0.0445 of its size
      loss       █▆▅▄▃▃▂▂▁▁▁   1.31 .. 1.92

      confirmed  optimizer-misses-variable   l1.bias, l1.weight: a gradient arrives at 2 of 4 variables, and no
                                             step changes a bit of them, not from zero either
      help       build the optimizer after the model, from `varmap.all_vars()`; see
                 docs/causes.md#optimizer-misses-variable
    ");

    let (x, y) = classes(6, DType::F32);
    let (vars, model) = Mlp::seeded(6, [6, 16, 4], DType::F32);
    let cut =
        || loss::cross_entropy(&model.l2.forward(&model.l1.forward(&x)?.relu()?.detach())?, &y);
    let mut optimizer = SGD::new(vars.all_vars(), 0.1).unwrap();
    let failed =
        failure(StepUpdates::new().loss(cut).check(&vars, || optimizer.backward_step(&cut()?)));
    assert_eq!(failed.cause(), Some(Cause::GradientCut));
    let skipped = || loss::cross_entropy(&x.narrow(1, 0, 4)?, &y)? + model.l1.weight().sum_all()?;
    let mut optimizer = SGD::new(vars.all_vars(), 0.1).unwrap();
    let failed = failure(
        StepUpdates::new().loss(skipped).check(&vars, || optimizer.backward_step(&skipped()?)),
    );
    assert_eq!(failed.cause(), Some(Cause::VariableUnused));

    // Declared frozen, it is none.
    let mut optimizer = SGD::new(of(&vars, |name| name.starts_with("l2.")), 0.1).unwrap();
    assert_step_updates!(vars, || optimizer.backward_step(&cut()?), frozen = ["l1."]);
}

#[test]
fn a_bias_whose_gradient_is_zero_by_right_is_idle_in_the_report() {
    // Not in the graph at all, as a bias before a norm is not but for rounding; without a loss closure nothing else tells.
    let (vars, vb) = Seed::new(1).var_builder(DType::F32, &device());
    let l1 = candle_nn::linear_no_bias(6, 8, vb.pp("l1")).unwrap();
    vb.pp("l1").get_with_hints(8, "bias", candle_nn::Init::Const(0.0)).unwrap();
    let l2 = candle_nn::linear(8, 8, vb.pp("l2")).unwrap();
    let l3 = candle_nn::linear(8, 4, vb.pp("l3")).unwrap();
    let (x, y) = classes(1, DType::F32);
    let loss = || {
        let h = l2.forward(&l1.forward(&x)?.relu()?)?.relu()?;
        loss::cross_entropy(&l3.forward(&h)?, &y)
    };
    let mut optimizer = SGD::new(vars.all_vars(), 0.1).unwrap();
    let report = assert_step_updates!(vars, || optimizer.backward_step(&loss()?));
    let bias = report.variables.iter().find(|v| v.name == "l1.bias").unwrap();
    assert_eq!(bias.verdict, VariableVerdict::Idle);
}

#[test]
fn an_optimizer_without_variables_is_told_though_running_statistics_move() {
    let (vars, vb) = Seed::new(7).var_builder(DType::F32, &device());
    let mut optimizer = AdamW::new(vars.all_vars(), plain(1e-3)).unwrap();
    let first = candle_nn::linear(6, 16, vb.pp("first")).unwrap();
    let norm = candle_nn::batch_norm(16, 1e-5, vb.pp("norm")).unwrap();
    let (x, y) = classes(7, DType::F32);
    let loss = || loss::cross_entropy(&norm.forward_t(&first.forward(&x)?, true)?, &y);
    let calls = Cell::new(0);
    let failed = failure(StepUpdates::new().loss(loss).check(&vars, || {
        calls.set(calls.get() + 1);
        optimizer.backward_step(&loss()?)
    }));
    assert_eq!(failed.cause(), Some(Cause::OptimizerMissesVariable));
    assert!(calls.get() < 100, "{} calls", calls.get());
    insta::assert_snapshot!(failed.headline(), @"no step moves any of 4 variables");
}

#[test]
fn a_frozen_variable_that_moves_is_named() {
    let (vars, loss) = mlp(7, DType::F64);
    let mut optimizer = AdamW::new(vars.all_vars(), plain(1e-3)).unwrap();
    let failed = failure(
        StepUpdates::new().frozen(["l1."]).check(&vars, || optimizer.backward_step(&loss()?)),
    );
    insta::assert_snapshot!(text(&failed), @"
    assertion `step_updates` failed
    the step moves 2 variables declared frozen

      variables  l1.bias    [16]     frozen, moved  by 0.004, 0.00459 of its size
                 l1.weight  [16, 6]  frozen, moved  by 0.0098, 0.00197 of its size
                 l2.bias    [4]      moves          by 0.002, 0.00608 of its size
                 l2.weight  [4, 16]  moves          by 0.008, 0.00313 of its size

      confirmed  frozen-variable-moved   l1.bias, l1.weight: 2 variables declared frozen changed, by up to 0.00105
                                         in one step
      help       leave the frozen variables out of the optimizer's list; see docs/causes.md#frozen-variable-moved
    ");
}

#[test]
fn steps_orders_of_magnitude_off_are_told() {
    let (vars, loss) = mlp(8, DType::F32);
    let check = |rate: f64, declared: Option<f64>| {
        let mut optimizer = SGD::new(vars.all_vars(), rate).unwrap();
        let options = StepUpdates::new().loss(&loss);
        let options = match declared {
            Some(declared) => options.learning_rate(declared),
            None => options,
        };
        options.check(&vars, || optimizer.backward_step(&loss()?))
    };
    for rate in [1e-4, 1e-2, 1.0] {
        check(rate, Some(rate)).unwrap();
    }
    let low = failure(check(1e-8, None));
    assert_eq!(low.cause(), Some(Cause::LearningRateLow));
    insta::assert_snapshot!(text(&low), @"
    assertion `step_updates` failed
    the steps are far too short: 6.78e-10 of the weights at most

      variables  l1.bias    [16]     idle
                 l1.weight  [16, 6]  moves  by 4.66e-10, 7.44e-11 of its size
                 l2.bias    [4]      idle
                 l2.weight  [4, 16]  moves  by 4.49e-9, 1.99e-9 of its size
      loss       ▁▁▁▁▁▁▁▁▁▁▁   1.79 .. 1.79

      confirmed  learning-rate-low   the largest of 10 steps changes the weights by 6.78e-10 of their size
      help       raise the learning rate tenfold; see docs/causes.md#learning-rate-low
    ");
    let high = failure(check(1e3, None));
    assert_eq!(high.cause(), Some(Cause::LearningRateHigh));
    insta::assert_snapshot!(text(&high), @"
    assertion `step_updates` failed
    the steps are far too long: 6.65e20 of the weights at most

      variables  l1.bias    [16]     moves  by 1.97e21, 1.82e21 of its size
                 l1.weight  [16, 6]  moves  by 3.81e21, 6.08e20 of its size
                 l2.bias    [4]      moves  by 656, 2278 of its size
                 l2.weight  [4, 16]  moves  by 2.26e21, 1e21 of its size
      loss       ▁▂▃▄▅▆▇█✗   1.79 .. 1.15e37

      confirmed  learning-rate-high   a step changes the weights by 5.95e12 times their size
      confirmed  not-finite           l1.bias, l1.weight, l2.bias, l2.weight: NaN or infinite after 9 steps
      help       lower the learning rate tenfold; see docs/causes.md#learning-rate-high
      help       start at the named origin: what comes after it is only carried along; see
                 docs/causes.md#not-finite
    ");
    let declared = failure(check(0.5, Some(1e-3)));
    assert_eq!(declared.cause(), Some(Cause::LearningRateHigh));
    insta::assert_snapshot!(declared.findings()[0].evidence(), @"the first step is 500 times one at the declared learning rate of 0.001");
    let wrong_way = failure(check(-0.1, Some(0.1)));
    assert_eq!(wrong_way.cause(), Some(Cause::LossSign));
    insta::assert_snapshot!(text(&wrong_way), @"
    assertion `step_updates` failed
    the steps go up the gradient of the loss

      variables  l1.bias    [16]     moves  by 0.0845, 0.078 of its size
                 l1.weight  [16, 6]  moves  by 0.144, 0.023 of its size
                 l2.bias    [4]      moves  by 0.0479, 0.167 of its size
                 l2.weight  [4, 16]  moves  by 0.242, 0.107 of its size
      loss       ▁▁▁▂▂▃▄▅▆▇█   1.79 .. 6.91

      confirmed  loss-sign   the step goes along the gradient of the loss, not against it: 100 % of it, and the
                             loss rises by 0.193 at first order
      help       make the learning rate positive, subtract the step, and minimise the loss rather than its
                 negative; see docs/causes.md#loss-sign
    ");
}

#[test]
fn what_a_step_remembers_is_told() {
    let (vars, loss) = mlp(9, DType::F32);
    // A friction of nearly nothing is momentum still.
    for momentum in [0.5, 0.9, 0.95] {
        let mut rule = Momentum::new(vars.all_vars(), 0.01, momentum);
        assert_step_updates!(vars, || rule.step(&loss()?.backward()?), "{momentum}");
    }
    let mut rule = Momentum::new(vars.all_vars(), 0.01, 1.0);
    let stale = failure(StepUpdates::new().check(&vars, || rule.step(&loss()?.backward()?)));
    insta::assert_snapshot!(text(&stale), @"
    assertion `step_updates` failed
    a step uses gradients of earlier ones

      variables  l1.bias    [16]     moves  by 0.0167, 0.0181 of its size
                 l1.weight  [16, 6]  moves  by 0.0363, 0.00606 of its size
                 l2.bias    [4]      moves  by 0.0173, 0.0515 of its size
                 l2.weight  [4, 16]  moves  by 0.0877, 0.0319 of its size

      confirmed  gradients-stale   every step is the one before and a new gradient: from the same weights steps of
                                   length 0.108, then 0.118
      help       clear the gradients after each step: every `backward()` of candle's gives a new `GradStore`; see
                 docs/causes.md#gradients-stale
    ");

    let cached = loss().unwrap().backward().unwrap();
    let mut optimizer = SGD::new(vars.all_vars(), 0.01).unwrap();
    let once = failure(StepUpdates::new().check(&vars, || optimizer.step(&cached)));
    assert_eq!(once.cause(), Some(Cause::GradientsStale));
    insta::assert_snapshot!(once.findings()[0].evidence(), @"other weights make the very same step: its gradients were computed once, for other weights");

    let reset = failure(
        StepUpdates::new()
            .check(&vars, || AdamW::new(vars.all_vars(), plain(1e-3))?.backward_step(&loss()?)),
    );
    insta::assert_snapshot!(text(&reset), @"
    assertion `step_updates` failed
    the optimizer begins anew at every step

      variables  l1.bias    [16]     moves  by 0.004, 0.00432 of its size
                 l1.weight  [16, 6]  moves  by 0.0098, 0.00164 of its size
                 l2.bias    [4]      moves  by 0.002, 0.00597 of its size
                 l2.weight  [4, 16]  moves  by 0.008, 0.00291 of its size

      confirmed  optimizer-state-reset   l1.weight, l2.weight: every step is an Adam's first: each entry moves by
                                         0.001, whatever its gradient, and the steps before change not one bit
      help       build the optimizer once, before the loop, and outside of the closure of this step; see
                 docs/causes.md#optimizer-state-reset
    ");
}

#[test]
fn decay_is_told_by_what_it_takes() {
    let (vars, loss) = mlp(10, DType::F32);
    let decayed = |decay: f64, options: StepUpdates<'_>| {
        let params = ParamsAdamW { lr: 1e-2, weight_decay: decay, ..ParamsAdamW::default() };
        let mut optimizer = AdamW::new(vars.all_vars(), params).unwrap();
        options.check(&vars, || optimizer.backward_step(&loss()?))
    };
    // What AdamW does by default is no decision of anyone's.
    decayed(0.01, StepUpdates::new()).unwrap();
    assert!(decayed(0.05, StepUpdates::new()).is_err());
    let failed = failure(decayed(0.01, StepUpdates::new().decayed::<&str>([])));
    insta::assert_snapshot!(text(&failed), @"
    assertion `step_updates` failed
    the step shrinks what it should not, or too much

      variables  l1.bias    [16]     moves  by 0.04, 0.0383 of its size
                 l1.weight  [16, 6]  moves  by 0.0981, 0.0196 of its size
                 l2.bias    [4]      moves  by 0.02, 0.0631 of its size
                 l2.weight  [4, 16]  moves  by 0.0801, 0.0282 of its size

      confirmed  decay-unintended   l1.bias: made large, 1 vector and weights shrink by one share, 0.01 % a step,
                                    whatever their gradients: decay reaches gains and biases
      help       make two optimizers, or two groups: matrices with decay, everything of rank 1 without; `decayed =
                 [..]` declares what may; see docs/causes.md#decay-unintended
    ");
    // Declared, the usual decay passes, and one of 1 does not.
    decayed(0.01, StepUpdates::new().decayed([""])).unwrap();
    let failed = failure(decayed(1.0, StepUpdates::new().decayed([""])));
    insta::assert_snapshot!(failed.findings()[0].evidence(), @"one step takes 1 % off a variable by itself, whatever its gradient: half of it is gone after 69 steps");
    decayed(1.0, StepUpdates::new().allow(Cause::DecayUnintended)).unwrap();
}

#[test]
fn the_default_decay_is_no_ones_choice_at_the_rate_of_a_toy_test_either() {
    let (vars, loss) = mlp(10, DType::F32);
    for rate in [0.05, 0.1] {
        let mut optimizer = AdamW::new_lr(vars.all_vars(), rate).unwrap();
        assert_step_updates!(vars, || optimizer.backward_step(&loss()?), loss = &loss);
    }
}

#[test]
fn copies_of_slow_masters_are_no_fault() {
    let (vars, loss) = mlp(10, DType::BF16);
    let weights = vars.all_vars();
    let in_f32 = |w: &Var| Var::from_tensor(&w.as_tensor().to_dtype(DType::F32).unwrap()).unwrap();
    let slow = |rate: f64| {
        let masters: Vec<Var> = weights.iter().map(in_f32).collect();
        let mut optimizer = AdamW::new(masters.clone(), plain(rate)).unwrap();
        StepUpdates::new().check(&vars, || {
            let mut gradients = loss()?.backward()?;
            for (weight, master) in weights.iter().zip(&masters) {
                if let Some(gradient) = gradients.remove(weight) {
                    gradients.insert(master, gradient.to_dtype(DType::F32)?);
                }
            }
            optimizer.step(&gradients)?;
            let mut pairs = weights.iter().zip(&masters);
            pairs.try_for_each(|(w, m)| w.set(&m.as_tensor().to_dtype(DType::BF16)?))
        })
    };
    // A bias of 16 may have no entry that crosses a last bit in ten steps.
    slow(3e-6).unwrap();
    let none = failure(slow(1e-12));
    assert_eq!(none.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(text(&none), @"
    assertion `step_updates` proves nothing here
    no call of 68 changes a variable: they are copies of values kept elsewhere, and the steps are less than their last bit

      help       give the masters as `vars`
    ");
}

#[test]
fn a_step_that_makes_nan_is_told() {
    let (vars, loss) = mlp(11, DType::F16);
    let mut optimizer = AdamW::new(vars.all_vars(), plain(1e-3)).unwrap();
    let failed = StepUpdates::new().check(&vars, || {
        optimizer.backward_step(&(loss()?.affine(0.0, 0.0)? + (loss()? * f64::NAN)?)?)
    });
    let failed = failure(failed);
    assert_eq!(failed.cause(), Some(Cause::NotFinite));
    insta::assert_snapshot!(text(&failed), @"
    assertion `step_updates` failed
    a step makes the variables NaN or infinite

      variables  l1.bias    [16]     moves
                 l1.weight  [16, 6]  moves
                 l2.bias    [4]      moves
                 l2.weight  [4, 16]  moves

      confirmed  not-finite   l1.bias, l1.weight, l2.bias, l2.weight: NaN or infinite after 1 step
      help       start at the named origin: what comes after it is only carried along; see
                 docs/causes.md#not-finite
    ");
}

#[test]
fn variables_that_are_views_scalars_or_empty_are_no_matter() {
    let scale = Var::new(0.5f64, &device()).unwrap();
    let wide = Tensor::arange(0f64, 12.0, &device()).unwrap().reshape((3, 4)).unwrap();
    let turned = Var::from_tensor(&(wide.t().unwrap() * 0.1).unwrap()).unwrap();
    let empty = Var::from_tensor(&Tensor::zeros((0, 3), DType::F64, &device()).unwrap()).unwrap();
    let counter = Var::new(7i64, &device()).unwrap();
    let vars = [("scale", scale.clone()), ("turned", turned.clone()), ("counter", counter)];
    let x = Seed::new(1).normal("x", (5, 4), DType::F64, &device()).unwrap();
    let loss = || {
        let y = x.matmul(turned.as_tensor())?.broadcast_mul(scale.as_tensor())?;
        (y.sum(1)? - 1.0)?.sqr()?.mean_all()
    };
    let mut optimizer = SGD::new(vec![scale.clone(), turned.clone()], 0.01).unwrap();
    let report = assert_step_updates!(vars, || optimizer.backward_step(&loss()?), loss = &loss);
    assert_eq!(report.variables[0].verdict, VariableVerdict::Fixed);
    let with_empty = [("scale", scale.clone()), ("turned", turned.clone()), ("empty", empty)];
    let mut optimizer =
        SGD::new(with_empty.iter().map(|(_, v)| v.clone()).collect(), 0.01).unwrap();
    assert_step_updates!(with_empty, || optimizer.backward_step(&loss()?), frozen = ["empty"]);
}
