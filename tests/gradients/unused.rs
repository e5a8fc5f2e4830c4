//! What `assert_gradients_flow!` says of variables that nothing uses, and of what looks wrong and is right.

use candle_core::{DType, Module, Tensor};
use candle_nn::{linear, ops};
use candling::{
    Cause, Failure, FailureKind, Learner,
    check::{GradientVerdict, GradientsFlow, GradientsFlowReport},
};

use super::models::{
    Mlp, builder, chain, classes, classifier, layers, normal, scale_and_shift, text,
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
fn what_nothing_uses_is_told_from_what_is_not_the_models() {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 8, 4], &vb);
    linear(8, 8, vb.pp("left_over")).unwrap();
    let learner = classifier(&vars, |x| chain(&l, x, Tensor::relu));
    let found = failure(&learner, (&x, &y));
    assert_eq!(found.cause(), Some(Cause::VariableUnused));
    insta::assert_snapshot!(text(&found), @"
    assertion `gradients_flow` failed
    2 of 6 variables do not get the gradient they should

      gradients  l0.weight         [8, 6]  flows   norm 0.581
                 l0.bias           [8]     flows   norm 0.198
                 l1.weight         [4, 8]  flows   norm 0.61
                 l1.bias           [4]     flows   norm 0.175
                 left_over.weight  [8, 8]  unused
                 left_over.bias    [8]     unused

      confirmed  variable-unused   left_over.weight, left_over.bias: moving 2 of 6 variables changes nothing, nor
                                   does it on 16 other batches, and no gradient arrives
      help       the layer is built and never called; call it, or list it in `.frozen(..)`; see
                 docs/causes.md#variable-unused
    ");
    GradientsFlow::new().allow(Cause::VariableUnused).check(&learner, (&x, &y)).unwrap();

    let (others, _) = Mlp::seeded(1, [6, 8, 4], DType::F32);
    let learner = classifier(&others, |x| chain(&l, x, Tensor::relu));
    let found = failure(&learner, (&x, &y));
    assert_eq!(found.cause(), Some(Cause::VariableUntracked));
    insta::assert_snapshot!(text(&found), @"
    assertion `gradients_flow` failed
    4 of 4 variables do not get the gradient they should

      gradients  l1.weight  [8, 6]  unused
                 l1.bias    [8]     unused
                 l2.weight  [4, 8]  unused
                 l2.bias    [4]     unused

      confirmed  variable-untracked   moving any of the learner's variables changes nothing: the model computes
                                      with other tensors
      help       make it a `Var`, from a `VarMap`; weights from `from_mmaped_safetensors` are not variables; see
                 docs/causes.md#variable-untracked
    ");
}

#[test]
fn a_norm_of_the_same_width_as_its_layer_is_not_in_the_way() {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 8, 4], &vb);
    let (weight, bias) = scale_and_shift(8, vb.pp("norm"));
    let learner = classifier(&vars, |x| {
        chain(&l, x, |h| ops::layer_norm_slow(h, &weight, &bias, 1e-5)?.gelu())
    });
    GradientsFlow::new().check(&learner, (&x, &y)).unwrap();
}

#[test]
fn a_loss_whose_margin_is_kept_proves_nothing() {
    let (x, _) = classes(1, DType::F32);
    let (vars, m) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let hinge = |o: &Tensor, _: &Tensor| (o.sqr()?.neg()? - 1.0)?.relu()?.mean_all();
    let learner = Learner::new(&vars, |x: &Tensor| m.forward(x), hinge);
    let failure = GradientsFlow::new().check(&learner, (&x, &x)).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Vacuous);
    insta::assert_snapshot!(text(&failure), @"
    assertion `gradients_flow` proves nothing here
    the loss is exactly 0 on this batch, and so is every gradient

      help       give it a batch that is not fitted already
    ");
}

#[test]
fn a_bias_that_a_distance_takes_out_again_is_zero_by_right() {
    for seed in 0..30 {
        let x = normal(seed, &[8, 2, 6], DType::F32);
        let (vars, m) = Mlp::seeded(seed, [6, 16, 4], DType::F32);
        let distance =
            |o: &Tensor, _: &Tensor| (o.narrow(1, 0, 1)? - o.narrow(1, 1, 1)?)?.sqr()?.mean_all();
        let learner = Learner::new(&vars, |x: &Tensor| m.forward(x), distance);
        let report = GradientsFlow::new().check(&learner, (&x, &x)).unwrap();
        assert_eq!(verdict(&report, "l2.bias"), GradientVerdict::NumericallyZero);
    }
}
