//! The small models these tests look at.

use candle_core::{
    CpuStorage, CustomOp1, DType, Layout, Module, Result, Shape, Tensor, backend::BackendStorage,
};
use candle_nn::{Init, Linear, VarBuilder, VarMap, linear};
use candling::{Failure, Learner, Seed};

pub(crate) use crate::{
    support::text,
    training::models::{Mlp, bits, classes, device},
};

pub(crate) fn builder(seed: u64, dtype: DType) -> (VarMap, VarBuilder<'static>) {
    Seed::new(seed).var_builder(dtype, &device())
}

pub(crate) fn normal(seed: u64, shape: &[usize], dtype: DType) -> Tensor {
    Seed::new(seed).normal("x", shape, dtype, &device()).unwrap()
}

/// A classifier of six features into four classes over these variables.
pub(crate) fn classifier<'a>(
    vars: &VarMap,
    forward: impl Fn(&Tensor) -> Result<Tensor> + 'a,
) -> Learner<'a> {
    Learner::new(vars, move |x: &Tensor| forward(x), candle_nn::loss::cross_entropy)
}

/// Linear layers `l0`, `l1`, .. of these widths.
pub(crate) fn layers(sizes: &[usize], vb: &VarBuilder<'_>) -> Vec<Linear> {
    let layer =
        |(at, pair): (usize, &[usize])| linear(pair[0], pair[1], vb.pp(format!("l{at}"))).unwrap();
    sizes.windows(2).enumerate().map(layer).collect()
}

/// The layers one after another, with `between` after each but the last.
pub(crate) fn chain(
    layers: &[Linear],
    x: &Tensor,
    between: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut x = x.clone();
    for (at, layer) in layers.iter().enumerate() {
        x = layer.forward(&x)?;
        if at + 1 < layers.len() {
            x = between(&x)?;
        }
    }
    Ok(x)
}

/// A weight and a bias for `ops::layer_norm_slow`.
pub(crate) fn scale_and_shift(width: usize, vb: VarBuilder<'_>) -> (Tensor, Tensor) {
    let get = |name, value| vb.get_with_hints(width, name, Init::Const(value)).unwrap();
    (get("weight", 1.0), get("bias", 0.0))
}

/// The value of `x`, and what `backward` makes of the gradient that comes back.
pub(crate) struct Identity {
    pub(crate) backward: fn(&Tensor) -> Result<Option<Tensor>>,
}

impl CustomOp1 for Identity {
    fn name(&self) -> &'static str {
        "identity"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((storage.try_clone(layout)?, layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        (self.backward)(gradient)
    }
}

pub(crate) fn with_backward(
    x: &Tensor,
    backward: fn(&Tensor) -> Result<Option<Tensor>>,
) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Identity { backward })
}

/// The place, cause and evidence of every finding, a line each.
pub(crate) fn findings(failure: &Failure) -> String {
    let line = |finding: &candling::Finding| {
        let place = finding.place().unwrap_or("-");
        format!("{} | {place} | {}", finding.cause().code(), finding.evidence())
    };
    failure.findings().iter().map(line).collect::<Vec<_>>().join("\n")
}
