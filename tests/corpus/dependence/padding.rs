//! Padding that changes what is real: group J. Models take ids or vectors, and a mask of 1 for what is real.

use candle_core::{D, DType, Module, Tensor};
use candle_nn::{
    Conv1dConfig, Embedding, GRUConfig, RNN, conv1d, embedding, gru, linear, loss, ops,
    rnn::GRUState,
};
use candling::{Cause, Learner, Result, Seed};

use super::models::{Decoder, HIDDEN, Heads, fused_norm, mask as mask_of, sinusoids, softmax};
use crate::corpus::{
    data::{self, CPU, ROWS, VOCAB, weights},
    entry::{Assertion::Property, Entry, Subject},
    models::{Mlp, Norm},
    property::Property::{LeftPaddingInvariant, PaddingInvariant},
};

const GROUP: &str = "dependence";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "J7",
        group: GROUP,
        bug: "attention without the padding's mask",
        cause: Cause::PaddingLeak,
        assertion: Property(PaddingInvariant),
        buggy: |seed| encoder(seed, |_, _| false),
        clean: |seed| encoder(seed, |_, _| true),
        missed_today: None,
    },
    Entry {
        id: "J7b",
        group: GROUP,
        bug: "a recurrent classifier reads the state after the padding",
        cause: Cause::PaddingLeak,
        assertion: Property(PaddingInvariant),
        buggy: |seed| recurrent(seed, true),
        clean: |seed| recurrent(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J7c",
        group: GROUP,
        bug: "the mask is applied before the first convolution and not before the second",
        cause: Cause::PaddingLeak,
        assertion: Property(PaddingInvariant),
        buggy: |seed| convolutions(seed, true),
        clean: |seed| convolutions(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J7d",
        group: GROUP,
        bug: "positions count the padding on the left",
        cause: Cause::PaddingLeak,
        assertion: Property(LeftPaddingInvariant),
        buggy: |seed| left_padded(seed, true),
        clean: |seed| left_padded(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J7e",
        group: GROUP,
        bug: "the mask multiplies the scores: those of padding are zero, and a score of zero counts",
        cause: Cause::PaddingLeak,
        assertion: Property(PaddingInvariant),
        buggy: |seed| multiplied(seed, true),
        clean: |seed| multiplied(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J19",
        group: GROUP,
        bug: "cross-attention without the memory's mask",
        cause: Cause::PaddingLeak,
        assertion: Property(PaddingInvariant),
        buggy: |seed| memory(seed, true),
        clean: |seed| memory(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J23",
        group: GROUP,
        bug: "the mean over a sequence counts its padding",
        cause: Cause::PaddingLeak,
        assertion: Property(PaddingInvariant),
        buggy: |seed| bag(seed, true),
        clean: |seed| bag(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J23b",
        group: GROUP,
        bug: "padding is set to zero before a maximum, and zero is more than what is real",
        cause: Cause::PaddingLeak,
        assertion: Property(PaddingInvariant),
        buggy: |seed| maximum(seed, true),
        clean: |seed| maximum(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J23c",
        group: GROUP,
        bug: "the mean divides by the length of the batch: the sum is masked, the count is not",
        cause: Cause::PaddingLeak,
        assertion: Property(PaddingInvariant),
        buggy: |seed| counted(seed, true),
        clean: |seed| counted(seed, false),
        missed_today: None,
    },
    Entry {
        id: "J27",
        group: GROUP,
        bug: "a shortcut for a batch of one leaves the mask out",
        cause: Cause::PaddingLeak,
        assertion: Property(PaddingInvariant),
        buggy: |seed| encoder(seed, |rows, _| rows > 1),
        clean: |seed| encoder(seed, |_, _| true),
        missed_today: None,
    },
];

/// Scores `[batch, heads, queries, keys]` without those of padding.
fn hide(scores: &Tensor, mask: &Tensor) -> candle_core::Result<Tensor> {
    let hidden = mask.to_dtype(scores.dtype())?.affine(-HIDDEN, HIDDEN)?;
    scores.broadcast_add(&hidden.unsqueeze(1)?.unsqueeze(1)?)
}

/// The mean over what is real. `[batch, time, width]`.
fn mean(x: &Tensor, mask: &Tensor) -> candle_core::Result<Tensor> {
    let mask = mask.to_dtype(x.dtype())?;
    x.broadcast_mul(&mask.unsqueeze(2)?)?.sum(1)?.broadcast_div(&mask.sum_keepdim(1)?)
}

/// A batch without padding.
fn real(x: &Tensor) -> candle_core::Result<[Tensor; 2]> {
    Ok([x.clone(), Tensor::ones((x.dim(0)?, x.dim(1)?), DType::F32, CPU)?])
}

/// A tag for each token; the norms are candle's fused ones.
fn encoder(seed: Seed, masks: fn(usize, usize) -> bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB, 8, vb.pp("tokens"))?;
    let attention = Heads::new(8, 2, vb.pp("attention"))?;
    let norm = fused_norm(8, vb.pp("norm"))?;
    let head = linear(8, 5, vb.pp("head"))?;
    let ids = seed.tokens("x", VOCAB, (4, 6), CPU)?;
    Ok(Subject::inference(real(&ids)?, move |[ids, mask]: &[Tensor; 2]| {
        let (rows, time) = ids.dims2()?;
        let x = tokens.forward(ids)?.broadcast_add(&sinusoids(time, 8, DType::F32)?)?;
        let weigh = |scores: &Tensor| match masks(rows, time) {
            true => ops::softmax_last_dim(&hide(scores, mask)?),
            false => ops::softmax_last_dim(scores),
        };
        head.forward(&norm.forward(&(&x + attention.forward(&x, &x, weigh)?)?)?)
    }))
}

/// A GRU whose state stays as it is where there is padding.
fn recurrent(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F64);
    let cell = gru(4, 6, GRUConfig::default(), vb.pp("gru"))?;
    let head = linear(6, 3, vb.pp("head"))?;
    let x = seed.normal("x", (3, 5, 4), DType::F64, CPU)?;
    Ok(Subject::inference(real(&x)?, move |[x, mask]: &[Tensor; 2]| {
        let (rows, time, _) = x.dims3()?;
        let mask = mask.to_dtype(DType::F64)?;
        let mut h = cell.zero_state(rows)?.h;
        for t in 0..time {
            let input = x.narrow(1, t, 1)?.squeeze(1)?.contiguous()?;
            let next = cell.step(&input, &GRUState { h: h.clone() })?.h;
            let real = mask.narrow(1, t, 1)?;
            h = match buggy {
                true => next,
                false => {
                    (next.broadcast_mul(&real)? + h.broadcast_mul(&real.affine(-1.0, 1.0)?)?)?
                }
            };
        }
        head.forward(&h)
    }))
}

fn convolutions(seed: Seed, first_alone: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let config = Conv1dConfig { padding: 1, ..Conv1dConfig::default() };
    let layers = [conv1d(5, 5, 3, config, vb.pp("c0"))?, conv1d(5, 5, 3, config, vb.pp("c1"))?];
    let norm = Norm::new(5, vb.pp("norm"))?;
    let x = seed.normal("x", (3, 7, 5), DType::F32, CPU)?;
    Ok(Subject::inference(real(&x)?, move |[x, mask]: &[Tensor; 2]| {
        let mask = mask.to_dtype(DType::F32)?.unsqueeze(1)?;
        let mut x = x.transpose(1, 2)?.contiguous()?;
        for (i, layer) in layers.iter().enumerate() {
            if i == 0 || !first_alone {
                x = x.broadcast_mul(&mask)?;
            }
            x = layer.forward(&x)?.gelu()?;
        }
        norm.forward(&x.transpose(1, 2)?.contiguous()?)
    }))
}

/// The next token, from the last position: padding stands on the left.
fn left_padded(seed: Seed, counts_padding: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let model = Decoder::new(vb)?;
    let ids = seed.tokens("x", VOCAB, (3, 6), CPU)?;
    Ok(Subject::inference(real(&ids)?, move |[ids, mask]: &[Tensor; 2]| {
        let (rows, time) = ids.dims2()?;
        let mask = mask.to_dtype(DType::F32)?;
        let positions = match counts_padding {
            true => {
                Tensor::arange(0, time as u32, CPU)?.broadcast_as((rows, time))?.contiguous()?
            }
            false => (mask.cumsum(1)? - 1.0)?.relu()?.to_dtype(DType::U32)?,
        };
        let x = model.embed(ids, &positions)?;
        let later = mask_of((time, time), DType::F32, HIDDEN, |q, k| k > q)?;
        let logits = model.block(&x, |attention, x| {
            attention.forward(x, x, |s| softmax(&hide(&s.broadcast_add(&later)?, &mask)?))
        })?;
        logits.narrow(1, time - 1, 1)?.squeeze(1)
    }))
}

/// Two learned queries read a memory of any length.
fn memory(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::BF16);
    let attention = Heads::new(8, 2, vb.pp("attention"))?;
    let queries = seed.normal("queries", (1, 2, 8), DType::BF16, CPU)?;
    let x = seed.normal("x", (4, 5, 8), DType::BF16, CPU)?;
    Ok(Subject::inference(real(&x)?, move |[x, mask]: &[Tensor; 2]| {
        let queries = queries.repeat((x.dim(0)?, 1, 1))?;
        let read = attention.forward(&queries, x, |scores| match buggy {
            true => softmax(scores),
            false => softmax(&hide(scores, mask)?),
        })?;
        read.flatten_from(1)
    }))
}

/// A bag of words.
fn bag(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let tokens: Embedding = embedding(VOCAB, 16, vb.pp("tokens"))?;
    let model = Mlp::new(&[16, 32, 4], Tensor::relu, vb.pp("model"))?;
    let (ids, y) = data::sequences(seed)?;
    let forward = move |[ids, mask]: &[Tensor; 2]| {
        let x = tokens.forward(ids)?;
        model.forward(&if buggy { x.mean(1)? } else { mean(&x, mask)? })
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (real(&ids)?, y)))
}

/// What is real is negative in one feature or another of each row.
fn maximum(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let (first, head) = (linear(3, 24, vb.pp("first"))?, linear(24, 1, vb.pp("head"))?);
    let x = seed.normal("x", (ROWS, 4, 3), DType::F64, CPU)?;
    let y = seed.normal("y", (ROWS, 1), DType::F64, CPU)?;
    let forward = move |[x, mask]: &[Tensor; 2]| {
        let x = first.forward(x)?.tanh()?;
        let mask = mask.to_dtype(x.dtype())?.unsqueeze(2)?;
        let masked = match buggy {
            true => x.broadcast_mul(&mask)?,
            false => x.broadcast_add(&mask.affine(-HIDDEN, HIDDEN)?)?,
        };
        head.forward(&masked.max(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(learner, (real(&x)?, y)))
}

/// Attention, then the mean over what is real: a vector for each sequence.
fn counted(seed: Seed, by_batch: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB, 8, vb.pp("tokens"))?;
    let attention = Heads::new(8, 4, vb.pp("attention"))?;
    let head = linear(8, 6, vb.pp("head"))?;
    let ids = seed.tokens("x", VOCAB, (5, 7), CPU)?;
    Ok(Subject::inference(real(&ids)?, move |[ids, mask]: &[Tensor; 2]| {
        let x = tokens.forward(ids)?;
        let x = (&x + attention.forward(&x, &x, |scores| softmax(&hide(scores, mask)?))?)?;
        let mask = mask.to_dtype(DType::F32)?;
        let sum = x.broadcast_mul(&mask.unsqueeze(2)?)?.sum(1)?;
        let vector = match by_batch {
            true => (sum / ids.dim(1)? as f64)?,
            false => sum.broadcast_div(&mask.sum_keepdim(D::Minus1)?)?,
        };
        head.forward(&vector)
    }))
}

/// Vectors, and a vector for each row by the first position: a classifier's token.
fn multiplied(seed: Seed, buggy: bool) -> Result<Subject> {
    let (_, vb) = weights(seed, DType::F64);
    let attention = Heads::new(6, 2, vb.pp("attention"))?;
    let norm = Norm::new(6, vb.pp("norm"))?;
    let head = linear(6, 3, vb.pp("head"))?;
    let x = seed.normal("x", (2, 6, 6), DType::F64, CPU)?;
    Ok(Subject::inference(real(&x)?, move |[x, mask]: &[Tensor; 2]| {
        let keys = mask.to_dtype(DType::F64)?.unsqueeze(1)?.unsqueeze(1)?;
        let normed = norm.forward(x)?;
        let attended = attention.forward(&normed, &normed, |scores| match buggy {
            true => softmax(&scores.broadcast_mul(&keys)?),
            false => softmax(&hide(scores, mask)?),
        })?;
        head.forward(&(x + attended)?.narrow(1, 0, 1)?.squeeze(1)?)
    }))
}
