//! What the models share: variables, configurations, tokens.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap, loss};
use candling::{Batch, Seed};

pub(super) const CPU: &Device = &Device::Cpu;
pub(super) const VOCABULARY: usize = 20;
pub(super) const ROWS: usize = 2;
/// More than the four taps of Mamba's convolution.
pub(super) const TOKENS: usize = 6;

/// How a model's variables get their first values.
#[derive(Clone, Copy, Debug)]
pub(super) enum Weights {
    /// The model says for every variable how to draw it.
    Hinted,
    /// The model was written for weights from a file and asks for some variables without saying how to draw them.
    /// candle then makes zeros, and a network of zeros computes nothing: matrices are drawn from a normal distribution
    /// instead, and vectors that scale something are set to one.
    Unhinted,
}

/// Builds a model on seeded variables of a dtype; other dtypes hold the same values, rounded.
pub(super) fn build<M>(
    seed: Seed,
    dtype: DType,
    weights: Weights,
    load: impl FnOnce(VarBuilder<'static>) -> Result<M>,
) -> candling::Result<(VarMap, M)> {
    let (vars, vb) = match weights {
        Weights::Hinted => seed.var_builder(dtype, CPU),
        // 1 / sqrt(16): a layer of width 16 keeps the scale of its input.
        Weights::Unhinted => seed.var_builder_unhinted(0.25, dtype, CPU),
    };
    let model = load(vb)?;
    if let Weights::Unhinted = weights {
        scales_to_one(&vars)?;
    }
    Ok((vars, model))
}

/// Sets vectors of zeros that multiply (a norm's weight, a layer scale) to one. Biases stay zero.
fn scales_to_one(vars: &VarMap) -> Result<()> {
    let vars = vars.data().lock().expect("no closure panicked");
    for (name, var) in vars.iter().filter(|(_, var)| var.rank() == 1) {
        let scales = ["weight", "gamma", "D"].iter().any(|scale| name.ends_with(scale));
        let values = var.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        if scales && values.iter().all(|value| *value == 0.0) {
            var.set(&var.ones_like()?)?;
        }
    }
    Ok(())
}

/// A configuration read from JSON: some have private fields, and all can be read.
pub(super) fn config<C>(parsed: serde_json::Result<C>) -> Result<C> {
    parsed.map_err(candle_core::Error::wrap)
}

/// Token ids of the batch.
pub(super) fn tokens(seed: Seed, label: &str) -> Result<Tensor> {
    seed.tokens(label, VOCABULARY, (ROWS, TOKENS), CPU)
}

/// Token ids and a class for each row; a next token, too, is a class.
pub(super) fn tokens_and_class(seed: Seed, classes: usize) -> Result<Batch> {
    Ok((tokens(seed, "ids")?, seed.tokens("class", classes, ROWS, CPU)?).into())
}

/// Cross-entropy of logits `[.., classes]` and ids `[..]`.
pub(super) fn cross_entropy_everywhere(logits: &Tensor, ids: &Tensor) -> Result<Tensor> {
    loss::cross_entropy(&logits.flatten_to(logits.rank() - 2)?, &ids.flatten_all()?)
}
