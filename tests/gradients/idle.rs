//! Gradients that arrive and train nothing: of values made once, of rounding, of zeros, below the smallest number.

use candle_core::{DType, Module, Tensor};
use candle_nn::{Init, Linear, linear, loss, ops};
use candling::{
    Cause, Learner,
    check::{GradientsFlow, UnitsAlive},
};

use super::models::{builder, classes, classifier, device, layers, normal};

fn first_finding(learner: &Learner<'_>, dtype: DType) -> (Option<Cause>, String, String) {
    let (x, y) = classes(1, dtype);
    let failure = GradientsFlow::new().check(learner, (&x, &y)).expect_err("the bug was not seen");
    let finding = &failure.findings()[0];
    (failure.cause(), finding.place().unwrap_or_default().to_owned(), finding.evidence().to_owned())
}

#[test]
fn weights_that_are_made_once_are_unused() {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 16, 4], &vb);
    let scaled = || (l[0].weight() * 0.5).unwrap();
    let once = scaled();
    let with = |weight: Tensor, x: &Tensor| {
        l[1].forward(&Linear::new(weight, l[0].bias().cloned()).forward(x)?.tanh()?)
    };
    let each_time = classifier(&vars, |x| with(scaled(), x));
    GradientsFlow::new().check(&each_time, (&x, &y)).unwrap();
    let (cause, place, evidence) =
        first_finding(&classifier(&vars, |x| with(once.clone(), x)), DType::F32);
    assert_eq!((cause, place.as_str()), (Some(Cause::VariableUnused), "l0.weight"));
    assert!(evidence.contains("though a gradient arrives"), "{evidence}");
}

#[test]
fn a_weight_that_is_masked_out_is_unused_and_one_that_meets_a_state_of_zeros_is_not() {
    let (x, y) = classes(1, DType::F32);
    let (vars, vb) = builder(1, DType::F32);
    let l = layers(&[6, 16, 16, 4], &vb);
    let zeros = Tensor::zeros((16, 16), DType::F32, &device()).unwrap();
    let middle = |first: &dyn Fn(&Tensor) -> candle_core::Result<Tensor>, x: &Tensor| {
        let h = l[0].forward(x)?.tanh()?;
        l[2].forward(&(&h + first(&h)?.tanh()?)?)
    };
    let masked =
        |h: &Tensor| Linear::new((l[1].weight() * &zeros)?, l[1].bias().cloned()).forward(h);
    let learner = classifier(&vars, |x| middle(&masked, x));
    let (cause, place, _) = first_finding(&learner, DType::F32);
    assert_eq!((cause, place.as_str()), (Some(Cause::VariableUnused), "l1.weight"));
    // As many rows as the weight has, so that the product with it looks like the weight masked.
    let state =
        |h: &Tensor| h.zeros_like()?.matmul(l[1].weight())?.broadcast_add(l[1].bias().unwrap());
    let learner = classifier(&vars, |x| middle(&state, x));
    GradientsFlow::new().check(&learner, (&x, &y)).unwrap();
}

#[test]
fn a_share_of_one_cuts_the_router() {
    let (vars, vb) = builder(1, DType::F32);
    let (router, head) =
        (linear(6, 3, vb.pp("router")).unwrap(), linear(6, 4, vb.pp("head")).unwrap());
    let learner = classifier(&vars, |x| {
        let gates = ops::softmax(&router.forward(x)?, 1)?;
        let best = gates.argmax_keepdim(1)?;
        let kept = gates.gather(&best, 1)?;
        let share = kept.broadcast_div(&kept.sum_keepdim(1)?)?;
        let scale = (best.to_dtype(DType::F32)? + 1.0)?;
        head.forward(&x.broadcast_mul(&share)?.broadcast_mul(&scale)?)
    });
    let (cause, place, evidence) = first_finding(&learner, DType::F32);
    assert_eq!(
        (cause, place.as_str()),
        (Some(Cause::GradientCut), "router.weight, router.bias"),
        "{evidence}"
    );
}

#[test]
fn a_gradient_below_the_smallest_number_of_f16_is_told() {
    let (vars, vb) = builder(1, DType::F16);
    let (head, beside) =
        (linear(6, 4, vb.pp("head")).unwrap(), linear(6, 48, vb.pp("beside")).unwrap());
    let forward = |x: &Tensor| Tensor::cat(&[head.forward(x)?, beside.forward(x)?], 1);
    let light = |output: &Tensor, y: &Tensor| {
        let classes = loss::cross_entropy(&output.narrow(1, 0, 4)?.contiguous()?, y)?;
        classes + (output.narrow(1, 4, 48)?.sqr()?.mean_all()? * 1e-5)?
    };
    let (cause, place, evidence) = first_finding(&Learner::new(&vars, forward, light), DType::F16);
    assert_eq!(
        (cause, place.as_str()),
        (Some(Cause::PrecisionLoss), "beside.weight, beside.bias"),
        "{evidence}"
    );
}

#[test]
fn an_output_that_a_clamp_cuts_is_saturated() {
    let (vars, vb) = builder(1, DType::F32);
    let weight = Init::Randn { mean: 0.0, stdev: 0.01 };
    let weight = vb.get_with_hints((8, 6), "head.weight", weight).unwrap();
    let bias = vb.get_with_hints(8, "head.bias", Init::Const(-20.0)).unwrap();
    let head = Linear::new(weight, Some(bias));
    let loss = |p: &Tensor, y: &Tensor| {
        let p = p.clamp(1e-7f32, 1.0 - 1e-7)?;
        (y * p.log()?)?.mean_all()?.neg()
    };
    let learner = Learner::new(&vars, |x: &Tensor| ops::sigmoid(&head.forward(x)?), loss);
    let (x, y) = (normal(1, &[32, 6], DType::F32), normal(2, &[32, 8], DType::F32).abs().unwrap());
    let failure = UnitsAlive::new().check(&learner, (&x, &y)).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::UnitsSaturated), "{failure}");
}
