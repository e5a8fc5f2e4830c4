//! A loss over all targets that a row could have: what is left of it without the luck of the labels.

use candle_core::{Result, Tensor};

use super::{
    formula::{Kind, matching},
    values::to_f64_vec,
};

/// The mean loss of these outputs over all targets alike, where `loss` is told to be a mean cross-entropy of classes or of
/// binary answers by its value; `None` for other losses.
pub(crate) fn over_all_targets(output: &Tensor, target: &Tensor, loss: f64) -> Result<Option<f64>> {
    let formulas = matching(output, target, loss)?;
    let Some(kind) = formulas.iter().find(|f| !f.summed && !f.negated).map(|f| f.kind) else {
        return Ok(None);
    };
    let values = to_f64_vec(output)?;
    let softplus = |z: f64| z.max(0.0) + (-z.abs()).exp().ln_1p();
    let rows = match kind {
        Kind::CrossEntropy => output.dims().last().copied().unwrap_or(1),
        Kind::BinaryCrossEntropyWithLogits => {
            let sum: f64 = values.iter().map(|z| 0.5 * (softplus(*z) + softplus(-z))).sum();
            return Ok(Some(sum / values.len() as f64));
        }
        _ => return Ok(None),
    };
    let of_row = |row: &[f64]| {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let partition = max + row.iter().map(|z| (z - max).exp()).sum::<f64>().ln();
        partition - row.iter().sum::<f64>() / row.len() as f64
    };
    let sum: f64 = values.chunks_exact(rows).map(of_row).sum();
    Ok(Some(sum / (values.len() / rows) as f64))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use candle_nn::loss;

    use super::*;
    use crate::{Seed, measure::values::scalar};

    #[test]
    fn it_is_the_mean_over_the_targets_and_not_below_an_even_guess() -> Result<()> {
        let logits = Seed::new(1).normal("z", (6, 3), DType::F64, &Device::Cpu)?;
        let of = |class: u32| -> Result<f64> {
            let target = Tensor::full(class, 6, &Device::Cpu)?;
            scalar(&loss::cross_entropy(&logits, &target)?)
        };
        let target = Tensor::full(1u32, 6, &Device::Cpu)?;
        let mean = (of(0)? + of(1)? + of(2)?) / 3.0;
        let over = over_all_targets(&logits, &target, of(1)?)?.unwrap_or(f64::NAN);
        assert!((over - mean).abs() < 1e-9 && over > 3f64.ln());
        assert_eq!(over_all_targets(&logits, &target, 0.123)?, None);

        let ones = Tensor::ones((6, 3), DType::F64, &Device::Cpu)?;
        let binary = scalar(&loss::binary_cross_entropy_with_logit(&logits, &ones)?)?;
        assert!(over_all_targets(&logits, &ones, binary)?.is_some_and(|over| over > 2f64.ln()));
        Ok(())
    }
}
