//! Group F: the way of the gradient.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Module, Shape, Tensor};
use candle_nn::{Embedding, Init, LayerNorm, Optimizer, RmsNorm, SGD, linear, loss, ops};
use candling::{Cause, Learner, Result, Seed};

use super::{
    data::{self, CPU, TIME, VOCAB, weights},
    entry::{Assertion::OverfitsBatch, Entry, Subject},
    models::{ConvNet, Dropout, Mlp, Norm, Residual, Transformer, causal_mask, mean_pool, same},
};

const GROUP: &str = "gradients";

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "F1",
        group: GROUP,
        bug: "a detach in the middle of the network",
        cause: Cause::GradientCut,
        assertion: OverfitsBatch,
        buggy: |seed| detach(seed, true),
        clean: |seed| detach(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F2",
        group: GROUP,
        bug: "candle's fused LayerNorm has no backward pass",
        cause: Cause::GradientCut,
        assertion: OverfitsBatch,
        buggy: |seed| fused_layer_norm(seed, true),
        clean: |seed| fused_layer_norm(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F3",
        group: GROUP,
        bug: "candle's fused RmsNorm has no backward pass",
        cause: Cause::GradientCut,
        assertion: OverfitsBatch,
        buggy: |seed| fused_rms_norm(seed, true),
        clean: |seed| fused_rms_norm(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F4",
        group: GROUP,
        bug: "softmax_last_dim has no backward pass: queries and keys never train",
        cause: Cause::GradientCut,
        assertion: OverfitsBatch,
        buggy: |seed| fused_softmax(seed, true),
        clean: |seed| fused_softmax(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F5",
        group: GROUP,
        bug: "rope has no backward pass: queries and keys never train",
        cause: Cause::GradientCut,
        assertion: OverfitsBatch,
        buggy: |seed| fused_rope(seed, true),
        clean: |seed| fused_rope(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F8",
        group: GROUP,
        bug: "an embedding table that is a plain tensor, and no variable",
        cause: Cause::VariableUntracked,
        assertion: OverfitsBatch,
        buggy: |seed| plain_tensor(seed, true),
        clean: |seed| plain_tensor(seed, false),
        // The layers above fit the batch alone, and the learner does not know the tensor.
        missed_today: Some("assert_architecture"),
    },
    Entry {
        id: "F9",
        group: GROUP,
        bug: "a rounding in the path: activations quantised without a straight-through gradient",
        cause: Cause::GradientCut,
        assertion: OverfitsBatch,
        buggy: |seed| rounded(seed, true),
        clean: |seed| rounded(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F12",
        group: GROUP,
        bug: "max_pool2d's gradient is a quarter of the right one",
        cause: Cause::GradientEngine,
        assertion: OverfitsBatch,
        buggy: |seed| max_pool(seed, true),
        clean: |seed| max_pool(seed, false),
        missed_today: Some("assert_gradients_correct"),
    },
    Entry {
        id: "F13",
        group: GROUP,
        bug: "upsample_nearest2d overwrites the gradient of a skip connection",
        cause: Cause::GradientEngine,
        assertion: OverfitsBatch,
        buggy: |seed| upsampled_skip(seed, true),
        clean: |seed| upsampled_skip(seed, false),
        missed_today: Some("assert_gradients_correct"),
    },
    Entry {
        id: "F14",
        group: GROUP,
        bug: "a hand-written backward pass that forgets a factor",
        cause: Cause::GradientWrong,
        assertion: OverfitsBatch,
        buggy: |seed| custom_backward(seed, true),
        clean: |seed| custom_backward(seed, false),
        missed_today: Some("assert_gradients_correct"),
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
        assertion: OverfitsBatch,
        buggy: |seed| straight_through(seed, true),
        clean: |seed| straight_through(seed, false),
        missed_today: Some("assert_loss_decreases"),
    },
];

fn detach(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 24, vb.pp("first"))?;
    let blocks = [
        Residual::new(24, vb.pp("b0"))?,
        Residual::new(24, vb.pp("b1"))?,
    ];
    let head = linear(24, 4, vb.pp("head"))?;
    let dropout = Dropout::new(seed, 0.1);
    let forward = move |x: &Tensor, train: bool| {
        let mut x = dropout.forward(&first.forward(x)?, train)?;
        for block in &blocks {
            x = block.forward(&x)?;
        }
        let x = if buggy { x.detach() } else { x };
        head.forward(&x)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(
        learner,
        data::classes(seed, 6, 4, DType::F32)?,
    ))
}

fn fused_layer_norm(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 24, vb.pp("first"))?;
    let norm = Norm::new(24, vb.pp("norm"))?;
    let fused = LayerNorm::new(norm.weight.clone(), norm.bias.clone(), 1e-5);
    let head = linear(24, 1, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?;
        let x = if buggy {
            fused.forward(&x)?
        } else {
            norm.forward(&x)?
        };
        head.forward(&x.relu()?)
    };
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(
        learner,
        data::regression(seed, 6, DType::F32)?,
    ))
}

fn fused_rms_norm(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 24, vb.pp("first"))?;
    let weight = vb
        .pp("norm")
        .get_with_hints(24, "weight", Init::Const(1.0))?;
    let fused = RmsNorm::new(weight.clone(), 1e-5);
    let head = linear(24, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?.silu()?;
        let x = if buggy {
            fused.forward(&x)?
        } else {
            ops::rms_norm_slow(&x, &weight, 1e-5)?
        };
        head.forward(&x)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(
        learner,
        data::classes(seed, 6, 4, DType::F32)?,
    ))
}

fn fused_softmax(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(4, vb)?;
    let mask = causal_mask(DType::F32)?;
    let forward = move |ids: &Tensor| {
        let hidden = model.hidden(ids, Norm::forward, |attention, x| {
            attention.forward(x, same, |scores| {
                let scores = scores.broadcast_add(&mask)?;
                if buggy {
                    ops::softmax_last_dim(&scores)
                } else {
                    ops::softmax(&scores, 2)
                }
            })
        })?;
        model.head.forward(&hidden.mean(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::sequences(seed)?))
}

fn fused_rope(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(4, vb)?;
    let half = Transformer::WIDTH / 2;
    let angles: Vec<f32> = (0..TIME * half)
        .map(|i| (i / half) as f32 / 100f32.powf((i % half) as f32 / half as f32))
        .collect();
    let angles = Tensor::from_vec(angles, (TIME, half), CPU)?;
    let (cos, sin) = (angles.cos()?, angles.sin()?);
    let forward = move |ids: &Tensor| {
        let turn = |x: &Tensor| {
            let x = x.unsqueeze(1)?;
            let turned = match buggy {
                true => candle_nn::rotary_emb::rope(&x, &cos, &sin)?,
                false => candle_nn::rotary_emb::rope_slow(&x, &cos, &sin)?,
            };
            turned.squeeze(1)
        };
        let hidden = model.hidden(ids, Norm::forward, |attention, x| {
            attention.forward(x, turn, |scores| ops::softmax(scores, 2))
        })?;
        model.head.forward(&hidden.mean(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::sequences(seed)?))
}

fn plain_tensor(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let table = match buggy {
        true => seed.normal("table", (VOCAB, 8), DType::F32, CPU)?,
        false => vb.get_with_hints(
            (VOCAB, 8),
            "table",
            Init::Randn {
                mean: 0.0,
                stdev: 1.0,
            },
        )?,
    };
    let embedding = Embedding::new(table, 8);
    let head = Mlp::new(&[8 * TIME, 16, 4], Tensor::relu, vb)?;
    let forward = move |ids: &Tensor| head.forward(&embedding.forward(ids)?.flatten_from(1)?);
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::sequences(seed)?))
}

fn rounded(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (
        linear(6, 32, vb.pp("first"))?,
        linear(32, 4, vb.pp("head"))?,
    );
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?.relu()?;
        let quantised = ((&x * 8.0)?.round()? / 8.0)?;
        match buggy {
            true => head.forward(&quantised),
            false => head.forward(&(&x + (quantised - &x)?.detach())?),
        }
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(
        learner,
        data::classes(seed, 6, 4, DType::F32)?,
    ))
}

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
            false => (coarse
                .reshape((b, c, h, 1, w, 1))?
                .broadcast_as((b, c, h, 2, w, 2))?)
            .reshape((b, c, 2 * h, 2 * w))?,
        };
        let deep = model
            .head
            .forward(&model.second.forward(&coarse)?.relu()?.flatten_from(1)?)?;
        let beside = skip.forward(&coarse.flatten_from(1)?)?;
        (deep + beside)? + wide.forward(&fine.flatten_from(1)?)?
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
    let (first, head) = (
        linear(6, 32, vb.pp("first"))?,
        linear(32, 1, vb.pp("head"))?,
    );
    let factor = if buggy { 1.0 } else { 3.0 };
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?;
        head.forward(&(&x + (x.apply_op1(Cubed { factor })? * 0.1)?)?)
    };
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(
        learner,
        data::regression(seed, 6, DType::F32)?,
    ))
}

fn thirty_sigmoids(seed: Seed) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let mut sizes = vec![16; 32];
    (sizes[0], sizes[31]) = (6, 4);
    let model = Mlp::new(&sizes, ops::sigmoid, vb)?;
    let learner = Learner::new(&vars, move |x| model.forward(x), loss::cross_entropy);
    Ok(Subject::new(
        learner,
        data::classes(seed, 6, 4, DType::F32)?,
    ))
}

fn deep_residual(seed: Seed) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 16, vb.pp("first"))?;
    let blocks = (0..30)
        .map(|i| Residual::new(16, vb.pp(format!("b{i:02}"))))
        .collect::<candle_core::Result<Vec<_>>>()?;
    let head = linear(16, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = blocks
            .iter()
            .try_fold(first.forward(x)?, |x, block| block.forward(&x))?;
        head.forward(&x)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(
        learner,
        data::classes(seed, 6, 4, DType::F32)?,
    ))
}

fn large_weights(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let init = match buggy {
        true => Init::Randn {
            mean: 0.0,
            stdev: 1.0,
        },
        false => candle_nn::init::DEFAULT_KAIMING_NORMAL,
    };
    let mut sizes = [16; 13];
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
        let hidden = inner
            .iter()
            .try_fold(x.clone(), |x, layer| layer.forward(&x)?.relu())?;
        last.forward(&hidden)
    };
    let learner =
        Learner::new(&vars, forward, loss::cross_entropy).optimizer(|vars| SGD::new(vars, 0.05));
    Ok(Subject::new(
        learner,
        data::classes(seed, 6, 4, DType::F32)?,
    ))
}

fn root_of_zero(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (
        linear(6, 32, vb.pp("first"))?,
        linear(32, 4, vb.pp("head"))?,
    );
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?.relu()?;
        let positive = x.gt(0f32)?;
        let root = if buggy {
            x.sqrt()?
        } else {
            (&x + 1e-6)?.sqrt()?
        };
        head.forward(&positive.where_cond(&root, &x)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(
        learner,
        data::classes(seed, 6, 4, DType::F32)?,
    ))
}

fn straight_through(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (
        linear(6, 32, vb.pp("first"))?,
        linear(32, 1, vb.pp("head"))?,
    );
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
    Ok(Subject::new(
        learner,
        data::regression(seed, 6, DType::F32)?,
    ))
}
