//! The learner's first steps, by `assert_loss_decreases!`.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Module, Shape, Tensor};
use candle_nn::{AdamW, Optimizer, SGD, linear, loss, ops};
use candling::{Batch, Cause, Learner, Result, Seed, check::LossDecreases};

use crate::corpus::{
    data::{self, CPU, weights},
    entry::{Assertion::Test, Entry, Subject},
    models::{ConvNet, Dropout, Mlp, Norm, Recurrent, Residual, Transformer, mean_pool},
    optimizers::adam,
};

const GROUP: &str = "steps";

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "F19c",
        group: GROUP,
        bug: "codes of -1 and 1 passed on with a minus: `(sign + x).detach() - x`",
        cause: Cause::GradientWrong,
        assertion: Test("loss_decreases"),
        buggy: |seed| binary_codes(seed, true),
        clean: |seed| binary_codes(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F14j",
        group: GROUP,
        bug: "a hand-written softplus whose backward pass has a minus too many",
        cause: Cause::GradientWrong,
        assertion: Test("loss_decreases"),
        buggy: |seed| softplus(seed, -1.0),
        clean: |seed| softplus(seed, 1.0),
        missed_today: None,
    },
    Entry {
        id: "G4d",
        group: GROUP,
        bug: "a rate of 1e-11 for AdamW",
        cause: Cause::LearningRateLow,
        assertion: Test("loss_decreases"),
        buggy: |seed| transformer(seed, 1e-11),
        clean: |seed| transformer(seed, 1e-5),
        missed_today: None,
    },
    Entry {
        id: "G5c",
        group: GROUP,
        bug: "AdamW at a rate of 30",
        cause: Cause::LearningRateHigh,
        assertion: Test("loss_decreases"),
        buggy: |seed| adam_regression(seed, 30.0),
        // The first step raises the loss fivefold, and the training converges.
        clean: |seed| adam_regression(seed, 0.1),
        missed_today: None,
    },
    Entry {
        id: "G6c",
        group: GROUP,
        bug: "a schedule that is subtracted from itself: the rate is negative",
        cause: Cause::LossSign,
        assertion: Test("loss_decreases"),
        buggy: |seed| with_dropout(seed, -0.3),
        clean: |seed| with_dropout(seed, 0.3),
        missed_today: None,
    },
    Entry {
        id: "E15c",
        group: GROUP,
        bug: "the loss is rebuilt from a number: it carries no gradient",
        cause: Cause::LossDetached,
        assertion: Test("loss_decreases"),
        buggy: |seed| rebuilt_loss(seed, true),
        clean: |seed| rebuilt_loss(seed, false),
        missed_today: None,
    },
];

pub(crate) fn decreases(
    learner: &Learner<'static>,
    batch: &Batch,
) -> Result<candling::check::LossDecreasesReport> {
    LossDecreases::new().check(learner, batch)
}

fn binary_codes(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let encoder = Mlp::new(&[8, 24, 32], Tensor::silu, vb.pp("encoder"))?;
    let decoder = linear(32, 8, vb.pp("decoder"))?;
    let x = seed.normal("x", (16, 8), DType::F32, CPU)?;
    let forward = move |x: &Tensor| {
        let code = encoder.forward(x)?.tanh()?;
        let sign = code.sign()?;
        let passed = match buggy {
            true => ((sign + &code)?.detach() - &code)?,
            false => ((sign - &code)?.detach() + &code)?,
        };
        decoder.forward(&passed)
    };
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(learner, (x.clone(), x)).test(decreases))
}

/// `log(1 + exp(x))`, whose derivative is the sigmoid.
struct Softplus {
    sign: f64,
}

impl CustomOp1 for Softplus {
    fn name(&self) -> &'static str {
        "softplus"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            candle_core::bail!("a contiguous f32 tensor is wanted");
        };
        let soft = values[start..end].iter().map(|x| x.max(0.0) + (-x.abs()).exp().ln_1p());
        Ok((CpuStorage::F32(soft.collect()), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(((grad * ops::sigmoid(x)?)? * self.sign)?))
    }
}

fn softplus(seed: Seed, sign: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 32, vb.pp("first"))?, linear(32, 4, vb.pp("head"))?);
    let forward = move |x: &Tensor| {
        head.forward(&first.forward(x)?.contiguous()?.apply_op1(Softplus { sign })?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?).test(decreases))
}

fn transformer(seed: Seed, rate: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(4, vb)?;
    // A rate for fine-tuning takes longer than 300 steps to fit a batch.
    let learner = Learner::new(&vars, move |x| model.classify(x), loss::cross_entropy);
    let own = learner.clone().optimizer(move |vars| AdamW::new(vars, adam(rate)));
    let learner = if rate < 1e-6 { own.clone() } else { learner };
    Ok(Subject::new(learner, data::sequences(seed)?)
        .test(move |_: &Learner<'static>, batch: &Batch| decreases(&own, batch)))
}

fn adam_regression(seed: Seed, rate: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 32, vb.pp("first"))?, linear(32, 1, vb.pp("head"))?);
    let norm = Norm::new(32, vb.pp("norm"))?;
    let block = Residual::new(32, vb.pp("block"))?;
    let forward =
        move |x: &Tensor| head.forward(&norm.forward(&block.forward(&first.forward(x)?)?)?.relu()?);
    let learner = Learner::new(&vars, forward, loss::mse);
    let own = learner.clone().optimizer(move |vars| AdamW::new(vars, adam(rate)));
    let learner = if rate > 1.0 { own.clone() } else { learner };
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F32)?)
        .test(move |_: &Learner<'static>, batch: &Batch| decreases(&own, batch)))
}

fn with_dropout(seed: Seed, rate: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = ConvNet::new(4, vb)?;
    let dropout = Dropout::new(seed, 0.1);
    let forward =
        move |x: &Tensor, train: bool| model.forward(x, |x| dropout.forward(x, train), mean_pool);
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy)
        .optimizer(move |vars| SGD::new(vars, rate));
    Ok(Subject::new(learner, data::images(seed, 4)?).test(decreases))
}

fn rebuilt_loss(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Recurrent::lstm(4, vb)?;
    let loss = move |logits: &Tensor, y: &Tensor| {
        let loss = loss::cross_entropy(logits, y)?;
        if buggy { Tensor::new(loss.to_scalar::<f32>()?, CPU) } else { Ok(loss) }
    };
    let learner = Learner::new(&vars, move |x| model.classify(x), loss);
    Ok(Subject::new(learner, data::sequences(seed)?).test(decreases))
}
