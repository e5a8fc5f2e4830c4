//! The networks of `benches/peers/dependence.py`.

use candling::{
    candle_core::{D, DType, Device, Module, Result, Tensor},
    candle_nn::{self, Linear, VarBuilder, ops},
};

/// Four layers of 256 with ReLU between them.
#[derive(Clone)]
pub(crate) struct Mlp(Vec<Linear>);

impl Mlp {
    pub(crate) const WIDTH: usize = 256;

    pub(crate) fn new(vb: VarBuilder<'_>) -> Result<Self> {
        let layer = |at| candle_nn::linear(Self::WIDTH, Self::WIDTH, vb.pp(format!("l{at}")));
        Ok(Self((0..4).map(layer).collect::<Result<_>>()?))
    }
}

impl Module for Mlp {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (last, inner) = self.0.split_last().expect("four layers");
        let h = inner.iter().try_fold(x.clone(), |h, layer| layer.forward(&h)?.relu())?;
        last.forward(&h)
    }
}

/// Two blocks of attention and an MLP, the norms before them, without the operations that end candle's graph.
#[derive(Clone)]
pub(crate) struct Transformer {
    blocks: Vec<Block>,
    causal: bool,
}

#[derive(Clone)]
struct Block {
    norms: [(Tensor, Tensor); 2],
    /// Queries, keys, values.
    qkv: [Linear; 3],
    out: Linear,
    up: Linear,
    down: Linear,
}

impl Transformer {
    pub(crate) const WIDTH: usize = 64;
    const HEADS: usize = 4;

    pub(crate) fn new(vb: VarBuilder<'_>, causal: bool) -> Result<Self> {
        let d = Self::WIDTH;
        let block = |at: usize| -> Result<Block> {
            let vb = vb.pp(format!("block{at}"));
            let square = |name: &str| candle_nn::linear(d, d, vb.pp(name));
            let norm = |name: &str| -> Result<(Tensor, Tensor)> {
                let vb = vb.pp(name);
                let ones = vb.get_with_hints(d, "weight", candle_nn::Init::Const(1.0))?;
                Ok((ones, vb.get_with_hints(d, "bias", candle_nn::Init::Const(0.0))?))
            };
            Ok(Block {
                norms: [norm("norm1")?, norm("norm2")?],
                qkv: [square("q")?, square("k")?, square("v")?],
                out: square("out")?,
                up: candle_nn::linear(d, 4 * d, vb.pp("up"))?,
                down: candle_nn::linear(4 * d, d, vb.pp("down"))?,
            })
        };
        Ok(Self { blocks: (0..2).map(block).collect::<Result<_>>()?, causal })
    }
}

impl Module for Transformer {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let len = x.dim(1)?;
        let mask = if self.causal { Some(mask(len)?) } else { None };
        self.blocks.iter().try_fold(x.clone(), |x, block| block.forward(&x, mask.as_ref()))
    }
}

impl Block {
    fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (n, t, d) = x.dims3()?;
        let norm = |x: &Tensor, at: usize| {
            let (weight, bias) = &self.norms[at];
            ops::layer_norm_slow(x, weight, bias, 1e-5)
        };
        let y = norm(x, 0)?;
        let heads = |layer: &Linear| -> Result<Tensor> {
            let heads = (n, t, Transformer::HEADS, d / Transformer::HEADS);
            layer.forward(&y)?.reshape(heads)?.transpose(1, 2)?.contiguous()
        };
        let [q, k, v] = &self.qkv;
        let (q, k, v) = (heads(q)?, heads(k)?, heads(v)?);
        let scale = (Transformer::HEADS as f64 / d as f64).sqrt();
        let mut scores = (q.matmul(&k.t()?)? * scale)?;
        if let Some(mask) = mask {
            scores = scores.broadcast_add(mask)?;
        }
        let attended = ops::softmax(&scores, D::Minus1)?.matmul(&v)?;
        let x = (x + self.out.forward(&attended.transpose(1, 2)?.reshape((n, t, d))?)?)?;
        &x + self.down.forward(&self.up.forward(&norm(&x, 1)?)?.relu()?)?
    }
}

/// 0 up to a position, minus infinity after it.
fn mask(len: usize) -> Result<Tensor> {
    let score = |at: usize| if at % len > at / len { f32::NEG_INFINITY } else { 0.0 };
    Tensor::from_iter((0..len * len).map(score), &Device::Cpu)?
        .reshape((len, len))?
        .to_dtype(DType::F32)
}
