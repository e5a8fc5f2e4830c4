//! Attention with several heads, and a transformer that takes sequences of any length.

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::{Embedding, Init, LayerNorm, Linear, VarBuilder, linear, loss, ops};

use crate::corpus::{
    data::{CPU, VOCAB},
    models::{Mlp, Norm},
};

/// `value` where `hides(query, key)`, else 0: added to scores. `[queries, keys]`.
pub(super) fn mask(
    (queries, keys): (usize, usize),
    dtype: DType,
    value: f64,
    hides: impl Fn(usize, usize) -> bool,
) -> Result<Tensor> {
    let cells = (0..queries * keys).map(|i| hides(i / keys, i % keys));
    let cells: Vec<f64> = cells.map(|hidden| if hidden { value } else { 0.0 }).collect();
    Tensor::from_vec(cells, (queries, keys), CPU)?.to_dtype(dtype)
}

/// Out of reach of any score, and finite: a row of which all is hidden is no NaN.
pub(super) const HIDDEN: f64 = -1e9;

/// Sines and cosines of positions, `[positions, width]`.
pub(super) fn sinusoids(positions: usize, width: usize, dtype: DType) -> Result<Tensor> {
    let value = |i: usize| {
        let (t, k) = ((i / width) as f64, i % width);
        let angle = t / 100f64.powf((k - k % 2) as f64 / width as f64);
        if k % 2 == 0 { angle.sin() } else { angle.cos() }
    };
    let values: Vec<f64> = (0..positions * width).map(value).collect();
    Tensor::from_vec(values, (positions, width), CPU)?.to_dtype(dtype)
}

/// Attention of several heads over `[batch, time, width]`.
pub(super) struct Heads {
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) out: Linear,
    pub(super) heads: usize,
}

impl Heads {
    pub(super) fn new(width: usize, heads: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let layer = |name: &str| linear(width, width, vb.pp(name));
        Ok(Self {
            query: layer("query")?,
            key: layer("key")?,
            value: layer("value")?,
            out: layer("out")?,
            heads,
        })
    }

    /// `[batch, time, width]` to `[batch, heads, time, width / heads]`.
    pub(super) fn split(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, time, width) = x.dims3()?;
        x.reshape((batch, time, self.heads, width / self.heads))?.transpose(1, 2)?.contiguous()
    }

    pub(super) fn merge(&self, x: &Tensor) -> Result<Tensor> {
        x.transpose(1, 2)?.contiguous()?.flatten_from(2)
    }

    /// Queries of one sequence, keys and values of another or the same.
    pub(super) fn project(&self, x: &Tensor, memory: &Tensor) -> Result<[Tensor; 3]> {
        Ok([self.query.forward(x)?, self.key.forward(memory)?, self.value.forward(memory)?])
    }

    /// `weigh` makes weights of scores `[batch, heads, queries, keys]`.
    pub(super) fn attend(
        &self,
        [query, key, value]: &[Tensor; 3],
        weigh: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let weights = weigh(&scores(query, key)?)?;
        self.out.forward(&self.merge(&weights.matmul(value)?)?)
    }

    pub(super) fn forward(
        &self,
        x: &Tensor,
        memory: &Tensor,
        weigh: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let [query, key, value] = self.project(x, memory)?;
        self.attend(&[self.split(&query)?, self.split(&key)?, self.split(&value)?], weigh)
    }
}

/// Scaled by the width of a head.
pub(super) fn scores(query: &Tensor, key: &Tensor) -> Result<Tensor> {
    let width = query.dim(candle_core::D::Minus1)? as f64;
    query.matmul(&key.t()?.contiguous()?)? / width.sqrt()
}

pub(super) fn softmax(scores: &Tensor) -> Result<Tensor> {
    ops::softmax(scores, candle_core::D::Minus1)
}

/// Tokens and learned positions, one block of attention, and a head on every position.
pub(super) struct Decoder {
    pub(super) tokens: Embedding,
    pub(super) positions: Embedding,
    pub(super) attention: Heads,
    pub(super) norms: [Norm; 2],
    feed: Mlp,
    head: Option<Linear>,
}

impl Decoder {
    pub(super) const WIDTH: usize = 8;
    /// The longest sequence that there are positions for.
    pub(super) const LONGEST: usize = 24;

    pub(super) fn new(vb: VarBuilder<'_>) -> Result<Self> {
        Self::with_head(Some(linear(Self::WIDTH, VOCAB, vb.pp("head"))?), vb)
    }

    /// The head is the table of tokens.
    pub(super) fn tied(vb: VarBuilder<'_>) -> Result<Self> {
        Self::with_head(None, vb)
    }

    fn with_head(head: Option<Linear>, vb: VarBuilder<'_>) -> Result<Self> {
        let width = Self::WIDTH;
        let init = Init::Randn { mean: 0.0, stdev: 0.5 };
        let positions = vb.get_with_hints((Self::LONGEST, width), "positions.weight", init)?;
        // A table that is the head, too, starts at the size of a head.
        let stdev = if head.is_some() { 1.0 } else { 1.0 / (width as f64).sqrt() };
        let init = Init::Randn { mean: 0.0, stdev };
        let tokens = vb.get_with_hints((VOCAB, width), "tokens.weight", init)?;
        Ok(Self {
            tokens: Embedding::new(tokens, width),
            positions: Embedding::new(positions, width),
            attention: Heads::new(width, 2, vb.pp("attention"))?,
            norms: [Norm::new(width, vb.pp("norm1"))?, Norm::new(width, vb.pp("norm2"))?],
            feed: Mlp::new(&[width, 2 * width, width], Tensor::gelu, vb.pp("feed"))?,
            head,
        })
    }

    /// Tokens and where they stand: positions of `[time]` or `[batch, time]`.
    pub(super) fn embed(&self, ids: &Tensor, positions: &Tensor) -> Result<Tensor> {
        self.tokens.forward(ids)?.broadcast_add(&self.positions.forward(positions)?)
    }

    /// `[batch, time, vocabulary]` of embedded tokens; `attend` is given the block's normed input.
    pub(super) fn block(
        &self,
        x: &Tensor,
        attend: impl Fn(&Heads, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let x = (x + attend(&self.attention, &self.norms[0].forward(x)?)?)?;
        let x = (&x + self.feed.forward(&self.norms[1].forward(&x)?)?)?;
        match &self.head {
            Some(head) => head.forward(&x),
            None => x.broadcast_matmul(&self.tokens.embeddings().t()?),
        }
    }

    /// All tokens at once, from position 0; `weigh` makes weights of the scores.
    pub(super) fn forward(
        &self,
        ids: &Tensor,
        weigh: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let x = self.embed(ids, &places(0, ids.dim(1)?)?)?;
        self.block(&x, |attention, x| attention.forward(x, x, &weigh))
    }
}

/// `from..from + count`.
pub(super) fn places(from: usize, count: usize) -> Result<Tensor> {
    Tensor::arange(from as u32, (from + count) as u32, CPU)
}

/// candle's own layer norm, which has no backward pass, with gains that are not all 1.
pub(super) fn fused_norm(width: usize, vb: VarBuilder<'_>) -> Result<LayerNorm> {
    let gain = vb.get_with_hints(width, "weight", Init::Randn { mean: 1.0, stdev: 0.1 })?;
    let bias = vb.get_with_hints(width, "bias", Init::Randn { mean: 0.0, stdev: 0.1 })?;
    Ok(LayerNorm::new(gain, bias, 1e-5))
}

/// Next tokens, `[rows, time]`, and logits for each, `[rows, time, vocabulary]`.
pub(super) fn token_loss(logits: &Tensor, next: &Tensor) -> Result<Tensor> {
    loss::cross_entropy(&logits.flatten(0, 1)?, &next.flatten_all()?)
}
