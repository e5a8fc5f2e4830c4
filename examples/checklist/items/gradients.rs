//! What flows back.

use candle_nn::{LayerNorm, ops};
use candling::prelude::*;

use super::super::models::Net;
use super::Item;

pub(crate) const ITEMS: &[Item] = &[
    Item {
        assertion: "assert_gradients_flow!",
        question: "does a gradient reach every variable?",
        bug: "candle's fused LayerNorm, which has no backward pass",
        cause: Cause::GradientCut,
        test: |digits, bug| {
            let ((vars, net), batch) = (Net::fresh()?, digits.batch());
            let (weight, bias) = (
                Tensor::ones(256, DType::F32, &Device::Cpu)?,
                Tensor::zeros(256, DType::F32, &Device::Cpu)?,
            );
            let norm = LayerNorm::new(weight.clone(), bias.clone(), 1e-5);
            let learner = Learner::new(
                &vars,
                |x| {
                    let x = net.features(x)?;
                    net.head.forward(&match bug {
                        true => norm.forward(&x)?,
                        false => ops::layer_norm_slow(&x, &weight, &bias, 1e-5)?,
                    })
                },
                loss::cross_entropy,
            );
            assert_gradients_flow!(learner, batch);
            Ok(())
        },
    },
    Item {
        assertion: "assert_gradients_correct!",
        question: "is the gradient the slope of the loss?",
        bug: "candle's max_pool2d, whose gradient is a quarter of what it should be",
        cause: Cause::GradientEngine,
        test: |digits, bug| {
            let (x, _) = digits.rows(0, 2)?;
            let x = x.to_dtype(DType::F64)?;
            // Pixels that are equal have no slope in a maximum.
            let x = (x + Seed::new(1).uniform(
                "x",
                0.0..0.1,
                (2, 1, 8, 8),
                DType::F64,
                &Device::Cpu,
            )?)?;
            assert_gradients_correct!(
                |x| match bug {
                    true => x.max_pool2d(2),
                    false => x.avg_pool2d(2),
                },
                &x
            );
            Ok(())
        },
    },
    Item {
        assertion: "assert_units_alive!",
        question: "does every layer still answer?",
        bug: "a bias of -10 before a ReLU",
        cause: Cause::UnitsDead,
        test: |digits, bug| {
            let ((vars, net), batch) = (Net::fresh()?, digits.batch());
            let shift = if bug { -10.0 } else { 0.0 };
            let learner = Learner::new(
                &vars,
                |x| {
                    let x = (net.conv1.forward(x)? + shift)?.relu()?;
                    let x = net.conv2.forward(&x)?.relu()?;
                    net.head.forward(&x.flatten_from(1)?)
                },
                loss::cross_entropy,
            );
            assert_units_alive!(learner, batch);
            Ok(())
        },
    },
];
