//! Small sequence models, right and wrong.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{Conv1d, Conv1dConfig, Embedding, LayerNorm, Linear, Module, ops};
use candling::Seed;

pub(super) const CPU: &Device = &Device::Cpu;
pub(super) const WIDTH: usize = 8;

/// What is added to the scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mask {
    /// This above the diagonal.
    Above(f32),
    /// Minus infinity above the diagonal this many places up.
    From(i64),
    /// Minus infinity below the diagonal.
    Inverted,
    /// Minus infinity above the diagonal and so many places and more below it.
    Window(i64),
    /// Minus infinity for later chunks of so many.
    Chunks(usize),
    None,
}

impl Mask {
    pub(super) fn scores(self, len: usize, dtype: DType) -> Result<Tensor> {
        let low = match self {
            Mask::Above(low) => low,
            _ => f32::NEG_INFINITY,
        };
        let masked = |t: usize, s: usize| {
            let ahead = s as i64 - t as i64;
            match self {
                Mask::Above(_) => ahead > 0,
                Mask::From(diagonal) => ahead >= diagonal,
                Mask::Inverted => ahead < 0,
                Mask::Window(size) => ahead > 0 || ahead <= -size,
                Mask::Chunks(size) => s / size > t / size,
                Mask::None => false,
            }
        };
        let of = |at: usize| if masked(at / len, at % len) { low } else { 0.0 };
        let values: Vec<f32> = (0..len * len).map(of).collect();
        Tensor::from_vec(values, (len, len), CPU)?.to_dtype(dtype)
    }
}

struct Layer {
    q: Linear,
    k: Linear,
    v: Linear,
    proj: Linear,
    norm: LayerNorm,
}

pub(super) struct Attention {
    layers: Vec<Layer>,
    pub(super) mask: Mask,
    pub(super) heads: usize,
    /// Heads by a reshape alone.
    pub(super) no_transpose: bool,
}

impl Attention {
    pub(super) fn new(seed: Seed, layers: usize, mask: Mask, dtype: DType) -> Self {
        let (_, vb) = seed.var_builder(dtype, CPU);
        let layer = |at: usize| -> Result<Layer> {
            let vb = vb.pp(at);
            let linear = |name: &str| candle_nn::linear(WIDTH, WIDTH, vb.pp(name));
            Ok(Layer {
                q: linear("q")?,
                k: linear("k")?,
                v: linear("v")?,
                proj: linear("proj")?,
                norm: candle_nn::layer_norm(WIDTH, 1e-5, vb.pp("norm"))?,
            })
        };
        let layers = (0..layers).map(layer).collect::<Result<_>>().unwrap();
        Self { layers, mask, heads: 2, no_transpose: false }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(x.clone(), |x, layer| self.layer(layer, &x))
    }

    fn layer(&self, layer: &Layer, x: &Tensor) -> Result<Tensor> {
        let (b, t, d) = x.dims3()?;
        let (h, each) = (self.heads, d / self.heads);
        let h_of = |l: &Linear, x: &Tensor| match self.no_transpose {
            true => l.forward(x)?.reshape((b, h, t, each)),
            false => l.forward(x)?.reshape((b, t, h, each))?.transpose(1, 2)?.contiguous(),
        };
        let inner = layer.norm.forward(&x.contiguous()?)?;
        let (q, k, v) = (h_of(&layer.q, &inner)?, h_of(&layer.k, &inner)?, h_of(&layer.v, &inner)?);
        let scores = (q.matmul(&k.t()?.contiguous()?)? * (1.0 / (each as f64).sqrt()))?;
        let scores = scores.broadcast_add(&self.mask.scores(t, x.dtype())?)?;
        let seen = ops::softmax(&scores, D::Minus1)?.matmul(&v)?;
        let seen = seen.transpose(1, 2)?.contiguous()?.reshape((b, t, d))?;
        x + layer.proj.forward(&seen)?
    }
}

/// An embedding of ids before it, a head behind it.
pub(super) struct Decoder {
    embedding: Embedding,
    pub(super) attention: Attention,
    head: Linear,
}

impl Decoder {
    pub(super) fn new(seed: Seed, vocabulary: usize, mask: Mask) -> Self {
        let (_, vb) = seed.split("decoder").var_builder(DType::F32, CPU);
        Self {
            embedding: candle_nn::embedding(vocabulary, WIDTH, vb.pp("embedding")).unwrap(),
            attention: Attention::new(seed, 2, mask, DType::F32),
            head: candle_nn::linear(WIDTH, vocabulary, vb.pp("head")).unwrap(),
        }
    }

    pub(super) fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        self.head.forward(&self.attention.forward(&self.embedding.forward(ids)?)?)
    }
}

/// A convolution over time, `[batch, channels, time]`, padded by so many on the left and on the right.
pub(super) struct TimeConv {
    conv: Conv1d,
    pub(super) padding: (usize, usize),
}

impl TimeConv {
    pub(super) fn new(seed: Seed, kernel: usize, padding: (usize, usize)) -> Self {
        let (_, vb) = seed.var_builder(DType::F32, CPU);
        let conv = candle_nn::conv1d(WIDTH, WIDTH, kernel, Conv1dConfig::default(), vb).unwrap();
        Self { conv, padding }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (left, right) = self.padding;
        self.conv.forward(&x.pad_with_zeros(2, left, right)?)?.relu()
    }
}

pub(super) fn sequence(seed: u64, rows: usize, len: usize) -> Tensor {
    Seed::new(seed).normal("x", (rows, len, WIDTH), DType::F32, CPU).unwrap()
}

/// The output with this much of input position `from` added at output position `to`.
pub(super) fn planted(y: &Tensor, x: &Tensor, from: usize, to: usize, much: f64) -> Result<Tensor> {
    let (b, t, d) = y.dims3()?;
    let leak = (x.narrow(1, from, 1)? * much)?;
    let before = Tensor::zeros((b, to, d), y.dtype(), CPU)?;
    let after = Tensor::zeros((b, t - to - 1, d), y.dtype(), CPU)?;
    let parts: Vec<&Tensor> =
        [&before, &leak, &after].into_iter().filter(|part| part.elem_count() > 0).collect();
    y + Tensor::cat(&parts, 1)?
}
