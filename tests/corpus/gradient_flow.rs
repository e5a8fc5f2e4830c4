//! Group F: whether a gradient arrives.

use candle_core::{DType, Module, Tensor};
use candle_nn::{Embedding, Init, LayerNorm, Optimizer, RmsNorm, SGD, linear, loss, ops};
use candling::{Cause, Learner, Result, Seed};

use super::{
    data::{self, CPU, TIME, VOCAB, weights},
    entry::{Assertion::OverfitsBatch, Entry, Subject},
    models::{Dropout, Mlp, Norm, Residual, Transformer, causal_mask, same},
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
];

fn detach(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 24, vb.pp("first"))?;
    let blocks = [Residual::new(24, vb.pp("b0"))?, Residual::new(24, vb.pp("b1"))?];
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
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

fn fused_layer_norm(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 24, vb.pp("first"))?;
    let norm = Norm::new(24, vb.pp("norm"))?;
    let fused = LayerNorm::new(norm.weight.clone(), norm.bias.clone(), 1e-5);
    let head = linear(24, 1, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?;
        let x = if buggy { fused.forward(&x)? } else { norm.forward(&x)? };
        head.forward(&x.relu()?)
    };
    let learner = Learner::new(&vars, forward, loss::mse).optimizer(|vars| SGD::new(vars, 0.1));
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F32)?))
}

fn fused_rms_norm(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 24, vb.pp("first"))?;
    let weight = vb.pp("norm").get_with_hints(24, "weight", Init::Const(1.0))?;
    let fused = RmsNorm::new(weight.clone(), 1e-5);
    let head = linear(24, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?.silu()?;
        let x = if buggy { fused.forward(&x)? } else { ops::rms_norm_slow(&x, &weight, 1e-5)? };
        head.forward(&x)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

fn fused_softmax(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(4, vb)?;
    let mask = causal_mask(DType::F32)?;
    let forward = move |ids: &Tensor| {
        let hidden = model.hidden(ids, Norm::forward, |attention, x| {
            attention.forward(x, same, |scores| {
                let scores = scores.broadcast_add(&mask)?;
                if buggy { ops::softmax_last_dim(&scores) } else { ops::softmax(&scores, 2) }
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
        false => vb.get_with_hints((VOCAB, 8), "table", Init::Randn { mean: 0.0, stdev: 1.0 })?,
    };
    let embedding = Embedding::new(table, 8);
    let head = Mlp::new(&[8 * TIME, 16, 4], Tensor::relu, vb)?;
    let forward = move |ids: &Tensor| head.forward(&embedding.forward(ids)?.flatten_from(1)?);
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::sequences(seed)?))
}

fn rounded(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 32, vb.pp("first"))?, linear(32, 4, vb.pp("head"))?);
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?.relu()?;
        let quantised = ((&x * 8.0)?.round()? / 8.0)?;
        match buggy {
            true => head.forward(&quantised),
            false => head.forward(&(&x + (quantised - &x)?.detach())?),
        }
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}
