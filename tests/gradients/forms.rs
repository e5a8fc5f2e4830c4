//! Every way the macros can be called.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::{VarMap, loss};
use candling::{
    Cause, Learner, Seed, assert_gradients_correct, assert_gradients_flow, assert_units_alive,
};

use super::models::{Mlp, classes, device, normal};

fn learner() -> (Learner<'static>, Tensor, Tensor) {
    let (x, y) = classes(1, DType::F32);
    let (vars, model): (VarMap, Mlp) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let forward = move |x: &Tensor| model.l2.forward(&model.l1.forward(x)?.tanh()?);
    (Learner::new(&vars, forward, loss::cross_entropy), x, y)
}

fn message(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("the assertion passed");
    panic.downcast_ref::<String>().cloned().expect("a message")
}

fn squared(x: &Tensor) -> Result<Tensor> {
    x.sqr()
}

#[test]
fn a_function_is_a_closure_in_place_or_a_name() {
    let x = normal(1, &[2, 3], DType::F64);
    assert_gradients_correct!(|x| x.sqr(), &x);
    assert_gradients_correct!(|x| x.sqr(), x);
    assert_gradients_correct!(|x: &Tensor| x.sqr(), &&x);
    assert_gradients_correct!(|x| -> Result<Tensor> { x.sqr() }, &x);
    assert_gradients_correct!(|x| { x.sqr() }, &x,);
    let factor = normal(2, &[2, 3], DType::F64);
    assert_gradients_correct!(move |x| x * &factor, &x, "moved");
    assert_gradients_correct!(squared, &x);
    assert_gradients_correct!(Tensor::exp, &x, tolerance = 1e-5);
    let layer = candle_nn::Linear::new(normal(3, &[2, 3], DType::F64), None);
    let named = |x: &Tensor| layer.forward(x);
    assert_gradients_correct!(named, &x);
    let mut calls = 0;
    assert_gradients_correct!(
        |x| {
            calls += 1;
            x.tanh()
        },
        &x
    );
    assert!(calls > 4);
}

#[test]
fn several_inputs_are_an_array() {
    let (a, b) = (normal(1, &[2, 3], DType::F64), normal(2, &[2, 3], DType::F64));
    let report = assert_gradients_correct!(|[a, b]| a * b, &[a.clone(), b.clone()]);
    assert_eq!(report.judged, ["x[0]", "x[1]"]);
    assert_gradients_correct!(|[a, b]| a * b, [a.clone(), b.clone()], "in place");
    let both = [a, b];
    assert_gradients_correct!(|both| &both[0] + &both[1], both);
    assert_gradients_correct!(|[a, b]: &[Tensor; 2]| a - b, &both, tolerance = 1e-5, "n = {}", 2);
}

#[test]
fn learners_go_by_value_and_by_reference_with_options_and_a_context() {
    let (learner, x, y) = learner();
    let report = assert_gradients_flow!(learner, (&x, &y));
    assert_eq!(report.variables.len(), 4);
    assert_gradients_flow!(&learner, (&x, &y), allow = Cause::VariableUnused);
    assert_gradients_flow!(learner, (&x, &y), allow = Cause::GradientCut, "seed {}", 1);
    let batch = (x, y);
    assert_gradients_flow!(learner, &batch, "seed {}", 1,);

    let report = assert_gradients_correct!(learner, &batch);
    assert_eq!(report.dtype, DType::F32);
    assert_gradients_correct!(&learner, (&batch.0, &batch.1), tolerance = 0.1, "seed {}", 1);

    let report = assert_units_alive!(learner, &batch);
    assert_eq!(report.layers[1].activation, Some("tanh"));
    assert_units_alive!(&learner, (&batch.0, &batch.1), scale = 1e6, "seed {}", 1);
}

#[test]
fn a_failure_begins_with_its_context() {
    let (_, x, y) = learner();
    let (vars, model) = Mlp::seeded(1, [6, 16, 4], DType::F32);
    let cut = |x: &Tensor| model.l2.forward(&model.l1.forward(x)?.detach());
    let learner = Learner::new(&vars, cut, loss::cross_entropy);
    let flow = message(|| drop(assert_gradients_flow!(learner, (&x, &y), "seed {}", 7)));
    assert!(flow.contains("assertion `gradients_flow` failed: seed 7"), "{flow}");
    let correct = message(|| drop(assert_gradients_correct!(&learner, (&x, &y), "seed {}", 7)));
    assert!(correct.contains("assertion `gradients_correct` failed: seed 7"), "{correct}");
    let point = Seed::new(1).normal("x", (1, 1, 4, 4), DType::F64, &device()).unwrap();
    let of = message(|| drop(assert_gradients_correct!(|x| x.max_pool2d(2), &point, "pool")));
    assert!(of.contains("assertion `gradients_correct` failed: pool"), "{of}");
    let blind = Learner::new(&vars, |x: &Tensor| Ok(model.forward(x)?.detach()), loss::mse);
    let units = message(|| drop(assert_units_alive!(blind, (&x, &x), "seed {}", 7)));
    assert!(units.contains("assertion `units_alive`"), "{units}");
}
