//! Tiny random models of candle-transformers: networks that no one wrote for the sake of this crate.
//!
//! Tests and the findings example share this module, so it depends on nothing else in `tests/`. Every model has two
//! layers of width 16 and its variables from a seed. Many models change themselves when they run (KV caches): each
//! closure here clears them first, so that it is a pure function of its input and the variables.

pub(crate) mod assertions;
mod build;
#[cfg(test)]
mod checks;
mod decoder;
mod decoders;
mod encoders;
pub(crate) mod gradients;
mod seq2seq;
pub(crate) mod slope;
mod vision;

use candle_core::{DType, Result, Tensor};
use candling::{Batch, Learner, Seed};

/// What a model maps to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Token ids to the logits of the token after the last, each position seeing those before it only.
    Decoder,
    /// Token ids to an output for every position, each seeing all others.
    Encoder,
    /// Two inputs: a source that is seen whole, and the target's tokens, each seeing those before it only.
    EncoderDecoder,
    /// An image to the logits of its class.
    Vision,
}

impl Kind {
    /// Whether an output at one position must not depend on later tokens.
    pub(crate) fn is_causal(self) -> bool {
        matches!(self, Self::Decoder | Self::EncoderDecoder)
    }

    /// Whether the (first) input is token ids.
    pub(crate) fn takes_ids(self) -> bool {
        matches!(self, Self::Decoder | Self::Encoder)
    }
}

/// Ids `[batch, time]` to what the model makes of them at every position, `[batch, time, _]`.
pub(crate) type Positions = Box<dyn FnMut(&Tensor) -> Result<Tensor>>;

/// The next ids `[batch, time]` and the number of tokens already seen, to the logits `[batch, vocabulary]` after the
/// last. An offset of 0 starts a new sequence.
pub(crate) type Step = Box<dyn FnMut(&Tensor, usize) -> Result<Tensor>>;

/// Ids `[batch, time]` and a mask of the same dims, 1 for a real token, to an output for every position.
type Padded = Box<dyn FnMut(&Tensor, &Tensor) -> Result<Tensor>>;

/// One token of each row, `[batch]`, to an output for every row.
type Rows = Box<dyn FnMut(&Tensor) -> Result<Tensor>>;

/// One model, and how to make it.
#[derive(Clone, Copy)]
pub(crate) struct Model {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// See [`Model::learner`]; variables and floats are of this dtype.
    build: fn(Seed, DType) -> candling::Result<(Learner<'static>, Batch)>,
    /// The same variables as a cached step, where the model has a cache.
    pub(crate) step: Option<fn(Seed) -> candling::Result<Step>>,
    /// The cached step with an attention window of two tokens, where the model knows such a window.
    pub(crate) narrow_step: Option<fn(Seed) -> candling::Result<Step>>,
    /// The same variables with an output for every position, where the model shows one and the learner does not.
    pub(crate) positions: Option<fn(Seed) -> candling::Result<Positions>>,
    /// The same variables with a mask of the real tokens, where the model takes one.
    padded: Option<fn(Seed) -> candling::Result<Padded>>,
    /// The model's own pass over many rows, where the learner runs them one by one.
    rows: Option<fn(Seed) -> candling::Result<Rows>>,
    /// The operations in the model's source that have no backward pass.
    pub(crate) cuts: &'static [&'static str],
}

impl Model {
    /// A learner with a batch of two rows and a loss of the model's usual kind. `Learner::forward` runs it on other
    /// inputs of the same shape but for the number of rows and tokens.
    pub(crate) fn learner(&self, seed: Seed) -> candling::Result<(Learner<'static>, Batch)> {
        (self.build)(seed, DType::F32)
    }
}

/// The version of candle-transformers whose sources `Model::cuts` was read from; a test compares it with Cargo.lock.
pub(crate) const READ_FROM: &str = "0.11.1";

/// Every model, decoders first.
pub(crate) fn models() -> Vec<Model> {
    [decoders::MODELS, encoders::MODELS, seq2seq::MODELS, vision::MODELS].concat()
}

/// The token ids that every model of token ids is given.
pub(crate) fn tokens(seed: Seed) -> Result<Tensor> {
    build::tokens(seed, "ids")
}
