//! Group F: the value of the gradient.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Module, Shape, Tensor};
use candle_nn::{Init, Optimizer, SGD, linear, loss, ops};
use candling::{Cause, Learner, Result, Seed};

use super::{
    data::{self, weights},
    entry::{
        Assertion,
        Assertion::{OverfitsBatch, Test},
        Entry, Subject,
    },
    models::{ConvNet, Mlp, Residual, mean_pool, same},
    steps::decreases::decreases,
};

const GROUP: &str = "gradients";

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "F12",
        group: GROUP,
        bug: "max_pool2d's gradient is a quarter of the right one",
        cause: Cause::GradientEngine,
        assertion: Assertion::GradientsCorrect,
        buggy: |seed| max_pool(seed, true),
        clean: |seed| max_pool(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F13",
        group: GROUP,
        bug: "upsample_nearest2d overwrites the gradient of a skip connection",
        cause: Cause::GradientEngine,
        assertion: Assertion::GradientsCorrect,
        buggy: |seed| upsampled_skip(seed, true),
        clean: |seed| upsampled_skip(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F14",
        group: GROUP,
        bug: "a hand-written backward pass that forgets a factor",
        cause: Cause::GradientWrong,
        assertion: Assertion::GradientsCorrect,
        buggy: |seed| custom_backward(seed, true),
        clean: |seed| custom_backward(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F15",
        group: GROUP,
        bug: "thirty sigmoid layers",
        cause: Cause::GradientVanishing,
        assertion: OverfitsBatch,
        buggy: thirty_sigmoids,
        clean: |seed| deep_residual(seed),
        missed_today: None,
    },
    Entry {
        id: "F16",
        group: GROUP,
        bug: "twelve layers with weights of standard deviation 1 and no norm",
        cause: Cause::GradientExploding,
        assertion: OverfitsBatch,
        buggy: |seed| large_weights(seed, true),
        clean: |seed| large_weights(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F18",
        group: GROUP,
        bug: "the square root of zero, hidden by where_cond: its gradient is NaN",
        cause: Cause::NotFinite,
        assertion: OverfitsBatch,
        buggy: |seed| root_of_zero(seed, true),
        clean: |seed| root_of_zero(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F19",
        group: GROUP,
        bug: "a straight-through estimator with the wrong sign",
        cause: Cause::GradientWrong,
        assertion: Test("loss_decreases"),
        buggy: |seed| straight_through(seed, true),
        clean: |seed| straight_through(seed, false),
        missed_today: None,
    },
];

fn max_pool(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = ConvNet::new(4, vb)?;
    let forward = move |x: &Tensor| match buggy {
        true => model.forward(x, same, |x| x.max_pool2d(2)),
        false => model.forward(x, same, mean_pool),
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::images(seed, 4)?))
}

fn upsampled_skip(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = ConvNet::new(4, vb.clone())?;
    let skip = linear(ConvNet::CHANNELS * 16, 4, vb.pp("skip"))?;
    let wide = linear(ConvNet::CHANNELS * 64, 4, vb.pp("wide"))?;
    let forward = move |x: &Tensor| {
        let coarse = mean_pool(&model.first.forward(x)?.relu()?)?;
        let (b, c, h, w) = coarse.dims4()?;
        let fine = match buggy {
            true => coarse.upsample_nearest2d(2 * h, 2 * w)?,
            false => (coarse.reshape((b, c, h, 1, w, 1))?.broadcast_as((b, c, h, 2, w, 2))?)
                .reshape((b, c, 2 * h, 2 * w))?,
        };
        let deep = model.head.forward(&model.second.forward(&coarse)?.relu()?.flatten_from(1)?)?;
        let beside = skip.forward(&coarse.flatten_from(1)?)?;
        // The backward pass takes the last operand first: the upsampled one comes after the others, and overwrites them.
        wide.forward(&fine.flatten_from(1)?)? + (deep + beside)?
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::images(seed, 4)?))
}

/// `x * x * x`, whose derivative is `3 * x * x`.
struct Cubed {
    factor: f64,
}

impl CustomOp1 for Cubed {
    fn name(&self) -> &'static str {
        "cubed"
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
        let cubes = values[start..end].iter().map(|x| x * x * x).collect();
        Ok((CpuStorage::F32(cubes), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(((grad * x.sqr()?)? * self.factor)?))
    }
}

fn custom_backward(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 32, vb.pp("first"))?, linear(32, 1, vb.pp("head"))?);
    let factor = if buggy { 1.0 } else { 3.0 };
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?;
        head.forward(&(&x + (x.apply_op1(Cubed { factor })? * 0.1)?)?)
    };
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F32)?))
}

fn thirty_sigmoids(seed: Seed) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let mut sizes = vec![16; 32];
    (sizes[0], sizes[31]) = (6, 4);
    let model = Mlp::new(&sizes, ops::sigmoid, vb)?;
    let learner = Learner::new(&vars, move |x| model.forward(x), loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

fn deep_residual(seed: Seed) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 16, vb.pp("first"))?;
    let blocks = (0..30)
        .map(|i| Residual::new(16, vb.pp(format!("b{i:02}"))))
        .collect::<candle_core::Result<Vec<_>>>()?;
    let head = linear(16, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = blocks.iter().try_fold(first.forward(x)?, |x, block| block.forward(&x))?;
        head.forward(&x)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

fn large_weights(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let init = match buggy {
        true => Init::Randn { mean: 0.0, stdev: 1.0 },
        false => candle_nn::init::DEFAULT_KAIMING_NORMAL,
    };
    let mut sizes = [32; 13];
    (sizes[0], sizes[12]) = (6, 4);
    let layers = (sizes.windows(2).enumerate())
        .map(|(i, w)| {
            let vb = vb.pp(format!("l{i:02}"));
            let weight = vb.get_with_hints((w[1], w[0]), "weight", init)?;
            let bias = vb.get_with_hints(w[1], "bias", Init::Const(0.0))?;
            Ok(candle_nn::Linear::new(weight, Some(bias)))
        })
        .collect::<candle_core::Result<Vec<_>>>()?;
    let forward = move |x: &Tensor| {
        let (last, inner) = layers.split_last().expect("12 layers");
        let hidden = inner.iter().try_fold(x.clone(), |x, layer| layer.forward(&x)?.relu())?;
        last.forward(&hidden)
    };
    let learner =
        Learner::new(&vars, forward, loss::cross_entropy).optimizer(|vars| SGD::new(vars, 0.05));
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

fn root_of_zero(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 32, vb.pp("first"))?, linear(32, 4, vb.pp("head"))?);
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?.relu()?;
        let positive = x.gt(0f32)?;
        let root = if buggy { x.sqrt()? } else { (&x + 1e-6)?.sqrt()? };
        head.forward(&positive.where_cond(&root, &x)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

fn straight_through(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 32, vb.pp("first"))?, linear(32, 1, vb.pp("head"))?);
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?.tanh()?;
        let rounded = ((&x * 8.0)?.round()? / 8.0)?;
        let passed = match buggy {
            true => ((rounded + &x)?.detach() - &x)?,
            false => ((rounded - &x)?.detach() + &x)?,
        };
        head.forward(&passed)
    };
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F32)?).test(decreases))
}
