//! A convolutional net on images of digits.

use candle_nn::{Conv2d, Conv2dConfig, Dropout, Linear, VarBuilder, conv2d, linear};
use candling::prelude::*;

/// Two convolutions, dropout, and a linear layer. No `max_pool2d`: its gradient is wrong in candle 0.11.
pub(crate) struct Net {
    pub(crate) conv1: Conv2d,
    pub(crate) conv2: Conv2d,
    pub(crate) dropout: Dropout,
    pub(crate) head: Linear,
}

pub(crate) const DROPOUT: f64 = 0.1;

impl Net {
    pub(crate) fn new(vb: VarBuilder<'_>) -> candle_core::Result<Self> {
        Self::of_width(8, vb)
    }

    /// As many channels as asked for; see [`Net::new`].
    pub(crate) fn of_width(width: usize, vb: VarBuilder<'_>) -> candle_core::Result<Self> {
        let same = Conv2dConfig { padding: 1, ..Default::default() };
        let halving = Conv2dConfig { padding: 1, stride: 2, ..Default::default() };
        Ok(Self {
            conv1: conv2d(1, width, 3, same, vb.pp("conv1"))?,
            conv2: conv2d(width, 2 * width, 3, halving, vb.pp("conv2"))?,
            dropout: Dropout::new(DROPOUT as f32),
            head: linear(2 * width * 4 * 4, 10, vb.pp("head"))?,
        })
    }

    /// A fresh net, and its variables.
    pub(crate) fn fresh() -> candle_core::Result<(VarMap, Self)> {
        let (vars, vb) = Seed::from_env_or(42).var_builder(DType::F32, &Device::Cpu);
        let net = Self::new(vb)?;
        Ok((vars, net))
    }

    /// What the head sees: `[batch, 256]`.
    pub(crate) fn features(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let x = self.conv1.forward(x)?.relu()?;
        self.conv2.forward(&x)?.relu()?.flatten_from(1)
    }

    pub(crate) fn forward_t(&self, x: &Tensor, train: bool) -> candle_core::Result<Tensor> {
        self.head.forward(&self.dropout.forward(&self.features(x)?, train)?)
    }

    /// In evaluation mode.
    pub(crate) fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.forward_t(x, false)
    }
}
