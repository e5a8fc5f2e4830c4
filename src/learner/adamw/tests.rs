use candle_core::{Device, Module};
use candle_nn::{AdamW, Optimizer, loss};

use super::*;
use crate::Seed;

/// Both do the same operations in one order and round alike, so their values are equal, after any number of steps.
/// MKL's and Accelerate's square roots may differ in the last bit, and a training makes more of that.
const MAY_DIFFER: f64 = if cfg!(any(feature = "mkl", feature = "accelerate")) { 1e-2 } else { 0.0 };

const DTYPES: [DType; 4] = [DType::F32, DType::F64, DType::BF16, DType::F16];

fn params(dtype: DType, weight_decay: f64) -> ParamsAdamW {
    let eps = if dtype == DType::F16 { 1e-4 } else { 1e-8 };
    ParamsAdamW { lr: 1e-2, eps, weight_decay, ..ParamsAdamW::default() }
}

fn fused(vars: &[Var], params: ParamsAdamW) -> FusedAdamW {
    FusedAdamW::new(vars, params).expect("contiguous floats on the CPU")
}

fn assert_equal(ours: &[Var], reference: &[Var], what: &str) -> Result<()> {
    for (ours, reference) in ours.iter().zip(reference) {
        let values = |var: &Var| var.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
        for (x, y) in values(ours)?.into_iter().zip(values(reference)?) {
            assert!((x - y).abs() <= MAY_DIFFER * y.abs().max(1.0), "{what}: {x} and {y}");
        }
    }
    Ok(())
}

/// The variables of a net with one hidden layer, and its loss on a batch.
fn net(dtype: DType) -> Result<(Vec<Var>, impl Fn() -> Result<Tensor>)> {
    let (vars, vb) = Seed::new(3).var_builder(dtype, &Device::Cpu);
    let l1 = candle_nn::linear(5, 16, vb.pp("l1"))?;
    let l2 = candle_nn::linear(16, 3, vb.pp("l2"))?;
    let x = Seed::new(4).normal("x", (8, 5), dtype, &Device::Cpu)?;
    let y = Tensor::from_iter((0..8u32).map(|row| row % 3), &Device::Cpu)?;
    let vars = crate::variables::sorted(&vars).into_iter().map(|(_, var)| var).collect();
    Ok((vars, move || loss::cross_entropy(&l2.forward(&l1.forward(&x)?.relu()?)?, &y)))
}

#[test]
fn a_net_has_candles_values_after_a_thousand_steps_in_every_dtype() -> Result<()> {
    for dtype in DTYPES {
        let ((a, our_loss), (b, their_loss)) = (net(dtype)?, net(dtype)?);
        let mut ours = fused(&a, params(dtype, 0.0));
        let mut reference = AdamW::new(b.clone(), params(dtype, 0.0))?;
        for _ in 0..1000 {
            ours.step(&our_loss()?.backward()?)?;
            Optimizer::step(&mut reference, &their_loss()?.backward()?)?;
        }
        assert_equal(&a, &b, dtype.as_str())?;
    }
    Ok(())
}

/// Trains a variable towards `floor` with both, and compares them.
fn assert_equal_on_a_quadratic(dtype: DType, dims: (usize, usize), steps: usize) -> Result<()> {
    let start = Seed::new(5).normal("start", dims, dtype, &Device::Cpu)?;
    let floor = Seed::new(6).normal("floor", dims, dtype, &Device::Cpu)?;
    let (a, b) = (Var::from_tensor(&start.copy()?)?, Var::from_tensor(&start.copy()?)?);
    let mut ours = fused(std::slice::from_ref(&a), params(dtype, 0.01));
    let mut reference = AdamW::new(vec![b.clone()], params(dtype, 0.01))?;
    let loss = |var: &Var| var.sub(&floor)?.sqr()?.sum_all();
    for step in 0..steps {
        let rate = if step < steps / 2 { 1e-2 } else { 1e-3 };
        ours.set_learning_rate(rate);
        Optimizer::set_learning_rate(&mut reference, rate);
        ours.step(&loss(&a)?.backward()?)?;
        Optimizer::step(&mut reference, &loss(&b)?.backward()?)?;
    }
    assert_equal(&[a], &[b], dtype.as_str())
}

#[test]
fn a_quadratic_has_candles_values_after_a_thousand_steps_with_decay_and_two_rates() -> Result<()> {
    DTYPES.into_iter().try_for_each(|dtype| assert_equal_on_a_quadratic(dtype, (7, 11), 1000))
}

#[test]
fn a_variable_shared_out_among_threads_has_candles_values() -> Result<()> {
    // More elements than one thread takes, and no multiple of a chunk.
    DTYPES.into_iter().try_for_each(|dtype| assert_equal_on_a_quadratic(dtype, (3, 23_000), 4))
}

#[test]
fn gradients_out_of_order_and_missing_ones_are_taken_as_candle_takes_them() -> Result<()> {
    let vars = || -> Result<Vec<Var>> {
        let new = |label, dims| {
            Var::from_tensor(&Seed::new(1).normal(label, dims, DType::F32, &Device::Cpu)?)
        };
        Ok(vec![new("turned", (2, 3))?, new("broadcast", (2, 3))?, new("unused", (2, 3))?])
    };
    let loss = |vars: &[Var]| {
        let factor = Tensor::arange(0f32, 6., &Device::Cpu)?.reshape((3, 2))?;
        vars[0].t()?.mul(&factor)?.sum_all()? + vars[1].sum_all()?
    };
    let (a, b) = (vars()?, vars()?);
    let mut ours = fused(&a, params(DType::F32, 0.01));
    let mut reference = AdamW::new(b.clone(), params(DType::F32, 0.01))?;
    for _ in 0..3 {
        ours.step(&loss(&a)?.backward()?)?;
        Optimizer::step(&mut reference, &loss(&b)?.backward()?)?;
    }
    assert_equal(&a, &b, "out of order")?;
    let norms = ours.seen().unwrap().iter().map(|seen| seen.map(|seen| seen.squared_norm));
    assert_eq!(norms.collect::<Vec<_>>(), [Some(55.0), Some(6.0), None]);
    Ok(())
}

#[test]
fn entries_that_are_not_finite_are_counted_and_a_large_norm_does_not_overflow() -> Result<()> {
    let factors = Factors::of(&params(DType::F32, 0.0), 1);
    let see = |grad: &[f32]| {
        let zeros = || vec![0f32; grad.len()];
        kernel::step(&mut zeros(), grad, &mut zeros(), &mut zeros(), factors)
    };
    assert_eq!(
        see(&[1e30, -1e30]),
        Seen { squared_norm: see(&[1e30]).squared_norm * 2.0, non_finite: 0 }
    );
    let mut grad = vec![1f32; 100_000];
    assert_eq!(see(&grad), Seen { squared_norm: 1e5, non_finite: 0 });
    (grad[7], grad[70_000], grad[99_999]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    assert_eq!(see(&grad).non_finite, 3);
    Ok(())
}

#[test]
fn a_gradient_of_another_dtype_or_shape_is_refused() -> Result<()> {
    let var = Var::zeros(2, DType::F32, &Device::Cpu)?;
    let mut ours = fused(std::slice::from_ref(&var), params(DType::F32, 0.0));
    let mut grads = var.sum_all()?.backward()?;
    grads.insert(&var, Tensor::ones(2, DType::F64, &Device::Cpu)?);
    let error = ours.step(&grads).unwrap_err().to_string();
    assert!(error.contains("a variable of f32 has a gradient of f64"), "{error}");
    grads.insert(&var, Tensor::ones(3, DType::F32, &Device::Cpu)?);
    let error = ours.step(&grads).unwrap_err().to_string();
    assert!(error.contains("a variable of [2] has a gradient of [3]"), "{error}");
    assert_eq!(var.to_vec1::<f32>()?, [0.0, 0.0]);
    Ok(())
}

#[test]
fn what_the_pass_cannot_take_is_left_to_candle() -> Result<()> {
    let f8 =
        Var::from_tensor(&Tensor::ones(2, DType::F32, &Device::Cpu)?.to_dtype(DType::F8E4M3)?)?;
    assert!(FusedAdamW::new(&[f8], params(DType::F8E4M3, 0.0)).is_none());
    Ok(())
}
