//! Later positions that come through a mask: groups J and B.

use candle_core::{DType, Module, Tensor};
use candle_nn::{linear, ops, rotary_emb};
use candling::{Cause, Learner, Result, Seed};

use super::models::{
    Decoder, HIDDEN, Heads, fused_norm, mask, places, scores, sinusoids, softmax, token_loss,
};
use crate::corpus::{
    data::{self, CPU, TIME, VOCAB, weights},
    entry::{Assertion::Property, Entry, Subject},
    models::{Mlp, Norm, Residual},
    property::Property::Causal,
};

const GROUP: &str = "dependence";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "B8",
        group: GROUP,
        bug: "heads are split by a reshape alone: a head's positions hold other positions",
        cause: Cause::FutureLeak,
        assertion: Property(Causal),
        buggy: |seed| split_heads(seed, true),
        clean: |seed| split_heads(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J1",
        group: GROUP,
        bug: "a decoder without a causal mask",
        cause: Cause::FutureLeak,
        assertion: Property(Causal),
        buggy: |seed| untied(seed, |_, _| false),
        clean: |seed| untied(seed, |query, key| key > query),
        missed_today: None,
    },
    Entry {
        id: "J1b",
        group: GROUP,
        bug: "the masked scores are dropped: `let _ = scores.broadcast_add(&mask)`",
        cause: Cause::FutureLeak,
        assertion: Property(Causal),
        buggy: |seed| fused(seed, true),
        clean: |seed| fused(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J1c",
        group: GROUP,
        bug: "the mask's diagonal is one off: each position sees the next",
        cause: Cause::FutureLeak,
        assertion: Property(Causal),
        buggy: |seed| tied(seed, |query, key| key > query + 1),
        clean: |seed| tied(seed, |query, key| key > query),
        missed_today: None,
    },
    Entry {
        id: "J1h",
        group: GROUP,
        bug: "the mask is of blocks of four: positions see all of their block",
        cause: Cause::FutureLeak,
        assertion: Property(Causal),
        buggy: |seed| rotary(seed, |query, key| key / 4 > query / 4),
        clean: |seed| rotary(seed, |query, key| key > query),
        missed_today: None,
    },
    Entry {
        id: "J1i",
        group: GROUP,
        bug: "the mask is of eight positions, and what is longer is not masked",
        cause: Cause::FutureLeak,
        assertion: Property(Causal),
        buggy: |seed| long(seed, |query, key| key > query && query < 8),
        clean: |seed| long(seed, |query, key| key > query),
        missed_today: None,
    },
    Entry {
        id: "J3",
        group: GROUP,
        bug: "the mask is inverted: what should be hidden is seen, and the other way round",
        cause: Cause::FutureLeak,
        assertion: Property(Causal),
        buggy: |seed| rotary(seed, |query, key| key <= query),
        clean: |seed| rotary(seed, |query, key| key > query),
        missed_today: None,
    },
    Entry {
        id: "J3b",
        group: GROUP,
        bug: "the mask is transposed",
        cause: Cause::FutureLeak,
        assertion: Property(Causal),
        buggy: |seed| half_precision(seed, |query, key| key < query),
        clean: |seed| half_precision(seed, |query, key| key > query),
        missed_today: None,
    },
    Entry {
        id: "J4",
        group: GROUP,
        bug: "the mask multiplies the weights after the softmax, whose sum still holds later positions",
        cause: Cause::FutureLeak,
        assertion: Property(Causal),
        buggy: |seed| masked_weights(seed, true),
        clean: |seed| masked_weights(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J5",
        group: GROUP,
        bug: "a mask of -10 for one of minus infinity",
        cause: Cause::FutureLeak,
        assertion: Property(Causal),
        buggy: |seed| mask_value(seed, -10.0),
        clean: |seed| mask_value(seed, f64::NEG_INFINITY),
        missed_today: None,
    },
    Entry {
        id: "J5b",
        group: GROUP,
        bug: "a mask of -12, after which a norm takes the size of a leak off",
        cause: Cause::FutureLeak,
        assertion: Property(Causal),
        buggy: |seed| normed_leak(seed, -12.0),
        clean: |seed| normed_leak(seed, HIDDEN),
        missed_today: None,
    },
];

pub(super) type Hides = fn(usize, usize) -> bool;

/// What may be seen of a square of scores.
pub(super) fn causal(scores: &Tensor, value: f64, hides: Hides) -> candle_core::Result<Tensor> {
    let time = scores.dim(candle_core::D::Minus1)?;
    scores.broadcast_add(&mask((time, time), scores.dtype(), value, hides)?)
}

fn split_heads(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let model = Decoder::new(vb)?;
    let ids = seed.tokens("x", VOCAB, (4, 6), CPU)?;
    Ok(Subject::inference(ids, move |ids: &Tensor| {
        let x = model.embed(ids, &places(0, ids.dim(1)?)?)?;
        model.block(&x, |attention, x| {
            let (batch, time, width) = x.dims3()?;
            let heads = attention.heads;
            let split = |x: &Tensor| match buggy {
                true => x.reshape((batch, heads, time, width / heads)),
                false => attention.split(x),
            };
            let [query, key, value] = attention.project(x, x)?;
            attention.attend(&[split(&query)?, split(&key)?, split(&value)?], |scores| {
                softmax(&causal(scores, HIDDEN, |query, key| key > query)?)
            })
        })
    }))
}

fn untied(seed: Seed, hides: Hides) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    next_token(seed, vars, Decoder::new(vb)?, hides)
}

/// The head is the table of tokens.
fn tied(seed: Seed, hides: Hides) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    next_token(seed, vars, Decoder::tied(vb)?, hides)
}

fn next_token(
    seed: Seed,
    vars: candle_nn::VarMap,
    model: Decoder,
    hides: Hides,
) -> Result<Subject> {
    let forward =
        move |ids: &Tensor| model.forward(ids, |scores| softmax(&causal(scores, HIDDEN, hides)?));
    let chains = data::chains(seed)?;
    let next = |from| chains.narrow(0, 0, 6)?.narrow(1, from, TIME)?.contiguous();
    let learner = Learner::new(&vars, forward, token_loss);
    Ok(Subject::new(learner, (next(0)?, next(1)?)))
}

/// candle's fused norm and softmax, in the order "norm after".
fn fused(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let attention = Heads::new(8, 4, vb.pp("attention"))?;
    let norms = [fused_norm(8, vb.pp("norm1"))?, fused_norm(8, vb.pp("norm2"))?];
    let feed = Mlp::new(&[8, 16, 8], Tensor::silu, vb.pp("feed"))?;
    let x = seed.normal("x", (2, 9, 8), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let weigh = |scores: &Tensor| {
            let masked = causal(scores, HIDDEN, |query, key| key > query)?;
            ops::softmax_last_dim(if buggy { scores } else { &masked })
        };
        let x = norms[0].forward(&(x + attention.forward(x, x, weigh)?)?)?;
        norms[1].forward(&(&x + feed.forward(&x)?)?)
    }))
}

/// Rotary positions, and a norm by the root mean square.
fn rotary(seed: Seed, hides: Hides) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let attention = Heads::new(8, 2, vb.pp("attention"))?;
    let gain = Norm::new(8, vb.pp("norm"))?.weight;
    let x = seed.normal("x", (2, 6, 8), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let time = x.dim(1)?;
        let angles = sinusoids(time, 4, x.dtype())?.reshape((time, 2, 2))?;
        let table = |i| angles.narrow(2, i, 1)?.squeeze(2)?.contiguous();
        let (sin, cos) = (table(0)?, table(1)?);
        let turn = |x: &Tensor| rotary_emb::rope_i_slow(x, &cos, &sin);
        let normed = ops::rms_norm_slow(x, &gain, 1e-6)?;
        let [query, key, value] = attention.project(&normed, &normed)?;
        let [query, key, value] =
            [attention.split(&query)?, attention.split(&key)?, attention.split(&value)?];
        let attended = attention.attend(&[turn(&query)?, turn(&key)?, value], |s| {
            softmax(&causal(s, HIDDEN, hides)?)
        })?;
        x + attended
    }))
}

fn half_precision(seed: Seed, hides: Hides) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::BF16);
    let attention = Heads::new(8, 1, vb.pp("attention"))?;
    let block = Residual::new(8, vb.pp("block"))?;
    let x = seed.normal("x", (3, 5, 8), DType::BF16, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let x = (x + attention.forward(x, x, |s| softmax(&causal(s, HIDDEN, hides)?))?)?;
        block.forward(&x)
    }))
}

fn masked_weights(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let model = Decoder::new(vb)?;
    let ids = seed.tokens("x", VOCAB, (5, 7), CPU)?;
    Ok(Subject::inference(ids, move |ids: &Tensor| {
        let time = ids.dim(1)?;
        let seen = Tensor::tril2(time, DType::U8, CPU)?;
        model.forward(ids, |scores| {
            if buggy {
                return softmax(scores)?.broadcast_mul(&seen.to_dtype(scores.dtype())?);
            }
            let low = Tensor::full(f32::NEG_INFINITY, scores.shape(), CPU)?;
            softmax(&seen.broadcast_as(scores.shape())?.where_cond(scores, &low)?)
        })
    }))
}

fn mask_value(seed: Seed, value: f64) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F64);
    let [query, key] = [linear(5, 5, vb.pp("query"))?, linear(5, 5, vb.pp("key"))?];
    let out = Residual::new(5, vb.pp("out"))?;
    let x = seed.normal("x", (4, 6, 5), DType::F64, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let scores = scores(&query.forward(x)?, &key.forward(x)?)?;
        let weights = softmax(&causal(&scores, value, |query, key| key > query)?)?;
        out.forward(&(x + weights.matmul(x)?)?)
    }))
}

/// Seventeen positions.
fn long(seed: Seed, hides: Hides) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let model = Decoder::new(vb)?;
    let ids = seed.tokens("x", VOCAB, (2, 17), CPU)?;
    Ok(Subject::inference(ids, move |ids: &Tensor| {
        model.forward(ids, |scores| ops::softmax_last_dim(&causal(scores, HIDDEN, hides)?))
    }))
}

/// Classes of positions in f32, by a norm behind the attention.
fn normed_leak(seed: Seed, value: f64) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let attention = Heads::new(12, 3, vb.pp("attention"))?;
    let (norm, head) = (fused_norm(12, vb.pp("norm"))?, linear(12, 4, vb.pp("head"))?);
    let x = seed.normal("x", (2, 10, 12), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let weigh = |s: &Tensor| softmax(&causal(s, value, |query, key| key > query)?);
        softmax(&head.forward(&norm.forward(&(x + attention.forward(x, x, weigh)?)?)?)?)
    }))
}
