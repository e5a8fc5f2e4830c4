//! The small models these tests look at.

use std::cell::RefCell;

use candle_core::{D, DType, Device, Module, Result, Tensor, Var};
use candle_nn::{
    Conv2d, Conv2dConfig, Init, Linear, ModuleT, VarBuilder, VarMap, conv2d, linear, loss, ops,
};
use candling::{
    Failure, FailureKind, Learner, Seed,
    check::{TrainEvalModes, TrainEvalModesReport},
};

pub(crate) use crate::{gradients::models::builder, training::models::bits};

pub(crate) const CPU: &Device = &Device::Cpu;

pub(crate) fn rows(n: usize, dtype: DType) -> Tensor {
    Seed::new(3).normal("x", (n, 6), dtype, CPU).unwrap()
}

/// A learner whose loss is never asked for.
pub(crate) fn learner<'a>(
    vars: &VarMap,
    forward: impl FnMut(&Tensor, bool) -> Result<Tensor> + 'a,
) -> Learner<'a> {
    Learner::with_modes(vars, forward, loss::mse)
}

/// `l1` to 32 units, a relu, `between`, and `l2` to 4 outputs.
pub(crate) fn mlp<'a>(
    dtype: DType,
    between: impl Fn(&Tensor, bool) -> Result<Tensor> + 'a,
) -> (Learner<'a>, VarMap) {
    let (vars, vb) = builder(1, dtype);
    let (l1, l2) = two(&vb);
    let learner =
        learner(&vars, move |x, train| l2.forward(&between(&l1.forward(x)?.relu()?, train)?));
    (learner, vars)
}

pub(crate) fn two(vb: &VarBuilder<'_>) -> (Linear, Linear) {
    (linear(6, 32, vb.pp("l1")).unwrap(), linear(32, 4, vb.pp("l2")).unwrap())
}

/// A mask of these dims, 0 where a uniform draw is below the rate, else 1.
pub(crate) fn mask(dims: &[usize], rate: f64, dtype: DType) -> Result<Tensor> {
    Tensor::rand(0f32, 1f32, dims, CPU)?.ge(rate)?.to_dtype(dtype)
}

/// `x` where the mask is 1, times `scale`.
pub(crate) fn masked(x: &Tensor, rate: f64, scale: f64) -> Result<Tensor> {
    x * (mask(x.dims(), rate, x.dtype())? * scale)?
}

pub(crate) fn dropout(x: &Tensor, rate: f32, train: bool) -> Result<Tensor> {
    if train { ops::dropout(x, rate) } else { Ok(x.clone()) }
}

/// A convolution, `after` it, and a head.
pub(crate) struct Images {
    conv: Conv2d,
    head: Linear,
}

impl Images {
    pub(crate) fn new(vb: &VarBuilder<'_>) -> Self {
        let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
        let conv = conv2d(1, 8, 3, config, vb.pp("conv")).unwrap();
        Self { conv, head: linear(8 * 36, 3, vb.pp("head")).unwrap() }
    }

    pub(crate) fn forward(
        &self,
        x: &Tensor,
        after: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        self.head.forward(&after(&self.conv.forward(x)?)?.relu()?.flatten_from(1)?)
    }
}

pub(crate) fn images(n: usize) -> Tensor {
    Seed::new(4).normal("x", (n, 1, 6, 6), DType::F32, CPU).unwrap()
}

/// A batch norm of one's own over rows, with places for what can go wrong.
pub(crate) struct OwnNorm {
    pub(crate) mean: Var,
    pub(crate) var: Var,
    pub(crate) momentum: f64,
}

impl OwnNorm {
    pub(crate) fn new(width: usize, momentum: f64, vars: &VarMap, vb: &VarBuilder<'_>) -> Self {
        let get = |name: &str, value: f64| {
            vb.get_with_hints(width, name, Init::Const(value)).unwrap();
            vars.data().lock().unwrap()[&vb.pp(name).prefix()].clone()
        };
        Self { mean: get("running_mean", 0.0), var: get("running_var", 1.0), momentum }
    }

    pub(crate) fn update(&self, x: &Tensor) -> Result<()> {
        let (mean, var) = of_batch(x)?;
        for (running, batch) in [(&self.mean, mean), (&self.var, var)] {
            let kept = (running.as_detached_tensor() * (1.0 - self.momentum))?;
            running.set(&(kept + (batch.squeeze(0)?.detach() * self.momentum)?)?)?;
        }
        Ok(())
    }

    pub(crate) fn by_running(&self, x: &Tensor) -> Result<Tensor> {
        normalised(x, &self.mean.as_detached_tensor(), &self.var.as_detached_tensor())
    }
}

pub(crate) fn of_batch(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let mean = x.mean_keepdim(0)?;
    let var = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?;
    Ok((mean, var))
}

pub(crate) fn normalised(x: &Tensor, mean: &Tensor, var: &Tensor) -> Result<Tensor> {
    x.broadcast_sub(mean)?.broadcast_div(&(var + 1e-5)?.sqrt()?)
}

pub(crate) fn by_batch(x: &Tensor) -> Result<Tensor> {
    let (mean, var) = of_batch(x)?;
    normalised(x, &mean, &var)
}

/// A single attention over `[batch, time, width]`, with `drop` on its probabilities.
pub(crate) struct Attention {
    layers: [Linear; 4],
}

impl Attention {
    pub(crate) fn new(width: usize, vb: &VarBuilder<'_>) -> Self {
        let layer = |name: &str| linear(width, width, vb.pp(name)).unwrap();
        Self { layers: [layer("q"), layer("k"), layer("v"), layer("out")] }
    }

    pub(crate) fn forward(
        &self,
        x: &Tensor,
        drop: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let [q, k, v, out] = &self.layers;
        let width = x.dim(D::Minus1)? as f64;
        let keys = k.forward(x)?.transpose(1, 2)?.contiguous()?;
        let scores = (q.forward(x)?.matmul(&keys)? / width.sqrt())?;
        let weights = drop(&ops::softmax(&scores, D::Minus1)?)?;
        out.forward(&weights.matmul(&v.forward(x)?)?)
    }
}

/// Calls that are counted, for state that no variable holds.
#[derive(Default)]
pub(crate) struct Kept(RefCell<Option<Tensor>>);

impl Kept {
    /// What was kept at the first call.
    pub(crate) fn first(&self, make: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        let mut kept = self.0.borrow_mut();
        match &*kept {
            Some(kept) => Ok(kept.clone()),
            None => Ok(kept.insert(make()?).clone()),
        }
    }

    pub(crate) fn replace(&self, new: Tensor) -> Option<Tensor> {
        self.0.replace(Some(new))
    }

    pub(crate) fn get(&self) -> Option<Tensor> {
        self.0.borrow().clone()
    }
}

pub(crate) fn check(
    options: TrainEvalModes,
    learner: &Learner<'_>,
    x: &Tensor,
) -> std::result::Result<TrainEvalModesReport, Failure> {
    options.check(learner, x)
}

pub(crate) fn violated(options: TrainEvalModes, learner: &Learner<'_>, x: &Tensor) -> Failure {
    let failure = options.check(learner, x).expect_err("the bug was not seen");
    assert_eq!(failure.kind(), FailureKind::Violated, "{failure}");
    failure
}

pub(crate) fn batch_norm(width: usize, vb: &VarBuilder<'_>) -> candle_nn::BatchNorm {
    candle_nn::batch_norm(width, 1e-5, vb.pp("norm")).unwrap()
}

/// `l1`, a norm, a relu and `l2`.
pub(crate) fn normed<'a>(
    vars: &VarMap,
    vb: &VarBuilder<'_>,
    norm: impl Fn(&Tensor, bool) -> Result<Tensor> + 'a,
) -> Learner<'a> {
    let (l1, l2) = two(vb);
    learner(vars, move |x, train| l2.forward(&norm(&l1.forward(x)?, train)?.relu()?))
}

/// candle's own.
pub(crate) fn candles<'a>(
    norm: candle_nn::BatchNorm,
) -> impl Fn(&Tensor, bool) -> Result<Tensor> + 'a {
    move |x, train| norm.forward_t(x, train)
}
