//! Later positions that come through without a mask to blame, and windows: group J.

use candle_core::{DType, Module, Tensor};
use candle_nn::{Conv1dConfig, conv1d, group_norm, linear, loss};
use candling::{Cause, Learner, Result, Seed};

use super::{
    masks::{Hides, causal},
    models::{Heads, mask, softmax},
};
use crate::corpus::{
    data::{CPU, VOCAB, weights},
    entry::{Assertion::Property, Entry, Subject},
    models::{Mlp, Norm, Recurrent},
    property::{
        Beside,
        Property::{Causal, Dependence, StrictlyCausal},
    },
};

const GROUP: &str = "dependence";

pub(super) const ENTRIES: &[Entry] = &[
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
];

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
    // No feature is predicted from the last one.
    Ok(Subject::inference(x, move |x: &Tensor| {
        let layer = |layer: &candle_nn::Linear, mask: &Tensor| -> candle_core::Result<_> {
            Ok(candle_nn::Linear::new((layer.weight() * mask)?, layer.bias().cloned()))
        };
        layer(&output, &second)?.forward(&layer(&hidden, &first)?.forward(x)?.tanh()?)
    })
    .allow(Cause::InputIgnored))
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
