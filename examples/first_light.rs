//! A convolutional net on real handwritten digits: first healthy, then with six bugs that candle does not notice.
//!
//! `cargo run --release --example first_light`

#![allow(clippy::print_stdout, reason = "an example that prints what a failing test would")]

mod digits;

use candle_nn::{AdamW, Conv2d, Conv2dConfig, Linear, SGD, conv2d, linear, ops};
use candling::{Batch, check::Healthy, prelude::*};
use digits::Digits;

fn main() -> anyhow::Result<()> {
    let digits = Digits::load()?;
    let (vars, vb) = Seed::from_env_or(42).var_builder(DType::F32, &Device::Cpu);
    let net = Net::new(vb)?;

    println!(
        "1,797 handwritten digits of 8x8 pixels, a net of two convolutions and a linear layer.\n"
    );
    println!("── the healthy net ──\n");
    let learner = Learner::new(&vars, |x| net.forward(x), loss::cross_entropy);
    let report = assert_healthy!(learner, digits.batch(), classes = 10);
    let fit = report.overfits_batch.expect("a learner with a loss is trained");
    println!("assertion `healthy` holds: {}", report.ran.join(", "));
    println!(
        "one batch of 32: loss {:.3} -> {:.3} in {} steps, accuracy {:.2}\n",
        fit.initial_loss,
        fit.final_loss,
        fit.steps,
        fit.accuracy.unwrap_or(f64::NAN),
    );
    let accuracy = train(&vars, &net, &digits)?;
    println!(
        "trained for two epochs on 1,500 digits: {:.1} % of the other 297 are right\n",
        100.0 * accuracy
    );

    let bugs = planted(&digits)?;
    let (mut caught, mut named) = (0, 0);
    for (i, bug) in bugs.iter().enumerate() {
        println!("── bug {}: {} ──\n", i + 1, bug.what);
        match Healthy::new().classes(10).check(&bug.learner, &bug.batch) {
            Ok(_) => println!("not seen\n"),
            Err(failure) => {
                caught += 1;
                named += usize::from(failure.cause() == Some(bug.cause));
                println!("{}\n", failure.text());
            }
        }
    }
    println!(
        "the healthy net passes; of {} planted bugs {caught} caught, {named} named",
        bugs.len()
    );
    Ok(())
}

/// Two convolutions and a linear layer. No `max_pool2d`: its gradient is wrong in candle 0.11.
struct Net {
    conv1: Conv2d,
    conv2: Conv2d,
    head: Linear,
}

impl Net {
    fn new(vb: VarBuilder<'_>) -> candle_core::Result<Self> {
        let same = Conv2dConfig { padding: 1, ..Default::default() };
        let halving = Conv2dConfig { padding: 1, stride: 2, ..Default::default() };
        Ok(Self {
            conv1: conv2d(1, 8, 3, same, vb.pp("conv1"))?,
            conv2: conv2d(8, 16, 3, halving, vb.pp("conv2"))?,
            head: linear(16 * 4 * 4, 10, vb.pp("head"))?,
        })
    }

    /// What the head sees: `[batch, 256]`.
    fn features(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let x = self.conv1.forward(x)?.relu()?;
        self.conv2.forward(&x)?.relu()?.flatten_from(1)
    }
}

impl Module for Net {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.head.forward(&self.features(x)?)
    }
}

/// Two epochs of AdamW on the first 1,500 digits; the share of the others that is right. The weights are kept.
fn train(vars: &VarMap, net: &Net, digits: &Digits) -> anyhow::Result<f64> {
    let mut optimizer = AdamW::new_lr(vars.all_vars(), 5e-3)?;
    for _ in 0..2 {
        for from in (0..1500).step_by(50) {
            let (x, y) = digits.rows(from, 50)?;
            optimizer.backward_step(&loss::cross_entropy(&net.forward(&x)?, &y)?)?;
        }
    }
    let (x, y) = digits.rows(1500, 297)?;
    let right = net.forward(&x)?.argmax(1)?.eq(&y)?.to_dtype(DType::F64)?;
    Ok(right.mean_all()?.to_scalar()?)
}

struct Bug {
    what: &'static str,
    cause: Cause,
    learner: Learner<'static>,
    batch: Batch,
}

/// Six bugs that crash nothing. Each is the healthy net but for one line.
fn planted(digits: &Digits) -> candle_core::Result<Vec<Bug>> {
    let fresh = || -> candle_core::Result<(VarMap, Net, VarBuilder<'static>)> {
        let (vars, vb) = Seed::from_env_or(42).var_builder(DType::F32, &Device::Cpu);
        let net = Net::new(vb.clone())?;
        Ok((vars, net, vb))
    };
    let batch = || digits.batch();
    let mut bugs = Vec::new();

    let (vars, net, _) = fresh()?;
    bugs.push(Bug {
        what: "a softmax before a loss that wants logits",
        cause: Cause::LossOnProbabilities,
        learner: Learner::new(
            &vars,
            move |x| ops::softmax(&net.forward(x)?, 1),
            loss::cross_entropy,
        ),
        batch: batch(),
    });

    let (vars, net, vb) = fresh()?;
    let norm = candle_nn::layer_norm(256, 1e-5, vb.pp("norm"))?;
    bugs.push(Bug {
        what: "a LayerNorm: candle's fused one has no backward pass",
        cause: Cause::GradientCut,
        learner: Learner::new(
            &vars,
            move |x| net.head.forward(&norm.forward(&net.features(x)?)?),
            loss::cross_entropy,
        ),
        batch: batch(),
    });

    let (vars, net, _) = fresh()?;
    bugs.push(Bug {
        what: "a likelihood without its minus",
        cause: Cause::LossSign,
        learner: Learner::new(
            &vars,
            move |x| net.forward(x),
            |logits, y| {
                let likelihood = ops::log_softmax(logits, 1)?.gather(&y.unsqueeze(1)?, 1)?;
                likelihood.mean_all()
            },
        ),
        batch: batch(),
    });

    let (vars, net, _) = fresh()?;
    let head = vec![Var::from_tensor(net.head.weight())?];
    bugs.push(Bug {
        what: "an optimizer that was given one variable of six",
        cause: Cause::OptimizerMissesVariable,
        learner: Learner::new(&vars, move |x| net.forward(x), loss::cross_entropy)
            .optimizer(move |_| AdamW::new_lr(head.clone(), 1e-2)),
        batch: batch(),
    });

    let (vars, net, _) = fresh()?;
    bugs.push(Bug {
        what: "a learning rate a thousand times too high",
        cause: Cause::LearningRateHigh,
        learner: Learner::new(&vars, move |x| net.forward(x), loss::cross_entropy)
            .optimizer(|vars| SGD::new(vars, 100.0)),
        batch: batch(),
    });

    let (vars, net, _) = fresh()?;
    let (x, y) = digits.rows(0, 32)?;
    let y = ((y.to_dtype(DType::F32)? - 1.0)?.to_dtype(DType::I64)?).to_dtype(DType::U32)?;
    bugs.push(Bug {
        what: "labels shifted by one: 0 becomes 4,294,967,295, and candle counts it as right",
        cause: Cause::LabelOutOfRange,
        learner: Learner::new(&vars, move |x| net.forward(x), loss::cross_entropy),
        batch: (x, y).into(),
    });
    Ok(bugs)
}
