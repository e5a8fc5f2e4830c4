//! Small models as candle's users write them, with the places open where the corpus puts its bugs.

use std::cell::Cell;

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::{
    Conv2d, Conv2dConfig, Embedding, GRU, Init, LSTM, Linear, RNN, VarBuilder, conv2d, embedding,
    gru, linear, lstm, ops,
};
use candling::Seed;

use super::data::{CPU, TIME, VOCAB};

pub(crate) type Activation = fn(&Tensor) -> Result<Tensor>;

/// Linear layers with an activation between them.
pub(crate) struct Mlp {
    pub(crate) layers: Vec<Linear>,
    activation: Activation,
}

impl Mlp {
    pub(crate) fn new(sizes: &[usize], activation: Activation, vb: VarBuilder<'_>) -> Result<Self> {
        let layers = (sizes.windows(2).enumerate())
            .map(|(i, w)| linear(w[0], w[1], vb.pp(format!("l{i}"))))
            .collect::<Result<_>>()?;
        Ok(Self { layers, activation })
    }
}

impl Module for Mlp {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            if i > 0 {
                x = (self.activation)(&x)?;
            }
            x = layer.forward(&x)?;
        }
        Ok(x)
    }
}

/// The variables of a norm, for `ops::layer_norm_slow` and `ops::rms_norm_slow`: those have a backward pass.
pub(crate) struct Norm {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
}

impl Norm {
    pub(crate) fn new(width: usize, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints(width, "weight", Init::Const(1.0))?,
            bias: vb.get_with_hints(width, "bias", Init::Const(0.0))?,
        })
    }
}

impl Module for Norm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm_slow(x, &self.weight, &self.bias, 1e-5)
    }
}

/// `x + f(norm(x))`.
pub(crate) struct Residual {
    norm: Norm,
    inner: Linear,
}

impl Residual {
    pub(crate) fn new(width: usize, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norm: Norm::new(width, vb.pp("norm"))?,
            inner: linear(width, width, vb.pp("inner"))?,
        })
    }
}

impl Module for Residual {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x + self.inner.forward(&self.norm.forward(x)?)?.gelu()?
    }
}

/// One attention head over `[batch, time, width]`.
pub(crate) struct Attention {
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    out: Linear,
    width: usize,
}

impl Attention {
    pub(crate) fn new(width: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let layer = |name: &str| linear(width, width, vb.pp(name));
        Ok(Self {
            query: layer("query")?,
            key: layer("key")?,
            value: layer("value")?,
            out: layer("out")?,
            width,
        })
    }

    /// `weigh` turns scores `[batch, time, time]` into weights; `turn` is for rotary positions.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        turn: impl Fn(&Tensor) -> Result<Tensor>,
        weigh: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (query, key) = (turn(&self.query.forward(x)?)?, turn(&self.key.forward(x)?)?);
        let scores = (query.matmul(&key.t()?.contiguous()?)? / (self.width as f64).sqrt())?;
        self.out.forward(&weigh(&scores)?.matmul(&self.value.forward(x)?)?)
    }
}

/// -1e9 above the diagonal: added to scores, it keeps later positions out.
pub(crate) fn causal_mask(dtype: DType) -> Result<Tensor> {
    let mask: Vec<f32> =
        (0..TIME * TIME).map(|i| if i % TIME > i / TIME { -1e9 } else { 0.0 }).collect();
    Tensor::from_vec(mask, (1, TIME, TIME), CPU)?.to_dtype(dtype)
}

/// Tokens and learned positions, one attention block, and a head on every position.
pub(crate) struct Transformer {
    pub(crate) tokens: Embedding,
    positions: Tensor,
    pub(crate) attention: Attention,
    norms: [Norm; 2],
    feed: Mlp,
    pub(crate) head: Linear,
}

impl Transformer {
    pub(crate) const WIDTH: usize = 16;

    pub(crate) fn new(outputs: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let width = Self::WIDTH;
        let init = Init::Randn { mean: 0.0, stdev: 0.1 };
        Ok(Self {
            tokens: embedding(VOCAB, width, vb.pp("tokens"))?,
            positions: vb.get_with_hints((TIME, width), "positions", init)?,
            attention: Attention::new(width, vb.pp("attention"))?,
            norms: [Norm::new(width, vb.pp("norm1"))?, Norm::new(width, vb.pp("norm2"))?],
            feed: Mlp::new(&[width, 2 * width, width], Tensor::gelu, vb.pp("feed"))?,
            head: linear(width, outputs, vb.pp("head"))?,
        })
    }

    /// `[batch, time, width]`, before the head.
    pub(crate) fn hidden(
        &self,
        ids: &Tensor,
        norm: impl Fn(&Norm, &Tensor) -> Result<Tensor>,
        attend: impl Fn(&Attention, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let x = self.tokens.forward(ids)?.broadcast_add(&self.positions)?;
        let x = (&x + attend(&self.attention, &norm(&self.norms[0], &x)?)?)?;
        &x + self.feed.forward(&norm(&self.norms[1], &x)?)?
    }

    /// Attention to all positions, with every gradient.
    pub(crate) fn encode(&self, ids: &Tensor) -> Result<Tensor> {
        self.hidden(ids, Norm::forward, |a, x| a.forward(x, same, |scores| ops::softmax(scores, 2)))
    }

    /// One output a sequence: the mean over positions.
    pub(crate) fn classify(&self, ids: &Tensor) -> Result<Tensor> {
        self.head.forward(&self.encode(ids)?.mean(1)?)
    }
}

pub(crate) fn same(x: &Tensor) -> Result<Tensor> {
    Ok(x.clone())
}

/// Two convolutions, an average pooling between them, and a head.
pub(crate) struct ConvNet {
    pub(crate) first: Conv2d,
    pub(crate) second: Conv2d,
    pub(crate) head: Linear,
}

impl ConvNet {
    pub(crate) const CHANNELS: usize = 4;

    pub(crate) fn new(outputs: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let (c, config) = (Self::CHANNELS, Conv2dConfig { padding: 1, ..Conv2dConfig::default() });
        Ok(Self {
            first: conv2d(1, c, 3, config, vb.pp("first"))?,
            second: conv2d(c, c, 3, config, vb.pp("second"))?,
            head: linear(c * 16, outputs, vb.pp("head"))?,
        })
    }

    /// `norm` comes after the first convolution, `pool` halves height and width.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        norm: impl Fn(&Tensor) -> Result<Tensor>,
        pool: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let x = pool(&norm(&self.first.forward(x)?)?.relu()?)?;
        let x = self.second.forward(&x)?.relu()?;
        self.head.forward(&x.flatten_from(1)?)
    }
}

pub(crate) fn mean_pool(x: &Tensor) -> Result<Tensor> {
    x.avg_pool2d(2)
}

/// Tokens through a recurrent layer; the head sees every state.
pub(crate) struct Recurrent<R: RNN> {
    tokens: Embedding,
    cell: R,
    state: fn(&R::State) -> Tensor,
    head: Linear,
}

impl Recurrent<LSTM> {
    pub(crate) fn lstm(outputs: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let cell = lstm(8, 16, Default::default(), vb.pp("lstm"))?;
        Self::new(cell, |state| state.h.clone(), outputs, &vb)
    }
}

impl Recurrent<GRU> {
    pub(crate) fn gru(outputs: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let cell = gru(8, 16, Default::default(), vb.pp("gru"))?;
        Self::new(cell, |state| state.h.clone(), outputs, &vb)
    }
}

impl<R: RNN> Recurrent<R> {
    fn new(
        cell: R,
        state: fn(&R::State) -> Tensor,
        outputs: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        Ok(Self {
            tokens: embedding(VOCAB, 8, vb.pp("tokens"))?,
            cell,
            state,
            head: linear(16, outputs, vb.pp("head"))?,
        })
    }

    /// `[batch, time, outputs]`.
    pub(crate) fn tag(&self, ids: &Tensor) -> Result<Tensor> {
        let states = self.cell.seq(&self.tokens.forward(ids)?)?;
        // `states_to_tensor` of a GRU concatenates where it should stack.
        let states: Vec<Tensor> = states.iter().map(self.state).collect();
        self.head.forward(&Tensor::stack(&states, 1)?)
    }

    /// The output of the last state.
    pub(crate) fn classify(&self, ids: &Tensor) -> Result<Tensor> {
        let states = self.cell.seq(&self.tokens.forward(ids)?)?;
        let last = states.last().map(self.state);
        self.head.forward(&last.expect("sequences are not empty"))
    }
}

/// Dropout whose masks come from a seed: candle's own cannot be seeded on a CPU, and the corpus must repeat.
pub(crate) struct Dropout {
    seed: Seed,
    rate: f64,
    calls: Cell<u64>,
}

impl Dropout {
    pub(crate) fn new(seed: Seed, rate: f64) -> Self {
        Self { seed, rate, calls: Cell::new(0) }
    }

    pub(crate) fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        if !train {
            return Ok(x.clone());
        }
        let call = self.calls.replace(self.calls.get() + 1);
        let draw =
            self.seed.uniform(&format!("mask {call}"), 0.0..1.0, x.shape(), DType::F32, CPU)?;
        let mask = draw.ge(self.rate)?.to_dtype(x.dtype())?;
        x * (mask / (1.0 - self.rate))?
    }
}

/// The binary cross-entropy of logits in the form that no logit overflows.
pub(crate) fn stable_bce(logits: &Tensor, target: &Tensor) -> Result<Tensor> {
    let tail = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
    ((logits.relu()? - (logits * target)?)? + tail)?.mean_all()
}
