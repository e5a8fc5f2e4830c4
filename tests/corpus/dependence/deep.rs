//! Models of several layers and of some width, where rounding has room to grow: one layer of them is wrong.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use candle_core::{DType, Module, Tensor};
use candle_nn::{Embedding, Linear, RmsNorm, VarBuilder, embedding, linear, ops, rotary_emb};
use candling::{Cause, Result, Seed};

use super::models::{HIDDEN, Heads, mask, sinusoids, softmax};
use crate::corpus::{
    data::{CPU, VOCAB, weights},
    entry::{Assertion::Property, Entry, Subject},
    models::Mlp,
    property::{
        Beside,
        Property::{
            BatchIndependent, CacheConsistent, Causal, Deterministic, Equivalent, PaddingInvariant,
            PositionSensitive,
        },
    },
};

const GROUP: &str = "dependence";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "B4e",
        group: GROUP,
        bug: "a masked mean over a batch's sequences divides by the number of all their tokens",
        cause: Cause::BatchMixed,
        assertion: Property(BatchIndependent),
        buggy: |seed| masked_mean(seed, true),
        clean: |seed| masked_mean(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B4f",
        group: GROUP,
        bug: "of two experts for each row the shares are a softmax over the batch",
        cause: Cause::BatchMixed,
        assertion: Property(BatchIndependent),
        buggy: |seed| experts(seed, 0),
        clean: |seed| experts(seed, 1),
        missed_today: None,
    },
    Entry {
        id: "J1j",
        group: GROUP,
        bug: "the third of four layers is not given the mask",
        cause: Cause::FutureLeak,
        assertion: Property(Causal),
        buggy: |seed| decoder(seed, DType::BF16, Some(2)),
        clean: |seed| decoder(seed, DType::BF16, None),
        missed_today: None,
    },
    Entry {
        id: "J1k",
        group: GROUP,
        bug: "experts are chosen by the mean over time, in a decoder of routed tokens",
        cause: Cause::FutureLeak,
        assertion: Property(Causal),
        buggy: |seed| routed_tokens(seed, true),
        clean: |seed| routed_tokens(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J7f",
        group: GROUP,
        bug: "the padding's mask is for the first layer, and the others see the padding",
        cause: Cause::PaddingLeak,
        assertion: Property(PaddingInvariant),
        buggy: |seed| encoder(seed, true),
        clean: |seed| encoder(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J9d",
        group: GROUP,
        bug: "a decoder that needs no positions, as its mask tells them, without the mask",
        cause: Cause::PositionIgnored,
        assertion: Property(PositionSensitive),
        buggy: |seed| without_positions(seed, false),
        clean: |seed| without_positions(seed, true),
        missed_today: None,
    },
    Entry {
        id: "J13e",
        group: GROUP,
        bug: "the last of six layers turns its keys by an offset of zero",
        cause: Cause::CacheMismatch,
        assertion: Property(CacheConsistent),
        buggy: |seed| cached(seed, Some(5)),
        clean: |seed| cached(seed, None),
        missed_today: None,
    },
    Entry {
        id: "M1b",
        group: "precision",
        bug: "a mean of 4096 pixels in bf16, which adds them up in bf16 too",
        cause: Cause::PrecisionLoss,
        assertion: Property(Equivalent),
        buggy: |seed| pooled(seed, true),
        clean: |seed| pooled(seed, false),
        missed_today: None,
    },
    Entry {
        id: "N2c",
        group: "properties",
        bug: "parts are summed in the order of a hash map, another one each time",
        cause: Cause::NotReproducible,
        assertion: Property(Deterministic),
        buggy: |seed| summed(seed, true),
        clean: |seed| summed(seed, false),
        missed_today: None,
    },
];

const WIDTH: usize = 32;

/// A layer as of Llama: a norm by the root mean square, rotary positions, a gate in the feed-forward part.
struct Layer {
    norms: [RmsNorm; 2],
    attention: Heads,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Layer {
    fn new(vb: VarBuilder<'_>) -> candle_core::Result<Self> {
        Ok(Self {
            norms: [
                candle_nn::rms_norm(WIDTH, 1e-6, vb.pp("norm1"))?,
                candle_nn::rms_norm(WIDTH, 1e-6, vb.pp("norm2"))?,
            ],
            attention: Heads::new(WIDTH, 4, vb.pp("attention"))?,
            gate: linear(WIDTH, 2 * WIDTH, vb.pp("gate"))?,
            up: linear(WIDTH, 2 * WIDTH, vb.pp("up"))?,
            down: linear(2 * WIDTH, WIDTH, vb.pp("down"))?,
        })
    }

    /// `attend` makes queries, keys and values, split into heads, to weighted values.
    fn forward(
        &self,
        x: &Tensor,
        attend: impl FnOnce(&Heads, [Tensor; 3]) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Tensor> {
        let normed = self.norms[0].forward(x)?;
        let [query, key, value] = self.attention.project(&normed, &normed)?;
        let split = |x: &Tensor| self.attention.split(x);
        let x = (x + attend(&self.attention, [split(&query)?, split(&key)?, split(&value)?])?)?;
        let normed = self.norms[1].forward(&x)?;
        let gated = (self.gate.forward(&normed)?.silu()? * self.up.forward(&normed)?)?;
        &x + self.down.forward(&gated)?
    }
}

fn layers(count: usize, vb: &VarBuilder<'_>) -> candle_core::Result<Vec<Layer>> {
    (0..count).map(|i| Layer::new(vb.pp(format!("layer{i}")))).collect()
}

/// Turned to the positions from `from` on. `[batch, heads, time, width]`.
fn turned(x: &Tensor, from: usize) -> candle_core::Result<Tensor> {
    let (_, _, time, width) = x.dims4()?;
    let angles = sinusoids(from + time, width, x.dtype())?.narrow(0, from, time)?;
    let angles = angles.reshape((time, width / 2, 2))?;
    let table = |i| angles.narrow(2, i, 1)?.squeeze(2)?.contiguous();
    rotary_emb::rope(x, &table(1)?, &table(0)?)
}

/// `[time, time]`: -1e9 where a key is later than its query, or 0 all over.
fn later(time: usize, dtype: DType, masks: bool) -> candle_core::Result<Tensor> {
    mask((time, time), dtype, HIDDEN, |query, key| masks && key > query)
}

fn decoder(seed: Seed, dtype: DType, unmasked: Option<usize>) -> Result<Subject> {
    let (_, vb) = weights(seed, dtype);
    let tokens = embedding(VOCAB, WIDTH, vb.pp("tokens"))?;
    let layers = layers(4, &vb)?;
    let head = linear(WIDTH, VOCAB, vb.pp("head"))?;
    let ids = seed.tokens("x", VOCAB, (3, 12), CPU)?;
    Ok(Subject::inference(ids, move |ids: &Tensor| {
        let mut x = tokens.forward(ids)?;
        for (i, layer) in layers.iter().enumerate() {
            let later = later(ids.dim(1)?, dtype, unmasked != Some(i))?;
            x = layer.forward(&x, |heads, [query, key, value]| {
                heads.attend(&[turned(&query, 0)?, turned(&key, 0)?, value], |scores| {
                    ops::softmax_last_dim(&scores.broadcast_add(&later)?)
                })
            })?;
        }
        head.forward(&x)
    }))
}

type Cache = RefCell<Vec<Option<[Tensor; 2]>>>;

fn cached(seed: Seed, at_zero: Option<usize>) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB, WIDTH, vb.pp("tokens"))?;
    let head = linear(WIDTH, VOCAB, vb.pp("head"))?;
    let model = Rc::new((tokens, layers(6, &vb)?, head));
    let ids = seed.tokens("x", VOCAB, (2, 14), CPU)?;
    let run = move |model: &(Embedding, Vec<Layer>, Linear),
                    ids: &Tensor,
                    offset: usize,
                    cache: Option<&Cache>| {
        let time = ids.dim(1)?;
        let mut x = model.0.forward(ids)?;
        for (i, layer) in model.1.iter().enumerate() {
            x = layer.forward(&x, |heads, [query, key, value]| {
                let of_key = if at_zero == Some(i) { 0 } else { offset };
                let (query, key) = (turned(&query, offset)?, turned(&key, of_key)?);
                let [key, value] = match cache {
                    Some(cache) => {
                        let mut cache = cache.borrow_mut();
                        let both = match cache[i].take() {
                            Some([keys, values]) => [
                                Tensor::cat(&[&keys, &key], 2)?,
                                Tensor::cat(&[&values, &value], 2)?,
                            ],
                            None => [key, value],
                        };
                        cache[i] = Some(both.clone());
                        both
                    }
                    None => [key, value],
                };
                let (all, dtype) = (key.dim(2)?, key.dtype());
                let later =
                    mask((time, all), dtype, HIDDEN, |query, key| key > all - time + query)?;
                heads.attend(&[query, key, value], |scores| {
                    ops::softmax_last_dim(&scores.broadcast_add(&later)?)
                })
            })?;
        }
        model.2.forward(&x)
    };
    let (stepped, cache) = (model.clone(), Cache::new(vec![None; 6]));
    let step = move |ids: &Tensor, offset: usize| {
        if offset == 0 {
            cache.borrow_mut().fill(None);
        }
        run(&stepped, ids, offset, Some(&cache))
    };
    let full = Subject::inference(ids, move |ids: &Tensor| run(&model, ids, 0, None));
    Ok(full.beside(Beside::Step(Box::new(step))))
}

/// Vectors for each token, in bf16.
fn encoder(seed: Seed, first_alone: bool) -> Result<Subject> {
    const DTYPE: DType = DType::BF16;
    let (_, vb) = weights(seed, DTYPE);
    let tokens = embedding(VOCAB, WIDTH, vb.pp("tokens"))?;
    let layers = layers(3, &vb)?;
    let ids = seed.tokens("x", VOCAB, (3, 9), CPU)?;
    let ones = Tensor::ones((3, 9), DType::F32, CPU)?;
    Ok(Subject::inference([ids, ones], move |[ids, mask]: &[Tensor; 2]| {
        let hidden = mask.to_dtype(DTYPE)?.affine(-HIDDEN, HIDDEN)?.unsqueeze(1)?.unsqueeze(1)?;
        let mut x = tokens.forward(ids)?;
        for (i, layer) in layers.iter().enumerate() {
            x = layer.forward(&x, |heads, [query, key, value]| {
                heads.attend(&[turned(&query, 0)?, turned(&key, 0)?, value], |scores| {
                    match first_alone && i > 0 {
                        true => softmax(scores),
                        false => softmax(&scores.broadcast_add(&hidden)?),
                    }
                })
            })?;
        }
        Ok(x)
    }))
}

/// The token after the last.
fn without_positions(seed: Seed, masks: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB, WIDTH, vb.pp("tokens"))?;
    let layers = layers(2, &vb)?;
    let ids = seed.tokens("x", VOCAB, (4, 8), CPU)?;
    Ok(Subject::inference(ids, move |ids: &Tensor| {
        let later = later(ids.dim(1)?, DType::F32, masks)?;
        let mut x = tokens.forward(ids)?;
        for layer in &layers {
            x = layer.forward(&x, |heads, parts| {
                heads.attend(&parts, |scores| softmax(&scores.broadcast_add(&later)?))
            })?;
        }
        x.mean(1)?.broadcast_matmul(&tokens.embeddings().t()?)
    }))
}

/// Sequences with their masks.
fn masked_mean(seed: Seed, over_all: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB, WIDTH, vb.pp("tokens"))?;
    let model = Mlp::new(&[WIDTH, WIDTH, 5], Tensor::gelu, vb.pp("model"))?;
    let ids = seed.tokens("x", VOCAB, (7, 6), CPU)?;
    let real = mask((7, 6), DType::F32, 1.0, |row, t| t < 2 + row % 5)?;
    Ok(Subject::inference([ids, real], move |[ids, real]: &[Tensor; 2]| {
        let sum = tokens.forward(ids)?.broadcast_mul(&real.unsqueeze(2)?)?.sum(1)?;
        let count = match over_all {
            true => (real.sum_all()?.reshape((1, 1))? / ids.dim(0)? as f64)?,
            false => real.sum_keepdim(1)?,
        };
        model.forward(&sum.broadcast_div(&count)?)
    }))
}

/// Each row goes to the two experts of five that score highest, each expert runs on its rows.
fn experts(seed: Seed, dim: usize) -> Result<Subject> {
    const EXPERTS: usize = 5;
    let (_, vb) = weights(seed, DType::F32);
    let router = linear(WIDTH, EXPERTS, vb.pp("router"))?;
    let expert =
        |i| Mlp::new(&[WIDTH, 2 * WIDTH, WIDTH], Tensor::silu, vb.pp(format!("expert{i}")));
    let experts = (0..EXPERTS).map(expert).collect::<candle_core::Result<Vec<_>>>()?;
    let x = seed.normal("x", (17, WIDTH), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let scores = router.forward(x)?;
        let chosen = scores.arg_sort_last_dim(false)?.narrow(1, 0, 2)?.contiguous()?;
        let shares = ops::softmax(&scores.gather(&chosen, 1)?, dim)?;
        let chosen = chosen.to_vec2::<u32>()?;
        let mut sum = x.clone();
        for (e, expert) in experts.iter().enumerate() {
            for slot in 0..2 {
                let rows =
                    (0..chosen.len() as u32).filter(|r| chosen[*r as usize][slot] == e as u32);
                let rows: Vec<u32> = rows.collect();
                if rows.is_empty() {
                    continue;
                }
                let rows = Tensor::new(rows, CPU)?;
                let share = shares.narrow(1, slot, 1)?.contiguous()?.index_select(&rows, 0)?;
                let part = expert.forward(&x.index_select(&rows, 0)?)?.broadcast_mul(&share)?;
                sum = sum.index_add(&rows, &part, 0)?;
            }
        }
        Ok(sum)
    }))
}

/// Attention, then each token to one of four experts, which run on the tokens sent to them.
fn routed_tokens(seed: Seed, by_sequence: bool) -> Result<Subject> {
    const EXPERTS: usize = 4;
    let (_, vb) = weights(seed, DType::F32);
    let attention = Heads::new(WIDTH, 4, vb.pp("attention"))?;
    let router = linear(WIDTH, EXPERTS, vb.pp("router"))?;
    let expert =
        |i| Mlp::new(&[WIDTH, 2 * WIDTH, WIDTH], Tensor::silu, vb.pp(format!("expert{i}")));
    let experts = (0..EXPERTS).map(expert).collect::<candle_core::Result<Vec<_>>>()?;
    let x = seed.normal("x", (2, 11, WIDTH), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let later = later(x.dim(1)?, DType::F32, true)?;
        let x = (x + attention.forward(x, x, |s| softmax(&s.broadcast_add(&later)?))?)?;
        let scores = match by_sequence {
            true => router.forward(&x.mean_keepdim(1)?.broadcast_as(x.shape())?.contiguous()?)?,
            false => router.forward(&x)?,
        };
        let gates = softmax(&scores)?.flatten_to(1)?;
        let chosen = gates.argmax(1)?.to_vec1::<u32>()?;
        let tokens = x.flatten_to(1)?;
        let mut sum = tokens.clone();
        for (e, expert) in experts.iter().enumerate() {
            let sent = (0..chosen.len() as u32).filter(|t| chosen[*t as usize] == e as u32);
            let sent: Vec<u32> = sent.collect();
            if sent.is_empty() {
                continue;
            }
            let sent = Tensor::new(sent, CPU)?;
            let gate = gates.narrow(1, e, 1)?.contiguous()?.index_select(&sent, 0)?;
            let part = expert.forward(&tokens.index_select(&sent, 0)?)?.broadcast_mul(&gate)?;
            sum = sum.index_add(&sent, &part, 0)?;
        }
        sum.reshape(x.shape())
    }))
}

/// In bf16, against the same in f32.
fn pooled(seed: Seed, in_bf16: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(4, 8, vb.pp("first"))?, linear(8, 3, vb.pp("head"))?);
    let half = |layer: &Linear| -> candle_core::Result<Linear> {
        let bias = layer.bias().map(|bias| bias.to_dtype(DType::BF16)).transpose()?;
        Ok(Linear::new(layer.weight().to_dtype(DType::BF16)?, bias))
    };
    let (first_half, head_half) = (half(&first)?, half(&head)?);
    let x = seed.normal("x", (3, 4096, 4), DType::F32, CPU)?;
    let subject = Subject::inference(x, move |x: &Tensor| {
        let x = first_half.forward(&x.to_dtype(DType::BF16)?)?.relu()?;
        let mean = match in_bf16 {
            true => x.mean(1)?,
            false => x.to_dtype(DType::F32)?.mean(1)?.to_dtype(DType::BF16)?,
        };
        head_half.forward(&mean)
    });
    Ok(subject.beside(Beside::Other(Box::new(move |x| {
        head.forward(&first.forward(x)?.relu()?.mean(1)?)
    }))))
}

/// A tensor for each name.
fn summed(seed: Seed, hashed: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let layer = |i: usize| Ok((format!("part{i}"), linear(6, 16, vb.pp(format!("part{i}")))?));
    let layers = (0..12).map(layer).collect::<candle_core::Result<BTreeMap<_, _>>>()?;
    let x = seed.normal("x", (9, 6), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let parts = layers.iter().map(|(name, layer)| Ok((name, layer.forward(x)?.tanh()?)));
        let parts = parts.collect::<candle_core::Result<Vec<_>>>()?;
        let parts: Vec<Tensor> = match hashed {
            true => parts.into_iter().collect::<HashMap<_, _>>().into_values().collect(),
            false => parts.into_iter().map(|(_, part)| part).collect(),
        };
        parts[1..].iter().try_fold(parts[0].clone(), |sum, part| sum + part)
    }))
}
