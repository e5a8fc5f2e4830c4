//! Small sequence models, healthy ones and ones with a defect of their own.

use std::cell::RefCell;

use candling::{
    Seed,
    candle_core::{D, DType, Device, IndexOp, Module, Result, Tensor},
    candle_nn::{self, Embedding, Linear, VarBuilder, ops::softmax, rotary_emb::rope_slow},
};

pub(super) const CPU: &Device = &Device::Cpu;
pub(super) const VOCABULARY: usize = 17;
pub(super) const ROWS: usize = 3;
pub(super) const TOKENS: usize = 7;
const WIDTH: usize = 16;
const HEADS: usize = 2;
const HEAD: usize = WIDTH / HEADS;
const LAYERS: usize = 2;

pub(super) fn ids(seed: Seed) -> candling::Result<Tensor> {
    Ok(seed.tokens("ids", VOCABULARY, (ROWS, TOKENS), CPU)?)
}

fn norm(x: &Tensor) -> Result<Tensor> {
    let scale = Tensor::ones(WIDTH, x.dtype(), CPU)?;
    candle_nn::ops::layer_norm_slow(x, &scale, &scale.zeros_like()?, 1e-5)
}

/// `[batch, time, width]` to `[batch, heads, time, head]`.
fn heads(x: &Tensor) -> Result<Tensor> {
    let (b, t, _) = x.dims3()?;
    x.reshape((b, t, HEADS, HEAD))?.transpose(1, 2)?.contiguous()
}

fn attend(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let scores = (q.matmul(&k.t()?)? / (HEAD as f64).sqrt())?;
    let scores = match mask {
        Some(mask) => scores.broadcast_add(mask)?,
        None => scores,
    };
    let (b, _, t, _) = q.dims4()?;
    softmax(&scores, D::Minus1)?.matmul(v)?.transpose(1, 2)?.reshape((b, t, WIDTH))
}

/// Cosines and sines of positions, for `rope_slow`.
fn angles(positions: &[usize], dtype: DType) -> Result<(Tensor, Tensor)> {
    let angle = |p: &usize| {
        (0..HEAD / 2)
            .map(|i| *p as f64 / 100f64.powf(i as f64 * 2.0 / HEAD as f64))
            .collect::<Vec<_>>()
    };
    let all: Vec<f64> = positions.iter().flat_map(angle).collect();
    let all = Tensor::from_vec(all, (positions.len(), HEAD / 2), CPU)?;
    Ok((all.cos()?.to_dtype(dtype)?, all.sin()?.to_dtype(dtype)?))
}

struct Block {
    qkv: Linear,
    out: Linear,
    up: Linear,
    down: Linear,
}

impl Block {
    fn new(vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            qkv: candle_nn::linear(WIDTH, 3 * WIDTH, vb.pp("qkv"))?,
            out: candle_nn::linear(WIDTH, WIDTH, vb.pp("out"))?,
            up: candle_nn::linear(WIDTH, 2 * WIDTH, vb.pp("up"))?,
            down: candle_nn::linear(2 * WIDTH, WIDTH, vb.pp("down"))?,
        })
    }

    /// Queries, keys and values.
    fn qkv(&self, x: &Tensor) -> Result<[Tensor; 3]> {
        let all = self.qkv.forward(&norm(x)?)?;
        let part = |i| heads(&all.narrow(2, i * WIDTH, WIDTH)?.contiguous()?);
        Ok([part(0)?, part(1)?, part(2)?])
    }

    fn rest(&self, x: &Tensor, attended: &Tensor) -> Result<Tensor> {
        let x = (x + self.out.forward(attended)?)?;
        &x + self.down.forward(&self.up.forward(&norm(&x)?)?.gelu()?)?
    }
}

/// What is wrong with a decoder's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CacheBug {
    None,
    /// Every call is at position 0.
    OffsetIgnored,
    NeverReset,
    /// The mask of a chunk is that of a first chunk.
    MaskLacksOffset,
    /// A chunk has no mask.
    NoChunkMask,
    NotKept,
    /// The last layer's keys are those of the call.
    OneLayerNotKept,
    /// The logits of the first token of a call.
    ReadsFirst,
    /// Rows change places at every step, as after a beam search.
    RowsSwapped,
    /// The full pass has a window of three tokens, the cache none.
    NoWindow,
    /// The cache has a window of three tokens, the full pass none.
    Window,
    /// The table of positions has five entries.
    ShortTable,
    /// Tokens of one row alone are positions one too far.
    OffByOne,
    /// Several tokens behind others are refused.
    SingleTokens,
    /// What stays of a prompt is the first token's.
    HalfReset,
}

type Kept = Option<(Tensor, Tensor)>;

/// A decoder with rotary embeddings and a cache.
pub(super) struct Decoder {
    embed: Embedding,
    blocks: Vec<Block>,
    head: Linear,
    dtype: DType,
    cache: RefCell<Vec<Kept>>,
    bug: CacheBug,
    pub(super) last_only: bool,
}

impl Decoder {
    pub(super) fn new(seed: Seed, dtype: DType, bug: CacheBug) -> candling::Result<Self> {
        let (_, vb) = seed.var_builder(dtype, CPU);
        let blocks = (0..LAYERS).map(|i| Block::new(vb.pp(format!("block{i}"))));
        Ok(Self {
            embed: candle_nn::embedding(VOCABULARY, WIDTH, vb.pp("embed"))?,
            blocks: blocks.collect::<Result<_>>()?,
            head: candle_nn::linear(WIDTH, VOCABULARY, vb.pp("head"))?,
            dtype,
            cache: RefCell::new(vec![None; LAYERS]),
            bug,
            last_only: false,
        })
    }

    /// All positions, without the cache; floats instead of ids are taken as embeddings.
    pub(super) fn full(&self, x: &Tensor) -> Result<Tensor> {
        let t = x.dim(1)?;
        let window = if self.bug == CacheBug::NoWindow { 3 } else { t };
        let mask = self.mask(t, 0, t, window)?;
        let (cos, sin) = angles(&(0..t).collect::<Vec<_>>(), self.dtype)?;
        let mut x = self.embedded(x)?;
        for block in &self.blocks {
            let [q, k, v] = block.qkv(&x)?;
            let (q, k) = (rope_slow(&q, &cos, &sin)?, rope_slow(&k, &cos, &sin)?);
            x = block.rest(&x, &attend(&q, &k, &v, Some(&mask))?)?;
        }
        self.logits(&x, false)
    }

    pub(super) fn step(&self, x: &Tensor, offset: usize) -> Result<Tensor> {
        use CacheBug as Bug;
        let t = x.dim(1)?;
        if offset == 0 {
            match self.bug {
                Bug::NeverReset => {}
                Bug::HalfReset => self.cache.borrow_mut()[0] = None,
                _ => *self.cache.borrow_mut() = vec![None; LAYERS],
            }
        }
        if self.bug == Bug::SingleTokens && offset > 0 && t > 1 {
            candling::candle_core::bail!("one token at a time, not {t}");
        }
        let positions = (offset..offset + t).map(|p| match self.bug {
            Bug::OffsetIgnored => p - offset,
            Bug::ShortTable => p % 5,
            Bug::OffByOne if offset > 0 => p + 1,
            _ => p,
        });
        let (cos, sin) = angles(&positions.collect::<Vec<_>>(), self.dtype)?;
        let mut x = self.embedded(x)?;
        for (i, block) in self.blocks.iter().enumerate() {
            let [q, k, v] = block.qkv(&x)?;
            let (q, k) = (rope_slow(&q, &cos, &sin)?, rope_slow(&k, &cos, &sin)?);
            let (k, v) = self.kept(i, k, v)?;
            let all = k.dim(2)?;
            let mask = match self.bug {
                Bug::NoChunkMask if offset > 0 => None,
                Bug::MaskLacksOffset => {
                    Some(self.mask(t, if t == 1 { all - 1 } else { 0 }, all, all)?)
                }
                Bug::Window => Some(self.mask(t, all - t, all, 3)?),
                _ => Some(self.mask(t, all - t, all, all)?),
            };
            x = block.rest(&x, &attend(&q, &k, &v, mask.as_ref())?)?;
        }
        let x = if self.bug == Bug::ReadsFirst && t > 1 { x.i((.., ..1))? } else { x };
        self.logits(&x, self.last_only)
    }

    fn kept(&self, layer: usize, k: Tensor, v: Tensor) -> Result<(Tensor, Tensor)> {
        let mut cache = self.cache.borrow_mut();
        let last = layer == LAYERS - 1;
        let (k, v) = match &cache[layer] {
            Some(_) if self.bug == CacheBug::NotKept => (k, v),
            Some(_) if self.bug == CacheBug::OneLayerNotKept && last => (k, v),
            Some((keys, values)) => (Tensor::cat(&[keys, &k], 2)?, Tensor::cat(&[values, &v], 2)?),
            None => (k, v),
        };
        let stored = match self.bug {
            CacheBug::RowsSwapped => {
                let order = Tensor::new(&[1u32, 2, 0], CPU)?;
                (k.index_select(&order, 0)?, v.index_select(&order, 0)?)
            }
            _ => (k.clone(), v.clone()),
        };
        cache[layer] = Some(stored);
        Ok((k, v))
    }

    /// 0 where a query sees a key, else minus infinity.
    fn mask(&self, t: usize, offset: usize, keys: usize, window: usize) -> Result<Tensor> {
        let seen = |i: usize, k: usize| k <= offset + i && k + window > offset + i;
        let values = (0..t).flat_map(|i| {
            (0..keys).map(move |k| if seen(i, k) { 0f32 } else { f32::NEG_INFINITY })
        });
        Tensor::from_vec(values.collect::<Vec<_>>(), (t, keys), CPU)?.to_dtype(self.dtype)
    }

    fn embedded(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_float() { Ok(x.clone()) } else { self.embed.forward(x) }
    }

    fn logits(&self, x: &Tensor, last: bool) -> Result<Tensor> {
        let x = if last { x.narrow(1, x.dim(1)? - 1, 1)? } else { x.clone() };
        self.head.forward(&norm(&x)?.contiguous()?)
    }
}

/// What is wrong with an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EncoderBug {
    None,
    /// The mask is not used.
    PaddingIgnored,
    /// A mask of -10.
    SoftMask,
    /// The mask of the first row for all.
    MaskOfFirstRow,
    /// No mask for one row.
    NoMaskForOneRow,
    NoPositions,
    /// Positions begin anew after four.
    WrappedPositions,
    /// Rotary embeddings of the queries alone.
    RotatesQueriesOnly,
}

/// How an encoder tells positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Places {
    Learned,
    Rotary,
}

/// What becomes of an encoder's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pooling {
    None,
    /// The mean of the real positions.
    Mean,
    /// The mean of all.
    MeanOfAll,
    /// The mean of all, by a mask of the sum.
    SumOverTime,
    First,
}

/// An encoder with an additive mask over the keys.
pub(super) struct Encoder {
    embed: Embedding,
    places: Embedding,
    blocks: Vec<Block>,
    pub(super) dtype: DType,
    pub(super) bug: EncoderBug,
    pub(super) kind: Places,
    pub(super) pooling: Pooling,
    /// What is added where a key is padding.
    pub(super) masked: f64,
}

impl Encoder {
    pub(super) fn new(seed: Seed, dtype: DType) -> candling::Result<Self> {
        let (_, vb) = seed.var_builder(dtype, CPU);
        let blocks = (0..LAYERS).map(|i| Block::new(vb.pp(format!("block{i}"))));
        Ok(Self {
            embed: candle_nn::embedding(VOCABULARY, WIDTH, vb.pp("embed"))?,
            places: candle_nn::embedding(64, WIDTH, vb.pp("places"))?,
            blocks: blocks.collect::<Result<_>>()?,
            dtype,
            bug: EncoderBug::None,
            kind: Places::Learned,
            pooling: Pooling::None,
            masked: f64::NEG_INFINITY,
        })
    }

    pub(super) fn bug(self, bug: EncoderBug) -> Self {
        Self { bug, ..self }
    }

    pub(super) fn places(self, kind: Places) -> Self {
        Self { kind, ..self }
    }

    pub(super) fn pooling(self, pooling: Pooling) -> Self {
        Self { pooling, ..self }
    }

    pub(super) fn masked(self, masked: f64) -> Self {
        Self { masked, ..self }
    }

    /// Without padding.
    pub(super) fn whole(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(x, &Tensor::ones((x.dim(0)?, x.dim(1)?), self.dtype, CPU)?)
    }

    pub(super) fn forward(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        use EncoderBug as Bug;
        let (b, t) = (x.dim(0)?, x.dim(1)?);
        let positions: Vec<usize> = match self.bug {
            Bug::WrappedPositions => (0..t).map(|p| p % 4).collect(),
            _ => (0..t).collect(),
        };
        let mut h = if x.dtype().is_float() { x.clone() } else { self.embed.forward(x)? };
        let learned = self.kind == Places::Learned && self.bug != Bug::NoPositions;
        if learned {
            let at: Vec<u32> = positions.iter().map(|p| *p as u32).collect();
            h = h.broadcast_add(&self.places.forward(&Tensor::new(at, CPU)?)?)?;
        }
        let added = match self.bug {
            Bug::PaddingIgnored => None,
            Bug::NoMaskForOneRow if b == 1 => None,
            Bug::MaskOfFirstRow => Some(self.added(&mask.narrow(0, 0, 1)?)?),
            _ => Some(self.added(mask)?),
        };
        let (cos, sin) = angles(&positions, self.dtype)?;
        for block in &self.blocks {
            let [q, k, v] = block.qkv(&h)?;
            let (q, k) = match (self.kind, self.bug) {
                (Places::Learned, _) | (_, Bug::NoPositions) => (q, k),
                (_, Bug::RotatesQueriesOnly) => (rope_slow(&q, &cos, &sin)?, k),
                _ => (rope_slow(&q, &cos, &sin)?, rope_slow(&k, &cos, &sin)?),
            };
            h = block.rest(&h, &attend(&q, &k, &v, added.as_ref())?)?;
        }
        let h = norm(&h)?;
        let weights = mask.to_dtype(self.dtype)?.unsqueeze(2)?;
        match self.pooling {
            Pooling::None => Ok(h),
            Pooling::Mean => h.broadcast_mul(&weights)?.sum(1)?.broadcast_div(&weights.sum(1)?),
            Pooling::MeanOfAll => h.mean(1),
            Pooling::SumOverTime => h.broadcast_mul(&weights)?.mean(1),
            Pooling::First => h.i((.., 0)),
        }
    }

    /// `[batch, 1, 1, time]`: 0 for a real key.
    fn added(&self, mask: &Tensor) -> Result<Tensor> {
        let masked = if self.bug == EncoderBug::SoftMask { -10.0 } else { self.masked };
        let padding = mask.to_dtype(DType::F32)?.eq(0f32)?;
        let (yes, no) = (
            Tensor::full(masked as f32, padding.shape(), CPU)?,
            padding.zeros_like()?.to_dtype(DType::F32)?,
        );
        padding.where_cond(&yes, &no)?.to_dtype(self.dtype)?.unsqueeze(1)?.unsqueeze(1)
    }
}
