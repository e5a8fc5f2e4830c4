//! Every way the macro can be called.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Module, Result, Tensor};
use candling::{Cause, Seed, assert_batch_independent};

use super::models::normal;

fn squared(x: &Tensor) -> Result<Tensor> {
    x.sqr()
}

#[test]
fn a_closure_a_name_a_reference_and_options() {
    let x = normal(1, &[4, 3], DType::F32);
    let report = assert_batch_independent!(|x| x.tanh(), &x);
    assert_eq!(report.rows, 4);
    assert_batch_independent!(|x| x.tanh(), x);
    assert_batch_independent!(squared, &x, seed = Seed::new(3));
    assert_batch_independent!(Tensor::exp, &x, "seed {}", 3);
    let layer = candle_nn::Linear::new(normal(3, &[2, 3], DType::F32), None);
    let named = |x: &Tensor| layer.forward(x);
    assert_batch_independent!(named, &x, seed = Seed::new(1), "named");
    let mut calls = 0;
    let mut counted = |x: &Tensor| {
        calls += 1;
        x.tanh()
    };
    let report = assert_batch_independent!(&mut counted, &x);
    assert_eq!(report.forwards, calls);
    let both = [x.clone(), x.clone()];
    assert_batch_independent!(|[a, b]| a * b, &both);
    let sum = |x: &Tensor| x.broadcast_sub(&x.mean_keepdim(0)?);
    assert_batch_independent!(sum, &x, allow = Cause::BatchMixed, "centred");
    let panic = catch_unwind(AssertUnwindSafe(|| assert_batch_independent!(sum, &x, "seed {}", 7)));
    let message = panic.unwrap_err().downcast_ref::<String>().cloned().unwrap();
    assert!(message.contains("assertion `batch_independent` failed: seed 7"), "{message}");
}
