//! Model families that `../models.rs` does not have.

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::{
    BatchNorm, Conv2d, Conv2dConfig, Linear, ModuleT, VarBuilder, batch_norm, conv2d, linear, loss,
    ops,
};

use crate::corpus::{
    data::{CPU, TIME, VOCAB},
    models::{Activation, Attention, Mlp, Norm, same},
};

/// A transformer's block, its norms first.
pub(super) struct Block {
    pub(super) norms: [Norm; 2],
    pub(super) attention: Attention,
    pub(super) feed: Mlp,
}

impl Block {
    pub(super) fn new(width: usize, activation: Activation, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norms: [Norm::new(width, vb.pp("norm1"))?, Norm::new(width, vb.pp("norm2"))?],
            attention: Attention::new(width, vb.pp("attention"))?,
            feed: Mlp::new(&[width, 2 * width, width], activation, vb.pp("feed"))?,
        })
    }

    /// Scores of `[batch, time, time]` may be masked.
    pub(super) fn forward(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let weigh = |scores: &Tensor| match mask {
            Some(mask) => ops::softmax(&scores.broadcast_add(mask)?, 2),
            None => ops::softmax(scores, 2),
        };
        let x = (x + self.attention.forward(&self.norms[0].forward(x)?, same, weigh)?)?;
        &x + self.feed.forward(&self.norms[1].forward(&x)?)?
    }
}

/// Next tokens, `[rows, time]`, and logits for each, `[rows, time, vocabulary]`.
pub(super) fn token_loss(logits: &Tensor, next: &Tensor) -> Result<Tensor> {
    loss::cross_entropy(&logits.flatten(0, 1)?, &next.flatten_all()?)
}

/// Rows go to experts of their own; an expert that no row goes to does not run.
pub(super) struct Mixture {
    pub(super) router: Linear,
    experts: Vec<Mlp>,
    /// How many experts a row goes to.
    keep: usize,
}

impl Mixture {
    pub(super) fn new(
        width: usize,
        experts: usize,
        keep: usize,
        activation: Activation,
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        let expert =
            |i| Mlp::new(&[width, 2 * width, width], activation, vb.pp(format!("expert{i}")));
        Ok(Self {
            router: linear(width, experts, vb.pp("router"))?,
            experts: (0..experts).map(expert).collect::<Result<_>>()?,
            keep,
        })
    }

    /// `weigh` makes gates of the router's logits; `share` makes shares of the gates kept, `[rows, keep]`.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        weigh: impl Fn(&Tensor) -> Result<Tensor>,
        share: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let gates = weigh(&self.router.forward(x)?)?;
        let chosen = gates.arg_sort_last_dim(false)?.narrow(1, 0, self.keep)?.contiguous()?;
        let shares = share(&gates.gather(&chosen, 1)?)?;
        let chosen: Vec<Vec<u32>> = chosen.to_vec2()?;
        let mut sum = x.zeros_like()?;
        for (e, expert) in self.experts.iter().enumerate() {
            for slot in 0..self.keep {
                let is_sent = |row: &u32| chosen[*row as usize][slot] as usize == e;
                let rows: Vec<u32> = (0..chosen.len() as u32).filter(is_sent).collect();
                if rows.is_empty() {
                    continue;
                }
                let rows = Tensor::new(rows, CPU)?;
                let shares = shares.narrow(1, slot, 1)?.contiguous()?.index_select(&rows, 0)?;
                let part = expert.forward(&x.index_select(&rows, 0)?)?.broadcast_mul(&shares)?;
                sum = sum.index_add(&rows, &part, 0)?;
            }
        }
        Ok(sum)
    }
}

/// A convolution and a batch norm; the bias of the one is undone by the other, and is there all the same.
pub(super) struct ConvNorm {
    pub(super) conv: Conv2d,
    pub(super) norm: BatchNorm,
}

impl ConvNorm {
    pub(super) fn new(from: usize, to: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
        Ok(Self {
            conv: conv2d(from, to, 3, config, vb.pp("conv"))?,
            norm: batch_norm(to, 1e-5, vb.pp("norm"))?,
        })
    }
}

impl ModuleT for ConvNorm {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.norm.forward_t(&self.conv.forward(x)?, train)
    }
}

/// A linear layer over the last dimension of `[batch, time, width]`, of a low rank on top of a fixed weight.
pub(super) struct LowRank {
    pub(super) base: Tensor,
    pub(super) down: Tensor,
    pub(super) up: Tensor,
}

impl LowRank {
    pub(super) const RANK: usize = 4;

    /// What the adapter adds.
    pub(super) fn added(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.down.t()?)?.matmul(&self.up.t()?)
    }
}

/// The first of each row's two tables for rotary positions, cosines, and the second, sines.
pub(super) fn rotations(half: usize) -> Result<(Tensor, Tensor)> {
    let angles: Vec<f32> = (0..TIME * half)
        .map(|i| (i / half) as f32 / 100f32.powf((i % half) as f32 / half as f32))
        .collect();
    let angles = Tensor::from_vec(angles, (TIME, half), CPU)?;
    Ok((angles.cos()?, angles.sin()?))
}

/// One row for each token of `[batch, time]`, as floats.
pub(super) fn one_hot(ids: &Tensor, dtype: DType) -> Result<Tensor> {
    Tensor::eye(VOCAB, dtype, CPU)?.index_select(&ids.flatten_all()?, 0)?.reshape((
        ids.dim(0)?,
        ids.dim(1)?,
        VOCAB,
    ))
}
