//! A small transformer that reads a digit line by line: the ink of each line is a token.

use std::cell::RefCell;

use candle_nn::{Embedding, Linear, VarBuilder, embedding, linear, ops};
use candling::prelude::*;

use super::super::digits::Digits;

const WIDTH: usize = 16;

/// Token ids u32 `[rows, 8]`, below [`INKS`]: a sixteenth of the sum of each line's 8 pixels of 0 to 16, doubled.
pub(crate) fn lines(digits: &Digits, rows: usize) -> candle_core::Result<Tensor> {
    let images = digits.images.narrow(0, 0, rows)?.squeeze(1)?;
    (images.sum(2)? * 2.0)?.to_dtype(DType::U32)
}

pub(crate) const INKS: usize = 17;

/// Embeddings of ink and place, one head of causal attention, and logits at every line.
pub(crate) struct Reader {
    inks: Embedding,
    places: Embedding,
    query: Linear,
    key: Linear,
    value: Linear,
    head: Linear,
    /// Keys and values of the lines before.
    cache: RefCell<Option<(Tensor, Tensor)>>,
}

impl Reader {
    pub(crate) fn new(vb: VarBuilder<'_>) -> candle_core::Result<Self> {
        let square = |name: &str| linear(WIDTH, WIDTH, vb.pp(name));
        Ok(Self {
            inks: embedding(INKS, WIDTH, vb.pp("inks"))?,
            places: embedding(32, WIDTH, vb.pp("places"))?,
            query: square("query")?,
            key: square("key")?,
            value: square("value")?,
            head: linear(WIDTH, 10, vb.pp("head"))?,
            cache: RefCell::new(None),
        })
    }

    pub(crate) fn fresh() -> candle_core::Result<Self> {
        let (_, vb) = Seed::from_env_or(42).var_builder(DType::F32, &Device::Cpu);
        Self::new(vb)
    }

    /// The lines at places from `offset` on, `[batch, lines, width]`.
    pub(crate) fn embed(&self, ids: &Tensor, offset: usize) -> candle_core::Result<Tensor> {
        let places = Tensor::arange(offset as u32, (offset + ids.dim(1)?) as u32, ids.device())?;
        self.inks.forward(ids)?.broadcast_add(&self.places.forward(&places)?)
    }

    /// Attention of `x` to `keys` and `values`, where `hides(query, key)` says what is not seen.
    fn attend(
        &self,
        x: &Tensor,
        (keys, values): (&Tensor, &Tensor),
        hides: impl Fn(usize, usize) -> bool,
    ) -> candle_core::Result<Tensor> {
        let (queries, all) = (x.dim(1)?, keys.dim(1)?);
        let hidden = (0..queries * all).map(|i| hides(i / all, i % all));
        let mask: Vec<f32> = hidden.map(|h| if h { f32::NEG_INFINITY } else { 0.0 }).collect();
        let mask = Tensor::from_vec(mask, (queries, all), x.device())?;
        let scores = (self.query.forward(x)?.matmul(&keys.t()?.contiguous()?)? * 0.25)?;
        let seen = ops::softmax(&scores.broadcast_add(&mask)?, 2)?.matmul(values)?;
        self.head.forward(&(x + seen)?)
    }

    /// Logits `[batch, lines, 10]` of a pass without a cache, where `hides(line, other)` says what a line does not see.
    pub(crate) fn reading(
        &self,
        ids: &Tensor,
        hides: impl Fn(usize, usize) -> bool,
    ) -> candle_core::Result<Tensor> {
        let x = self.embed(ids, 0)?;
        let (keys, values) = (self.key.forward(&x)?, self.value.forward(&x)?);
        self.attend(&x, (&keys, &values), hides)
    }

    pub(crate) fn forward(&self, ids: &Tensor) -> candle_core::Result<Tensor> {
        self.reading(ids, |line, other| other > line)
    }

    /// Some lines behind `offset` others, which the cache holds; their places count from `place`.
    pub(crate) fn step_at(
        &self,
        ids: &Tensor,
        offset: usize,
        place: usize,
    ) -> candle_core::Result<Tensor> {
        let x = self.embed(ids, place)?;
        let (mut keys, mut values) = (self.key.forward(&x)?, self.value.forward(&x)?);
        let cached = self.cache.borrow_mut().take().filter(|_| offset > 0);
        if let Some((old_keys, old_values)) = cached {
            keys = Tensor::cat(&[&old_keys, &keys], 1)?;
            values = Tensor::cat(&[&old_values, &values], 1)?;
        }
        *self.cache.borrow_mut() = Some((keys.clone(), values.clone()));
        self.attend(&x, (&keys, &values), |query, key| key > query + offset)
    }

    /// The mean over lines, with their places or without: a bag of lines.
    pub(crate) fn bag(&self, ids: &Tensor, with_places: bool) -> candle_core::Result<Tensor> {
        let x = match with_places {
            true => self.embed(ids, 0)?,
            false => self.inks.forward(ids)?,
        };
        self.head.forward(&x.relu()?.mean(1)?)
    }

    /// The mean over the lines that count, `[batch, 10]`.
    pub(crate) fn classify(&self, ids: &Tensor, mask: &Tensor) -> candle_core::Result<Tensor> {
        let counted = self.forward(ids)?.broadcast_mul(&mask.unsqueeze(2)?)?.sum(1)?;
        counted.broadcast_div(&mask.sum_keepdim(1)?)
    }
}
