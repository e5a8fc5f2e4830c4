//! Batches of other sizes round otherwise, in the format that a model computes in, whatever it returns.

use candle_core::{D, DType, Module, Result, Tensor};
use candle_nn::{embedding, layer_norm, ops};
use candling::{Cause, Seed, check::BatchIndependent};

use super::models::{builder, device, normal};

/// What another kernel does to a batch of one: the last place of one number is another.
fn rounds_otherwise_alone(x: Tensor) -> Result<Tensor> {
    if x.dim(0)? > 1 {
        return Ok(x);
    }
    let place = if x.dtype() == DType::BF16 { 1.0 / 128.0 } else { 1.0 / 1024.0 };
    let moved = (x.narrow(1, 0, 1)? * (1.0 + place))?;
    Tensor::cat(&[moved, x.narrow(1, 1, x.dim(1)? - 1)?], 1)
}

#[test]
fn logits_of_half_precision_returned_in_f32() {
    for dtype in [DType::BF16, DType::F16] {
        let x = normal(1, &[5, 8], dtype);
        let f = |x: &Tensor| rounds_otherwise_alone(x.clone())?.to_dtype(DType::F32);
        BatchIndependent::new().check(f, &x).unwrap();
        // Of weights that are no variables, and ids: nothing but the numbers themselves says so.
        let table = normal(2, &[20, 32], dtype);
        let ids = Seed::new(1).tokens("ids", 20, (5,), &device()).unwrap();
        let f = |ids: &Tensor| {
            rounds_otherwise_alone(table.index_select(ids, 0)?)?.to_dtype(DType::F32)
        };
        BatchIndependent::new().check(f, &ids).unwrap();
    }
}

#[test]
fn probabilities_in_f32_of_a_model_in_half_precision() {
    for dtype in [DType::BF16, DType::F16] {
        let (_vars, vb) = builder(1, dtype);
        let table = embedding(20, 32, vb.pp("table")).unwrap();
        let ids = Seed::new(1).tokens("ids", 20, (5,), &device()).unwrap();
        let f = |ids: &Tensor| {
            let logits = rounds_otherwise_alone(table.forward(ids)?)?.to_dtype(DType::F32)?;
            ops::softmax(&logits, D::Minus1)
        };
        BatchIndependent::new().check(f, &ids).unwrap();
        // Behind a fused norm the graph is cut: that the input is rounded first shows in the outputs.
        let norm = layer_norm(8, 1e-5, vb.pp("norm")).unwrap();
        let f = |x: &Tensor| {
            let hidden = norm.forward(&x.to_dtype(dtype)?)?.detach();
            ops::softmax(&rounds_otherwise_alone(hidden)?.to_dtype(DType::F32)?, D::Minus1)
        };
        BatchIndependent::new().check(f, &normal(1, &[5, 8], DType::F32)).unwrap();
    }
}

#[test]
fn as_much_in_a_model_of_f32_is_no_rounding() {
    let f = |x: &Tensor| rounds_otherwise_alone(x.clone());
    let failure = BatchIndependent::new().check(f, &normal(1, &[5, 8], DType::F32)).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::BatchSizeFixed));
    // Nor is a sum divided by the number of rows in one of half precision.
    let f = |x: &Tensor| (x / x.dim(0)? as f64)?.to_dtype(DType::F32);
    let failure = BatchIndependent::new().check(f, &normal(1, &[5, 8], DType::BF16)).unwrap_err();
    assert_eq!(failure.cause(), Some(Cause::BatchSizeFixed));
}
