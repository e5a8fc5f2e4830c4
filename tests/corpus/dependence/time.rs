//! Later positions that come through: groups J and B.

use candle_core::{DType, Module, Tensor};
use candle_nn::{Conv1dConfig, conv1d, group_norm, linear, loss, ops, rotary_emb};
use candling::{Cause, Learner, Result, Seed};

use super::models::{
    Decoder, HIDDEN, Heads, fused_norm, mask, places, scores, sinusoids, softmax, token_loss,
};
use crate::corpus::{
    data::{self, CPU, TIME, VOCAB, weights},
    entry::{Assertion::Property, Entry, Subject},
    models::{Mlp, Norm, Recurrent, Residual},
    property::{
        Beside,
        Property::{Causal, Dependence, StrictlyCausal},
    },
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
        id: "J1d",
        group: GROUP,
        bug: "causal convolutions that pad on both sides",
        cause: Cause::FutureLeak,
        assertion: Property(Causal),
        buggy: |seed| convolutions(seed, true),
        clean: |seed| convolutions(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J1e",
        group: GROUP,
        bug: "a group norm over the time of a causal convolution",
        cause: Cause::FutureLeak,
        assertion: Property(Causal),
        buggy: |seed| norm_over_time(seed, true),
        clean: |seed| norm_over_time(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J1f",
        group: GROUP,
        bug: "the context of a position is the mean over all positions, not over those so far",
        cause: Cause::FutureLeak,
        assertion: Property(Causal),
        buggy: |seed| running_mean(seed, true),
        clean: |seed| running_mean(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J1g",
        group: GROUP,
        bug: "one recurrent layer too many: a second one, from the end, in a model that predicts the next token",
        cause: Cause::FutureLeak,
        assertion: Property(Causal),
        buggy: |seed| recurrent(seed, true),
        clean: |seed| recurrent(seed, false),
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
        id: "J3c",
        group: GROUP,
        bug: "`>=` for `>` in the masks of an autoregressive autoencoder: a feature predicts itself",
        cause: Cause::FutureLeak,
        assertion: Property(StrictlyCausal),
        buggy: |seed| masked_autoencoder(seed, |input, unit| unit >= input),
        clean: |seed| masked_autoencoder(seed, |input, unit| unit > input),
        missed_today: None,
    },
    Entry {
        id: "J3d",
        group: GROUP,
        bug: "a window of three positions that also sees one position ahead",
        cause: Cause::FutureLeak,
        assertion: Property(Dependence),
        buggy: |seed| window(seed, |query, key| key > query + 1 || key + 2 < query),
        clean: |seed| window(seed, |query, key| key > query || key + 2 < query),
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

type Hides = fn(usize, usize) -> bool;

/// What may be seen of a square of scores.
fn causal(scores: &Tensor, value: f64, hides: Hides) -> candle_core::Result<Tensor> {
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

/// Two causal convolutions with a residual, over `[batch, time, channels]`.
fn convolutions(seed: Seed, both_sides: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let config = Conv1dConfig { padding: usize::from(both_sides), ..Conv1dConfig::default() };
    let layers = [conv1d(4, 4, 3, config, vb.pp("c0"))?, conv1d(4, 4, 3, config, vb.pp("c1"))?];
    let x = seed.normal("x", (3, 8, 4), DType::F32, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let mut x = x.transpose(1, 2)?.contiguous()?;
        for layer in &layers {
            let padded = if both_sides { x.clone() } else { x.pad_with_zeros(2, 2, 0)? };
            x = (&x + layer.forward(&padded)?.gelu()?)?;
        }
        x.transpose(1, 2)?.contiguous()
    }))
}

fn norm_over_time(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F64);
    let config = Conv1dConfig { dilation: 2, ..Conv1dConfig::default() };
    let conv = conv1d(6, 6, 2, config, vb.pp("conv"))?;
    let norms = (group_norm(2, 6, 1e-5, vb.pp("group"))?, Norm::new(6, vb.pp("layer"))?);
    let head = linear(6, 3, vb.pp("head"))?;
    let x = seed.normal("x", (2, 7, 6), DType::F64, CPU)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let x = conv.forward(&x.transpose(1, 2)?.contiguous()?.pad_with_zeros(2, 2, 0)?)?;
        let turned = |x: &Tensor| x.transpose(1, 2)?.contiguous();
        let x =
            if buggy { turned(&norms.0.forward(&x)?)? } else { norms.1.forward(&turned(&x)?)? };
        head.forward(&x.relu()?)
    }))
}

fn running_mean(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let context = linear(4, 24, vb.pp("context"))?;
    let model = Mlp::new(&[28, 32, 1], Tensor::gelu, vb.pp("model"))?;
    let x = seed.normal("x", (4, 5, 4), DType::F64, CPU)?;
    let y = seed.normal("y", (4, 5, 1), DType::F64, CPU)?;
    let forward = move |x: &Tensor| {
        let time = x.dim(1)?;
        let values = context.forward(x)?.tanh()?;
        let mean = match buggy {
            true => values.mean_keepdim(1)?.broadcast_as(values.shape())?.contiguous()?,
            false => {
                let so_far = Tensor::arange(1u32, time as u32 + 1, CPU)?.to_dtype(x.dtype())?;
                values.cumsum(1)?.broadcast_div(&so_far.reshape((1, time, 1))?)?
            }
        };
        model.forward(&Tensor::cat(&[x, &mean], 2)?)
    };
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(learner, (x, y)))
}

/// A GRU; from the end, the same on the flipped sequence.
fn recurrent(seed: Seed, both_ways: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let (ahead, back) = (Recurrent::gru(VOCAB, vb.pp("a"))?, Recurrent::gru(VOCAB, vb.pp("b"))?);
    let ids = seed.tokens("x", VOCAB, (3, 6), CPU)?;
    Ok(Subject::inference(ids, move |ids: &Tensor| match both_ways {
        true => ahead.tag(ids)? + back.tag(&ids.flip(&[1])?.contiguous()?)?.flip(&[1])?,
        false => ahead.tag(ids),
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

/// One feature after another, each from those before it. Unit `i` of the hidden layer sees inputs before it, and
/// output `i` sees the units up to its own. `[rows, features]`, the features in the place of time.
fn masked_autoencoder(seed: Seed, connects: fn(usize, usize) -> bool) -> Result<Subject> {
    const FEATURES: usize = 5;
    let (_, vb) = weights(seed, DType::F32);
    let hidden = linear(FEATURES, 2 * FEATURES, vb.pp("hidden"))?;
    let output = linear(2 * FEATURES, FEATURES, vb.pp("output"))?;
    let x = seed.normal("x", (4, FEATURES), DType::F32, CPU)?;
    let first = mask((2 * FEATURES, FEATURES), DType::F32, 1.0, |unit, input| {
        connects(input, unit % FEATURES)
    })?;
    let second = mask((FEATURES, 2 * FEATURES), DType::F32, 1.0, |o, unit| unit % FEATURES <= o)?;
    Ok(Subject::inference(x, move |x: &Tensor| {
        let layer = |layer: &candle_nn::Linear, mask: &Tensor| -> candle_core::Result<_> {
            Ok(candle_nn::Linear::new((layer.weight() * mask)?, layer.bias().cloned()))
        };
        layer(&output, &second)?.forward(&layer(&hidden, &first)?.forward(x)?.tanh()?)
    }))
}

/// What a position may see is given to the assertion.
fn window(seed: Seed, hides: Hides) -> Result<Subject> {
    const TIME: usize = 7;
    let (_, vb) = weights(seed, DType::F32);
    let attention = Heads::new(6, 3, vb.pp("attention"))?;
    let norm = Norm::new(6, vb.pp("norm"))?;
    let x = seed.normal("x", (2, TIME, 6), DType::F32, CPU)?;
    let allowed =
        mask((TIME, TIME), DType::F32, 1.0, |query, key| key <= query && query <= key + 2)?;
    let subject = Subject::inference(x, move |x: &Tensor| {
        let normed = norm.forward(x)?;
        x + attention
            .forward(&normed, &normed, |s| softmax(&causal(s, f64::NEG_INFINITY, hides)?))?
    });
    Ok(subject.beside(Beside::Allowed(allowed.to_dtype(DType::U8)?)))
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
