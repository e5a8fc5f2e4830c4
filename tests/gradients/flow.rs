//! Every verdict of `assert_gradients_flow!` that is not `cut`.

use candle_core::{D, DType, Module, Result, Tensor};
use candle_nn::{Init, linear, loss, ops};
use candling::{
    Cause, Failure, FailureKind, Learner, Seed,
    check::{GradientVerdict, GradientsFlow, GradientsFlowReport},
};

use super::models::{
    Mlp, bits, builder, chain, classes, classifier, device, layers, normal, text, with_backward,
};

fn failure(learner: &Learner<'_>, batch: (&Tensor, &Tensor)) -> Failure {
    let failure = GradientsFlow::new().check(learner, batch).expect_err("the bug was not seen");
    assert_eq!(failure.kind(), FailureKind::Violated, "{failure}");
    failure
}

fn verdict(report: &GradientsFlowReport, name: &str) -> GradientVerdict {
    let row = report.variables.iter().find(|variable| variable.name == name);
    row.expect("the variable is in the table").verdict
}

#[test]
fn a_classifier_passes_and_reports_in_the_order_the_model_was_made() {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let (z, a) = (linear(6, 8, vb.pp("z")).unwrap(), linear(8, 4, vb.pp("a")).unwrap());
    let learner = classifier(&vars, |x| a.forward(&z.forward(x)?.relu()?));
    let before = bits(&vars);
    let report = GradientsFlow::new().check(&learner, (&x, &y)).unwrap();
    assert_eq!(bits(&vars), before);
    assert_eq!(report.loss, f64::from(learner.loss((&x, &y)).unwrap().to_scalar::<f32>().unwrap()));
    insta::assert_snapshot!(report.to_string(), @"
    z.weight  [8, 6]  flows  norm 0.682
    z.bias    [8]     flows  norm 0.566
    a.weight  [4, 8]  flows  norm 0.711
    a.bias    [4]     flows  norm 0.3
    ");
}

#[test]
fn what_is_zero_by_right_passes() {
    let (x, y) = classes(1, DType::F32);
    // The mean takes the bias out again.
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 8, 4], &vb);
    let head = linear(4, 4, vb.pp("head")).unwrap();
    let learner = classifier(&vars, |x| {
        let h = chain(&l, x, Tensor::relu)?;
        head.forward(&h.broadcast_sub(&h.mean_keepdim(0)?)?)
    });
    let report = GradientsFlow::new().check(&learner, (&x, &y)).unwrap();
    assert_eq!(verdict(&report, "l1.bias"), GradientVerdict::NumericallyZero);

    // The softmax of an attention takes out what is the same for all keys.
    let (vars, vb) = builder(2, DType::F32);
    let layer = |name: &str| linear(6, 6, vb.pp(name)).unwrap();
    let (q, k, v) = (layer("attn.q"), layer("attn.k"), layer("attn.v"));
    let learner = Learner::new(
        &vars,
        |x: &Tensor| {
            let scores = q.forward(x)?.matmul(&k.forward(x)?.t()?.contiguous()?)?;
            ops::softmax(&scores, D::Minus1)?.matmul(&v.forward(x)?)
        },
        loss::mse,
    );
    let target = normal(3, &[2, 5, 6], DType::F32);
    let report = GradientsFlow::new()
        .check(&learner, (&normal(2, &[2, 5, 6], DType::F32), &target))
        .unwrap();
    assert_eq!(verdict(&report, "attn.k.bias"), GradientVerdict::NumericallyZero);
}

/// Every row goes to the expert of the sign of its first feature.
fn routed(vars: &candle_nn::VarMap, vb: &candle_nn::VarBuilder<'_>) -> Learner<'static> {
    let experts = [linear(6, 4, vb.pp("left")).unwrap(), linear(6, 4, vb.pp("right")).unwrap()];
    classifier(vars, move |x| {
        let first = x.narrow(1, 0, 1)?.flatten_all()?.to_vec1::<f32>()?;
        let mut rows: Vec<Tensor> = Vec::new();
        for (at, first) in first.into_iter().enumerate() {
            let expert = if first < 0.0 { &experts[0] } else { &experts[1] };
            rows.push(expert.forward(&x.narrow(0, at, 1)?)?);
        }
        Tensor::cat(&rows, 0)
    })
}

#[test]
fn an_expert_that_no_row_was_sent_to_is_idle() {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let learner = routed(&vars, &vb);
    let report = GradientsFlow::new().check(&learner, (&x.abs().unwrap(), &y)).unwrap();
    insta::assert_snapshot!(report.to_string(), @"
    left.weight   [4, 6]  idle here
    left.bias     [4]     idle here
    right.weight  [4, 6]  flows      norm 0.589
    right.bias    [4]     flows      norm 0.146
    ");
}

/// Both experts run on every row, and one of them is weighted by zero: the router decides which.
#[test]
fn an_expert_that_runs_and_is_weighted_by_zero_is_idle_if_the_router_may_choose_it() {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let expert = |name: &str| layers(&[6, 4], &vb.pp(name)).remove(0);
    let (left, right) = (expert("left"), expert("right"));
    let router = linear(6, 2, vb.pp("router")).unwrap();
    let _kept = candling::set_with(&vars, |name, shape| match name {
        // Beyond what inputs of this spread reach.
        "router.bias" => Tensor::new(&[-8f32, 8.0], &device()),
        _ => Seed::new(1).normal(name, shape, DType::F32, &device())? * 0.5,
    })
    .unwrap();
    let mixture = |x: &Tensor, keep_left: f32| {
        let gates = ops::softmax(&router.forward(x)?, 1)?;
        let chosen = gates.broadcast_ge(&gates.max_keepdim(1)?)?.to_dtype(DType::F32)?;
        let shares =
            (gates * chosen)?.broadcast_mul(&Tensor::new(&[keep_left, 1.0], &device())?)?;
        left.forward(x)?.broadcast_mul(&shares.narrow(1, 0, 1)?)?
            + right.forward(x)?.broadcast_mul(&shares.narrow(1, 1, 1)?)?
    };
    let learner = classifier(&vars, |x| mixture(x, 1.0));
    let report = GradientsFlow::new().check(&learner, (&x, &y)).unwrap();
    assert_eq!(verdict(&report, "left.l0.weight"), GradientVerdict::Idle, "{report}");

    // Whatever the router says, nothing comes of this one.
    let learner = classifier(&vars, |x| mixture(x, 0.0));
    let found = failure(&learner, (&x, &y));
    assert_eq!(found.cause(), Some(Cause::VariableUnused), "{found}");
    assert_eq!(found.findings()[0].place(), Some("left.l0.weight, left.l0.bias"));
}

#[test]
fn gates_that_begin_at_zero_pass() {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 8, 8], &vb);
    let gate = vb.get_with_hints(1, "gate", Init::Const(0.0)).unwrap();
    let head = vb.get_with_hints((4, 8), "head.weight", Init::Const(0.0)).unwrap();
    let learner = classifier(&vars, |x| {
        let h = l[0].forward(x)?.tanh()?;
        (&h + l[1].forward(&h)?.broadcast_mul(&gate)?)?.matmul(&head.t()?)
    });
    let report = GradientsFlow::new().check(&learner, (&x, &y)).unwrap();
    assert!(report.variables.iter().all(|row| row.verdict == GradientVerdict::Flows), "{report}");
}

#[test]
fn a_gradient_of_exact_zeros_is_told_by_what_makes_it() {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 1, 4], &vb);
    // A softmax over one element is 1, whatever the element.
    let learner = classifier(&vars, |x| chain(&l, x, |h| ops::softmax(h, D::Minus1)));
    let found = failure(&learner, (&x, &y));
    assert_eq!(found.cause(), Some(Cause::VariableUnused));
    insta::assert_snapshot!(text(&found), @"
    assertion `gradients_flow` failed
    2 of 4 variables do not get the gradient they should

      gradients  l0.weight  [1, 6]  zero   norm 0
                 l0.bias    [1]     zero   norm 0
                 l1.weight  [4, 1]  flows  norm 0.442
                 l1.bias    [4]     flows  norm 0.442

      confirmed  variable-unused   l0.weight, l0.bias: the gradient of 2 of 4 variables is exactly zero, still
                                   after eight steps, and moving them changes nothing
      help       what they compute is multiplied by zero, masked, or passed on by a softmax over one element; see
                 docs/causes.md#variable-unused
    ");

    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = classifier(&vars, |x| {
        m.l2.forward(&with_backward(&m.l1.forward(x)?, |g| Ok(Some(g.zeros_like()?)))?)
    });
    let found = failure(&learner, (&x, &y));
    assert_eq!(found.cause(), Some(Cause::GradientCut));
    insta::assert_snapshot!(text(&found), @"
    assertion `gradients_flow` failed
    2 of 4 variables do not get the gradient they should

      gradients  l1.weight  [16, 6]  zero   norm 0
                 l1.bias    [16]     zero   norm 0
                 l2.weight  [4, 16]  flows  norm 1.65
                 l2.bias    [4]      flows  norm 0.246

      confirmed  gradient-cut   l1.weight, l1.bias: the gradient of 2 of 4 variables is exactly zero, though
                                moving them changes the result: something after `l1.bias` sends zeros back
      help       look for a hand-written backward pass, a clamp, or a product with zero; see
                 docs/causes.md#gradient-cut
    ");
}

#[test]
fn weights_that_are_all_equal_are_named() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let learner = classifier(&vars, |x| m.l2.forward(&m.l1.forward(x)?.relu()?));
    let _kept = candling::set_with(&vars, |name, shape| {
        let value = if name == "l1.bias" { -1f32 } else { 0.0 };
        Tensor::full(value, shape, &device())
    })
    .unwrap();
    let found = failure(&learner, (&x, &y));
    insta::assert_snapshot!(text(&found), @"
    assertion `gradients_flow` failed
    4 of 4 variables do not get the gradient they should

      gradients  l1.weight  [16, 6]  zero  norm 0
                 l1.bias    [16]     zero  norm 0
                 l2.weight  [4, 16]  zero  norm 0
                 l2.bias    [4]      zero  norm 0

      confirmed  units-dead   after l1: all 16 units of the relu are 0 on all 16 samples, so 4 of 4 variables get
                              a gradient of zeros: l1.weight, l1.bias, l2.weight, l2.bias
      help       lower the learning rate, check the bias, or use a leaky activation; see docs/causes.md#units-dead
    ");

    let _kept = candling::set_constant(&vars, 0.0).unwrap();
    let learner = classifier(&vars, |x| m.l2.forward(&m.l1.forward(x)?.tanh()?));
    let found = failure(&learner, (&x, &y));
    assert_eq!(found.cause(), Some(Cause::WeightsConstant));
    insta::assert_snapshot!(text(&found), @"
    assertion `gradients_flow` failed
    4 of 4 variables do not get the gradient they should

      gradients  l1.weight  [16, 6]  zero  norm 0
                 l1.bias    [16]     zero  norm 0
                 l2.weight  [4, 16]  zero  norm 0
                 l2.bias    [4]      zero  norm 0

      confirmed  weights-constant   l1.weight, l1.bias, l2.weight, l2.bias: 4 of 4 variables get a gradient of
                                    zeros, still after eight steps: the entries of l1.weight, l2.weight are all
                                    equal
      help       `vb.get` without a hint is zeros; use `get_with_hints` with a random init; see
                 docs/causes.md#weights-constant
    ");
}

#[test]
fn dead_and_saturated_layers_are_named() {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 16, 16, 4], &vb);
    let learner = classifier(&vars, |x| chain(&l, x, Tensor::relu));
    let _kept = candling::set_with(&vars, |name, shape| match name {
        "l1.bias" => Tensor::full(-100f32, shape, &device()),
        _ => Seed::new(1).normal(name, shape, DType::F32, &device()),
    })
    .unwrap();
    let found = failure(&learner, (&x, &y));
    assert_eq!(found.cause(), Some(Cause::UnitsDead));
    insta::assert_snapshot!(text(&found), @"
    assertion `gradients_flow` failed
    4 of 6 variables do not get the gradient they should

      gradients  l0.weight  [16, 6]   zero       norm 0
                 l0.bias    [16]      zero       norm 0
                 l1.weight  [16, 16]  zero       norm 0
                 l1.bias    [16]      zero       norm 0
                 l2.weight  [4, 16]   idle here  norm 0
                 l2.bias    [4]       flows      norm 0.556

      confirmed  units-dead   after l1: all 16 units of the relu are 0 on all 16 samples, so 4 of 6 variables get
                              a gradient of zeros: l0.weight, l0.bias, l1.weight, l1.bias
      help       lower the learning rate, check the bias, or use a leaky activation; see docs/causes.md#units-dead
    ");

    let learner = classifier(&vars, |x| {
        let h = (l[0].forward(x)?.abs()? + 1.0)?;
        l[2].forward(&(h * 1e3)?.tanh()?)
    })
    .frozen(["l1"]);
    let found = failure(&learner, (&x, &y));
    assert_eq!(found.cause(), Some(Cause::UnitsSaturated));
    insta::assert_snapshot!(text(&found), @"
    assertion `gradients_flow` failed
    2 of 4 variables do not get the gradient they should

      gradients  l0.weight  [16, 6]  zero   norm 0
                 l0.bias    [16]     zero   norm 0
                 l2.weight  [4, 16]  flows  norm 2.25
                 l2.bias    [4]      flows  norm 0.562

      confirmed  units-saturated   after l0: all 16 units of the sigmoid or tanh are at the ends of their range on
                                   all 16 samples, so 2 of 4 variables get a gradient of zeros: l0.weight, l0.bias
      help       lower the weights' scale, or normalise before the activation; see docs/causes.md#units-saturated
    ");
}

#[test]
fn gradients_that_vanish_and_explode_are_told_in_numbers() {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let mut sizes = vec![6];
    sizes.extend([16; 28]);
    sizes.push(4);
    let l = layers(&sizes, &vb);
    let learner = classifier(&vars, |x| chain(&l, x, ops::sigmoid));
    let found = failure(&learner, (&x, &y));
    assert_eq!(found.cause(), Some(Cause::GradientVanishing));
    insta::assert_snapshot!(text(&found), @"
    assertion `gradients_flow` failed
    39 of 58 variables do not get the gradient they should

      gradients  l0.weight .. l18.bias   38 variables  vanishing
                 l19.weight              [16, 16]      flows      norm 1.5e-5
                 l19.bias                [16]          vanishing  norm 7.36e-6
                 l20.weight .. l28.bias  18 variables  flows

      confirmed  gradient-vanishing   l0.weight, l0.bias, l1.weight, l1.bias and 35 more: the gradient of 39 of 58
                                      variables is as small as 1.32e-15 where the largest is 0.862, and no larger
                                      after eight steps
      help       use ReLU-like activations, normalisation, or residual connections; see
                 docs/causes.md#gradient-vanishing
    ");

    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 32, 32, 32, 32, 32, 4], &vb);
    let _kept = candling::set_with(&vars, |name, shape| {
        Seed::new(1).normal(name, shape, DType::F32, &device())? * 3.0
    })
    .unwrap();
    let learner = Learner::new(&vars, |x: &Tensor| chain(&l, x, Tensor::relu), loss::mse);
    let y = normal(2, &[16, 4], DType::F32);
    let found = failure(&learner, (&x, &y));
    assert_eq!(found.cause(), Some(Cause::GradientExploding));
    insta::assert_snapshot!(text(&found), @"
    assertion `gradients_flow` failed
    12 of 12 variables do not get the gradient they should

      gradients  l0.weight  [32, 6]   exploding  norm 9.29e11
                 l0.bias    [32]      exploding  norm 4.82e11
                 l1.weight  [32, 32]  exploding  norm 1.26e12
                 l1.bias    [32]      exploding  norm 5.4e10
                 l2.weight  [32, 32]  exploding  norm 1.02e12
                 l2.bias    [32]      exploding  norm 4.4e9
                 l3.weight  [32, 32]  exploding  norm 1.47e12
                 l3.bias    [32]      exploding  norm 4.96e8
                 l4.weight  [32, 32]  exploding  norm 1.2e12
                 l4.bias    [32]      exploding  norm 3.55e7
                 l5.weight  [4, 32]   exploding  norm 7.72e11
                 l5.bias    [4]       exploding  norm 2.02e6

      confirmed  gradient-exploding   l0.weight, l0.bias, l1.weight, l1.bias and 8 more: the gradient of 12 of 12
                                      variables is up to 3.27e10 times as large as the variable itself
      help       lower the initial weights' scale, normalise, or clip the gradient's norm; see
                 docs/causes.md#gradient-exploding
    ");
    GradientsFlow::new().allow(Cause::GradientExploding).check(&learner, (&x, &y)).unwrap();
}

#[test]
fn values_that_are_not_finite_have_a_place() {
    let (x, y) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let of = |between: fn(&Tensor) -> Result<Tensor>| {
        let learner = classifier(&vars, |x| m.l2.forward(&between(&m.l1.forward(x)?)?));
        let found = failure(&learner, (&x, &y));
        assert_eq!(found.cause(), Some(Cause::NotFinite));
        text(&found)
    };
    // The value is finite, the derivative is not.
    insta::assert_snapshot!(of(|h| h.relu()?.sqrt()), @"
    assertion `gradients_flow` failed
    2 of 4 variables do not get the gradient they should

      gradients  l1.weight  [16, 6]  not finite  norm NaN
                 l1.bias    [16]     not finite  norm NaN
                 l2.weight  [4, 16]  flows       norm 0.719
                 l2.bias    [4]      flows       norm 0.302

      confirmed  not-finite   after l1: the gradient of 2 of 4 variables is NaN or infinite (l1.weight, l1.bias);
                              every value is finite, but the derivative of a square root is infinite at 0
      help       start at the named origin: what comes after it is only carried along; see
                 docs/causes.md#not-finite
    ");
    insta::assert_snapshot!(of(|h| h.affine(1e3, 0.0)?.exp()), @"
    assertion `gradients_flow` failed
    4 of 4 variables do not get the gradient they should

      gradients  l1.weight  [16, 6]  not finite  norm NaN
                 l1.bias    [16]     not finite  norm NaN
                 l2.weight  [4, 16]  not finite  norm NaN
                 l2.bias    [4]      not finite  norm NaN

      confirmed  not-finite   after l1: the first value that is not finite appears in the result of `exp`; the
                              gradient of 4 of 4 variables is NaN or infinite (l1.weight, l1.bias, l2.weight,
                              l2.bias)
      help       start at the named origin: what comes after it is only carried along; see
                 docs/causes.md#not-finite
    ");
}
