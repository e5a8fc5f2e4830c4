//! Group F: candle's operations without a backward pass, at other places.

use candle_core::{DType, Module, Tensor};
use candle_nn::{
    Conv2dConfig, Embedding, Init, LayerNorm, RmsNorm, conv2d, embedding, linear, linear_no_bias,
    loss, ops, rotary_emb,
};
use candling::{Cause, Learner, Result, Seed};

use super::models::{Block, Mixture, rotations, token_loss};
use crate::corpus::{
    data::{self, CPU, ROWS, TIME, VOCAB, weights},
    entry::{Assertion::GradientsFlow, Entry, Subject},
    models::{Mlp, Norm, causal_mask},
};

const GROUP: &str = "gradients";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "F2b",
        group: GROUP,
        bug: "a decoder's last norm is fused; its head is tied to the embedding, which still trains",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| tied_decoder(seed, true),
        clean: |seed| tied_decoder(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F2c",
        group: GROUP,
        bug: "a fused LayerNorm in one of two towers",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| two_towers(seed, true),
        clean: |seed| two_towers(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F2d",
        group: GROUP,
        bug: "a fused LayerNorm over channels, between convolutions, behind a gate of a millionth",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| convnext(seed, true),
        clean: |seed| convnext(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F3b",
        group: GROUP,
        bug: "queries and keys normalised by a fused RmsNorm",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| normalised_queries(seed, true),
        clean: |seed| normalised_queries(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F4b",
        group: GROUP,
        bug: "a router's gates by softmax_last_dim: it never learns where to send rows",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| routed(seed, true),
        clean: |seed| routed(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F4c",
        group: GROUP,
        bug: "softmax_last_dim in the attention that pools a set",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| pooled_sets(seed, true),
        clean: |seed| pooled_sets(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F5b",
        group: GROUP,
        bug: "rope_i on the one key head that all query heads share",
        cause: Cause::GradientCut,
        assertion: GradientsFlow,
        buggy: |seed| shared_keys(seed, true),
        clean: |seed| shared_keys(seed, false),
        missed_today: None,
    },
];

fn tied_decoder(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    // More tokens and positions than the batch has.
    let init = Init::Randn { mean: 0.0, stdev: 0.2 };
    let tokens = vb.get_with_hints((VOCAB + 8, 16), "tokens.weight", init)?;
    let positions = vb.get_with_hints((2 * TIME, 16), "positions.weight", init)?;
    let blocks =
        [Block::new(16, Tensor::gelu, vb.pp("b0"))?, Block::new(16, Tensor::gelu, vb.pp("b1"))?];
    let norm = Norm::new(16, vb.pp("norm"))?;
    let fused = LayerNorm::new(norm.weight.clone(), norm.bias.clone(), 1e-5);
    let mask = causal_mask(DType::F32)?;
    let forward = move |ids: &Tensor| {
        let x = Embedding::new(tokens.clone(), 16).forward(ids)?;
        let mut x = x.broadcast_add(&positions.narrow(0, 0, TIME)?)?;
        for block in &blocks {
            x = block.forward(&x, Some(&mask))?;
        }
        let x = if buggy { fused.forward(&x)? } else { norm.forward(&x)? };
        x.broadcast_matmul(&tokens.t()?)
    };
    let ids = data::chains(seed)?;
    let (now, next) = (ids.narrow(1, 0, TIME)?, ids.narrow(1, 1, TIME)?);
    let learner = Learner::new(&vars, forward, token_loss);
    Ok(Subject::new(learner, (now.contiguous()?, next.contiguous()?)))
}

/// Images and captions, matched by the cosine of what their towers make of them.
fn two_towers(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let config = Conv2dConfig { padding: 1, stride: 2, ..Conv2dConfig::default() };
    let (conv, image) = (conv2d(1, 4, 3, config, vb.pp("conv"))?, linear(64, 8, vb.pp("image"))?);
    let tokens = embedding(VOCAB, 12, vb.pp("tokens"))?;
    let (first, norm) = (linear(12, 16, vb.pp("first"))?, Norm::new(16, vb.pp("norm"))?);
    let fused = LayerNorm::new(norm.weight.clone(), norm.bias.clone(), 1e-5);
    let caption = linear(16, 8, vb.pp("caption"))?;
    let unit = |x: &Tensor| x.broadcast_div(&(x.sqr()?.sum_keepdim(1)? + 1e-6)?.sqrt()?);
    let forward = move |[images, ids]: &[Tensor; 2]| {
        let seen = image.forward(&conv.forward(images)?.gelu()?.flatten_from(1)?)?;
        let read = first.forward(&tokens.forward(ids)?.mean(1)?)?;
        let read = if buggy { fused.forward(&read)? } else { norm.forward(&read)? };
        let read = caption.forward(&read.gelu()?)?;
        unit(&seen)?.matmul(&unit(&read)?.t()?)? / 0.1
    };
    let (images, _) = data::images(seed, 4)?;
    let (ids, _) = data::sequences(seed)?;
    let pairs = Tensor::arange(0u32, ROWS as u32, CPU)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (&[images, ids], &pairs))
        .allow(Cause::BatchMixed)
        .allow(Cause::BatchSizeFixed))
}

/// A block as in ConvNeXt. Its gate starts at a millionth, as there: what lies behind it has gradients that small.
fn convnext(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
    let stem = conv2d(1, 8, 3, config, vb.pp("stem"))?;
    let deep = conv2d(8, 8, 3, Conv2dConfig { groups: 8, ..config }, vb.pp("deep"))?;
    let norm = Norm::new(8, vb.pp("norm"))?;
    let fused = LayerNorm::new(norm.weight.clone(), norm.bias.clone(), 1e-5);
    let feed = Mlp::new(&[8, 16, 8], Tensor::gelu, vb.pp("feed"))?;
    let gate = vb.get_with_hints(8, "gate", Init::Const(1e-6))?;
    let head = linear(8 * 16, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = stem.forward(x)?;
        let y = deep.forward(&x)?.permute((0, 2, 3, 1))?.contiguous()?;
        let y = if buggy { fused.forward(&y)? } else { norm.forward(&y)? };
        let y = feed.forward(&y)?.broadcast_mul(&gate)?.permute((0, 3, 1, 2))?;
        head.forward(&(x + y)?.avg_pool2d(2)?.flatten_from(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::images(seed, 4)?))
}

/// An encoder without a bias anywhere.
fn normalised_queries(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let width = 16;
    let tokens = embedding(VOCAB, width, vb.pp("tokens"))?;
    let layer = |name: &str, from, to| linear_no_bias(from, to, vb.pp(name));
    let (query, key) = (layer("query", width, width)?, layer("key", width, width)?);
    let (value, out) = (layer("value", width, width)?, layer("out", width, width)?);
    let (gate, up, down) =
        (layer("gate", width, 32)?, layer("up", width, 32)?, layer("down", 32, width)?);
    let gain = |name: &str| vb.pp(name).get_with_hints(width, "weight", Init::Const(1.0));
    let (before, query_gain, key_gain, after) =
        (gain("before")?, gain("query_norm")?, gain("key_norm")?, gain("after")?);
    let head = layer("head", width, 4)?;
    let forward = move |ids: &Tensor| {
        let small = |x: &Tensor, gain: &Tensor| match buggy {
            true => RmsNorm::new(gain.clone(), 1e-6).forward(x),
            false => ops::rms_norm_slow(x, gain, 1e-6),
        };
        let x = tokens.forward(ids)?;
        let y = ops::rms_norm_slow(&x, &before, 1e-6)?;
        let (q, k) =
            (small(&query.forward(&y)?, &query_gain)?, small(&key.forward(&y)?, &key_gain)?);
        let weights = ops::softmax(&(q.matmul(&k.t()?.contiguous()?)? / 4.0)?, 2)?;
        let x = (x + out.forward(&weights.matmul(&value.forward(&y)?)?)?)?;
        let y = ops::rms_norm_slow(&x, &after, 1e-6)?;
        let x = (x + down.forward(&(gate.forward(&y)?.silu()? * up.forward(&y)?)?)?)?;
        head.forward(&x.mean(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::sequences(seed)?))
}

/// Two of eight experts for each row: on 16 rows some expert is often left without any.
fn routed(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 12, vb.pp("first"))?, linear(12, 4, vb.pp("head"))?);
    let norm = Norm::new(12, vb.pp("norm"))?;
    let mixture = Mixture::new(12, 8, 2, Tensor::silu, vb.pp("mixture"))?;
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?;
        let weigh = |logits: &Tensor| match buggy {
            true => ops::softmax_last_dim(logits),
            false => ops::softmax(logits, 1),
        };
        let share = |gates: &Tensor| gates.broadcast_div(&gates.sum_keepdim(1)?);
        let y = mixture.forward(&norm.forward(&x)?, weigh, share)?;
        head.forward(&(x + y)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// Sets of two to six members; a learned query decides which count.
fn pooled_sets(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let member = Mlp::new(&[6, 16, 16], Tensor::relu, vb.pp("member"))?;
    let key = linear(16, 16, vb.pp("key"))?;
    let query = vb.get_with_hints((16, 1), "query", Init::Randn { mean: 0.0, stdev: 0.25 })?;
    let head = linear(16, 4, vb.pp("head"))?;
    let forward = move |[members, mask]: &[Tensor; 2]| {
        let x = member.forward(members)?;
        let scores = key.forward(&x)?.tanh()?.broadcast_matmul(&query)?.squeeze(2)?;
        let scores = (scores + mask)?;
        let weights = match buggy {
            true => ops::softmax_last_dim(&scores)?,
            false => ops::softmax(&scores, 1)?,
        };
        head.forward(&weights.unsqueeze(1)?.matmul(&x)?.squeeze(1)?)
    };
    let members = seed.normal("x", (ROWS, TIME, 6), DType::F32, CPU)?;
    let mask: Vec<f32> = (0..ROWS * TIME)
        .map(|i| if i % TIME < 2 + (i / TIME) % (TIME - 1) { 0.0 } else { -1e9 })
        .collect();
    let mask = Tensor::from_vec(mask, (ROWS, TIME), CPU)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (&[members, mask], &data::labels(4)?)))
}

fn shared_keys(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (heads, size) = (2, 8);
    let tokens = embedding(VOCAB, heads * size, vb.pp("tokens"))?;
    let norm = Norm::new(heads * size, vb.pp("norm"))?;
    let query = linear(heads * size, heads * size, vb.pp("query"))?;
    let (key, value) =
        (linear(heads * size, size, vb.pp("key"))?, linear(heads * size, size, vb.pp("value"))?);
    let out = linear(heads * size, heads * size, vb.pp("out"))?;
    let head = linear(heads * size, VOCAB, vb.pp("head"))?;
    let (cos, sin) = rotations(size / 2)?;
    let mask = causal_mask(DType::F32)?;
    let forward = move |ids: &Tensor| {
        let x = tokens.forward(ids)?;
        let (y, rows) = (norm.forward(&x)?, ids.dim(0)?);
        let split = |x: Tensor, heads: usize| {
            x.reshape((rows, TIME, heads, size))?.transpose(1, 2)?.contiguous()
        };
        let q = rotary_emb::rope_i_slow(&split(query.forward(&y)?, heads)?, &cos, &sin)?;
        let k = split(key.forward(&y)?, 1)?;
        let k = match buggy {
            true => rotary_emb::rope_i(&k, &cos, &sin)?,
            false => rotary_emb::rope_i_slow(&k, &cos, &sin)?,
        };
        let v = split(value.forward(&y)?, 1)?;
        let every = |x: &Tensor| Tensor::cat(&[x, x], 1)?.contiguous();
        let scores = (q.matmul(&every(&k)?.t()?.contiguous()?)? / (size as f64).sqrt())?;
        let weights = ops::softmax(&scores.broadcast_add(&mask)?, 3)?;
        let y =
            weights.matmul(&every(&v)?)?.transpose(1, 2)?.reshape((rows, TIME, heads * size))?;
        head.forward(&(x + out.forward(&y)?)?)
    };
    let ids = data::chains(seed)?;
    let (now, next) = (ids.narrow(1, 0, TIME)?, ids.narrow(1, 1, TIME)?);
    let learner = Learner::new(&vars, forward, token_loss);
    Ok(Subject::new(learner, (now.contiguous()?, next.contiguous()?)))
}
