//! Causes that only an experiment can tell: the training run again with one thing changed.

use std::cell::Cell;

use candle_core::{
    CpuStorage, CustomOp1, DType, Layout, Module, Result, Shape, Tensor, Var, backprop::GradStore,
};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, SGD, VarMap, loss, ops};
use candling::{Cause, Failure, FailureKind, Learner, Seed, check::OverfitsBatch};

use super::models::{Mlp, bits, classes, device};
use crate::support::text;

/// The failure, whose cause an experiment must have confirmed; the variables must have come back.
fn confirmed(
    vars: &VarMap,
    learner: &Learner<'_>,
    batch: (&Tensor, &Tensor),
    cause: Cause,
) -> Failure {
    let before = bits(vars);
    let failure = OverfitsBatch::new().check(learner, batch).expect_err("the bug was not seen");
    assert_eq!(failure.cause(), Some(cause), "{failure}");
    assert!(failure.findings()[0].is_confirmed(), "{failure}");
    assert_eq!(bits(vars), before);
    failure
}

fn regression(seed: u64) -> (Tensor, Tensor) {
    let seed = Seed::new(seed);
    let x = seed.normal("x", (16, 6), DType::F32, &device()).unwrap();
    let y = seed.uniform("y", -1.0..1.0, (16, 1), DType::F32, &device()).unwrap();
    (x, y)
}

#[test]
fn a_sign_flipped_in_a_loss_of_ones_own() {
    let (x, y) = regression(1);
    let (vars, m) = Mlp::seeded(1, [6, 32, 1], DType::F32);
    let flipped = |o: &Tensor, y: &Tensor| loss::huber(o, y, 1.0)?.neg();
    let learner = Learner::new(&vars, |x| m.forward(x), flipped);
    let failure = confirmed(&vars, &learner, (&x, &y), Cause::LossSign);
    insta::assert_snapshot!(text(&failure), @"
    assertion `overfits_batch` failed
    the loss starts below zero: -0.843 -> -1312 in 300 steps

      loss       ████████████████▇▇▇▇▇▆▆▆▆▅▅▅▅▄▄▄▃▃▃▂▂▂▁▁   -1312 .. -0.843
      optimizer  the default: AdamW, at a learning rate of 0.01

      confirmed  loss-sign   with the loss negated, 0.843 -> 1.4e-14 in 300 steps
      help       the loss closure returns the negative of what it should; see docs/causes.md#loss-sign
    ");
}

#[test]
fn a_similarity_that_is_rightly_negative_is_not_accused() {
    let (x, y) = regression(1);
    let (vars, m) = Mlp::seeded(1, [6, 32, 1], DType::F32);
    let similarity = |o: &Tensor, y: &Tensor| {
        let norms = (o.sqr()?.sum_all()?.sqrt()? * y.sqr()?.sum_all()?.sqrt()?)?;
        ((o * y)?.sum_all()? / norms)?.neg()
    };
    let learner = Learner::new(&vars, |x| m.forward(x), similarity);
    let shifted = (&y + 2.0).unwrap();
    let failure = OverfitsBatch::new().check(&learner, (&x, &shifted)).unwrap_err();
    assert!(!failure.findings().iter().any(|f| f.is_confirmed()), "{failure}");
    let report = OverfitsBatch::new().loss_below(-0.97).steps(400).check(&learner, (&x, &shifted));
    assert!(report.is_ok(), "{}", report.unwrap_err());
}

#[test]
fn a_negative_learning_rate() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    for make in [-0.1, -0.01] {
        let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy)
            .optimizer(move |vars| AdamW::new_lr(vars, make));
        confirmed(&vars, &learner, (&x, &y), Cause::LossSign);
    }
}

#[test]
fn a_learning_rate_too_high_or_too_low() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let at = |rate: f64| {
        Learner::new(&vars, |x| m.forward(x), loss::cross_entropy)
            .optimizer(move |vars| SGD::new(vars, rate))
    };
    let high = confirmed(&vars, &at(300.0), (&x, &y), Cause::LearningRateHigh);
    insta::assert_snapshot!(text(&high), @"
    assertion `overfits_batch` failed
    the loss explodes: 1.62 -> inf in 10 steps (target 0.0139)

      loss   ▁▁▂▃▄▅▆▇██✗   1.62 .. 2.95e33
      shape  exploding

      confirmed  learning-rate-high   at a learning rate of 3, 1.62 -> 0.0134 in 25 steps
      ruled out  loss-sign            with the loss negated it still goes 1.62 -> NaN in 8 steps
      help       use a learning rate near 3; see docs/causes.md#learning-rate-high
    ");
    confirmed(&vars, &at(1e-4), (&x, &y), Cause::LearningRateLow);
}

#[test]
fn an_activation_that_bounds_the_output() {
    let (x, y) = regression(2);
    let (vars, m) = Mlp::seeded(2, [6, 32, 1], DType::F32);
    let learner = Learner::new(&vars, |x| ops::sigmoid(&m.forward(x)?), loss::mse);
    let failure = confirmed(&vars, &learner, (&x, &y), Cause::OutputBounded);
    insta::assert_snapshot!(text(&failure), @"
    assertion `overfits_batch` failed
    the loss stops above its target: 0.646 -> 0.186 in 300 steps (target 0.00248)

      loss       ▅▂▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁   0.186 .. 0.646
      shape      floor above zero
      optimizer  the default: AdamW, at a learning rate of 0.01, then 0.001 and 0.1

      confirmed  output-bounded   with the output's sigmoid undone before the loss, 1.33 -> 0.00233 in 69 steps
      help       drop the last activation, or choose one whose range holds the targets; see
                 docs/causes.md#output-bounded
    ");
    let far = (&y * 3.0).unwrap();
    let learner = Learner::new(&vars, |x| m.forward(x)?.tanh(), loss::mse);
    confirmed(&vars, &learner, (&x, &far), Cause::OutputBounded);
}

#[test]
fn probabilities_in_a_loss_of_ones_own() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    // A temperature keeps the formula from being recognised by its value.
    let warm = |o: &Tensor, y: &Tensor| loss::cross_entropy(&(o * 1.5)?, y);
    let learner = Learner::new(&vars, |x| ops::softmax(&m.forward(x)?, 1), warm);
    let failure = confirmed(&vars, &learner, (&x, &y), Cause::LossOnProbabilities);
    assert!(failure.text().contains("softmax undone"), "{failure}");
}

#[test]
fn weights_that_cannot_learn() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    candling::set_constant(&vars, 0.0).unwrap();
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
    let failure = confirmed(&vars, &learner, (&x, &y), Cause::WeightsConstant);
    insta::assert_snapshot!(text(&failure), @"
    assertion `overfits_batch` failed
    the loss hardly moves: 1.39 -> 1.39 in 300 steps (target 0.0139)

      loss       ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁   1.39 .. 1.39
      shape      plateau
      accuracy   0.25
      optimizer  the default: AdamW, at a learning rate of 0.01, then 0.001 and 0.1

      confirmed  weights-constant     l1.weight: every entry is equal; drawn at random, 1.46 -> 0.0137 in 157
                                      steps
      confirmed  output-constant      the rows of the input differ, those of the output are equal, before and
                                      after training
      possible   gradient-vanishing   the first gradient of all 2 weights is exactly zero
      help       `vb.get` without a hint is zeros; use `get_with_hints` with a random init; see
                 docs/causes.md#weights-constant
      help       look for a softmax over a dimension of size 1, dead units, or an input that is never used; see
                 docs/causes.md#output-constant
    ");
}

#[test]
fn a_bias_that_kills_a_layer() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    candling::set_with(&vars, |name, shape| match name {
        "l1.bias" => Tensor::full(-10f32, shape, &device()),
        _ => Seed::new(1).normal(name, shape, DType::F32, &device())? * 0.3,
    })
    .unwrap();
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy);
    confirmed(&vars, &learner, (&x, &y), Cause::UnitsDead);
}

#[test]
fn a_dropout_that_holds_the_loss_up() {
    use candle_nn::ModuleT;

    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    // As dropout of the share that was meant to be kept, everywhere: on a fixed pattern, so that the test repeats.
    let draw = Cell::new(0);
    let drop = |h: &Tensor, train: bool| match train {
        false => Ok(h.clone()),
        true => {
            draw.set(draw.get() + 1);
            let mask = Seed::new(draw.get()).uniform(
                "mask",
                0.0..1.0,
                h.shape(),
                h.dtype(),
                h.device(),
            )?;
            (h * mask.gt(0.95)?.to_dtype(h.dtype())?)? * 20.0
        }
    };
    let learner = Learner::with_modes(
        &vars,
        |x: &Tensor, train| {
            m.l2.forward_t(&drop(&m.l1.forward_t(x, train)?.relu()?, train)?, train)
        },
        loss::cross_entropy,
    )
    .optimizer(|vars| SGD::new(vars, 0.3));
    let failure = OverfitsBatch::new().check(&learner, (&x, &y)).unwrap_err();
    assert!(failure.findings().iter().any(|f| f.cause() == Cause::DropoutRate), "{failure}");
}

#[test]
fn inputs_far_from_the_usual_scale() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let tiny = (x * 1e-5).unwrap();
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy)
        .optimizer(|vars| SGD::new(vars, 0.2));
    confirmed(&vars, &learner, (&tiny, &y), Cause::InputNotScaled);
}

#[test]
fn a_weight_decay_that_holds_the_loss_up() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy).optimizer(|vars| {
        AdamW::new(vars, ParamsAdamW { lr: 1e-2, weight_decay: 20.0, ..Default::default() })
    });
    let failure = confirmed(&vars, &learner, (&x, &y), Cause::DecayUnintended);
    assert!(failure.text().contains("shrinks the variables by 20 %"), "{failure}");
}

/// A hand-written SGD that adds every gradient to the last ones and forgets to clear them.
struct NeverCleared {
    vars: Vec<Var>,
    sums: Vec<Option<Tensor>>,
    rate: f64,
}

impl Optimizer for NeverCleared {
    type Config = f64;

    fn new(vars: Vec<Var>, rate: f64) -> Result<Self> {
        let sums = vec![None; vars.len()];
        Ok(Self { vars, sums, rate })
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        for (var, sum) in self.vars.iter().zip(&mut self.sums) {
            let Some(grad) = grads.get(var.as_tensor()) else { continue };
            let all = match sum.take() {
                Some(before) => (before + grad)?,
                None => grad.clone(),
            };
            var.set(&(var.as_tensor() - (&all * self.rate)?)?)?;
            *sum = Some(all);
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.rate
    }

    fn set_learning_rate(&mut self, rate: f64) {
        self.rate = rate;
    }
}

#[test]
fn gradients_that_are_never_cleared() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::cross_entropy)
        .optimizer(|vars| NeverCleared::new(vars, 5.0));
    confirmed(&vars, &learner, (&x, &y), Cause::GradientsStale);
}

#[test]
fn a_loss_that_ignores_its_target() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = Learner::new(
        &vars,
        |x| m.forward(x),
        |o, _| loss::cross_entropy(o, &o.detach().argmin(1)?)? + 1.0,
    );
    confirmed(&vars, &learner, (&x, &y), Cause::LossIgnoresTarget);
}

/// The identity with a backward pass that has lost its sign.
struct FlippedBackward;

impl CustomOp1 for FlippedBackward {
    fn name(&self) -> &'static str {
        "flipped-backward"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = storage.as_slice::<f32>()?;
        let (start, end) = layout.contiguous_offsets().expect("a fresh output is contiguous");
        Ok((CpuStorage::F32(values[start..end].to_vec()), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.neg()?))
    }
}

#[test]
fn a_backward_pass_with_the_wrong_sign() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let forward = |x: &Tensor| m.forward(x)?.contiguous()?.apply_op1(FlippedBackward);
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    let failure = confirmed(&vars, &learner, (&x, &y), Cause::GradientWrong);
    insta::assert_snapshot!(text(&failure), @"
    assertion `overfits_batch` failed
    the loss explodes: 1.62 -> 1139 in 300 steps (target 0.0139)

      loss       ▁▁▂▂▃▃▃▄▄▄▅▅▅▅▆▆▆▆▆▆▇▇▇▇▇▇▇▇████████████   1.62 .. 1139
      shape      exploding
      accuracy   0.25
      optimizer  the default: AdamW, at a learning rate of 0.01, then 0.001 and 0.1

      confirmed  gradient-wrong   l2.weight: a step of 10 % of its size against its gradient raises the loss by
                                  0.278, one along it lowers it by 0.2
      help       check the hand-written backward pass; see docs/causes.md#gradient-wrong
    ");
}

#[test]
fn a_bottleneck_is_possible_never_confirmed() {
    let seed = Seed::new(3);
    let x = seed.normal("x", (24, 6), DType::F32, &device()).unwrap();
    let y = seed.tokens("y", 12, 24, &device()).unwrap();
    let (vars, vb) = seed.var_builder(DType::F32, &device());
    let down = candle_nn::linear(6, 1, vb.pp("down")).unwrap();
    let up = candle_nn::linear(1, 12, vb.pp("up")).unwrap();
    let learner =
        Learner::new(&vars, |x| up.forward(&down.forward(x)?.tanh()?), loss::cross_entropy);
    let failure = OverfitsBatch::new().check(&learner, (&x, &y)).unwrap_err();
    let finding = failure.findings().iter().find(|f| f.cause() == Cause::CapacityTooSmall);
    assert!(finding.is_some_and(|f| !f.is_confirmed()), "{failure}");
    assert!(!failure.findings().iter().any(|f| f.is_confirmed()), "{failure}");
}

#[test]
fn all_experiments_together_cost_less_than_ten_trainings() {
    let (x, _) = classes(1, DType::F32);
    let y = Seed::new(9).uniform("y", 0.2..0.8, (16, 4), DType::F32, &device()).unwrap();
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let calls = Cell::new(0);
    // A floor that no change cures: the output cannot tell the rows apart well enough.
    let learner = Learner::new(
        &vars,
        |x: &Tensor| {
            calls.set(calls.get() + 1);
            ops::sigmoid(&m.forward(&(x * 60.0)?.round()?.tanh()?)?)? + 0.0
        },
        |o, y| loss::mse(o, y)? + 0.5,
    )
    .optimizer(|vars| SGD::new(vars, 0.1));
    let steps = 50;
    let failure = OverfitsBatch::new().steps(steps).check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Violated);
    assert!(calls.get() <= 10 * (steps + 1), "{} calls of the model\n{failure}", calls.get());
    assert!(!failure.findings().iter().any(|f| f.is_confirmed()), "{failure}");
}

/// An optimizer that is built anew for every step, as inside a loop.
struct BuiltInTheLoop {
    vars: Vec<Var>,
    rate: f64,
}

impl Optimizer for BuiltInTheLoop {
    type Config = f64;

    fn new(vars: Vec<Var>, rate: f64) -> Result<Self> {
        Ok(Self { vars, rate })
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        AdamW::new_lr(self.vars.clone(), self.rate)?.step(grads)
    }

    fn learning_rate(&self) -> f64 {
        self.rate
    }

    fn set_learning_rate(&mut self, rate: f64) {
        self.rate = rate;
    }
}

#[test]
fn an_optimizer_that_forgets_its_state() {
    let (x, y) = regression(4);
    let (vars, m) = Mlp::seeded(4, [6, 32, 1], DType::F32);
    let learner = Learner::new(&vars, |x| m.forward(x), loss::mse)
        .optimizer(|vars| BuiltInTheLoop::new(vars, 0.02));
    confirmed(&vars, &learner, (&x, &y), Cause::OptimizerStateReset);
}

#[test]
fn a_loss_that_overflows_on_what_the_net_gives() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let naive = |o: &Tensor, y: &Tensor| {
        let exp = o.exp()?;
        let p = exp.broadcast_div(&exp.sum_keepdim(1)?)?;
        p.gather(&y.unsqueeze(1)?, 1)?.log()?.mean_all()?.neg()
    };
    let learner = Learner::new(&vars, |x| m.forward(x)? * 100.0, naive);
    confirmed(&vars, &learner, (&x, &y), Cause::LossUnstable);
    let learner = Learner::new(&vars, |x| m.forward(x), naive);
    assert!(OverfitsBatch::new().check(&learner, (&x, &y)).is_ok());
}
