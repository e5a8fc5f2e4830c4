//! What a loss is for the best prediction that looks at no input.

use candle_core::{Result, Tensor};

use super::{
    formula::{Kind, matching},
    values::to_f64_vec,
};

/// The loss of the best constant prediction, where the loss closure's formula is told by its value: the entropy of the
/// classes for a cross-entropy, of each column's shares for a binary one, and the variance of each column for a squared
/// error. `None` for other losses, and where one constant fits every row.
pub(crate) fn of_best_constant(output: &Tensor, target: &Tensor, loss: f64) -> Result<Option<f64>> {
    let formulas = matching(output, target, loss)?;
    let Some(formula) = formulas.iter().find(|formula| !formula.negated) else {
        return Ok(None);
    };
    let targets = to_f64_vec(target)?;
    let rows = target.dims().first().copied().unwrap_or(1).max(1);
    let columns = (targets.len() / rows).max(1);
    let mean = match formula.kind {
        Kind::CrossEntropy => entropy_of_classes(&targets),
        Kind::MeanSquaredError => over_columns(&targets, columns, variance),
        Kind::BinaryCrossEntropyWithLogits => over_columns(&targets, columns, entropy_of_shares),
        Kind::NegativeLogLikelihood | Kind::BroadcastSquaredError => return Ok(None),
    };
    let value = if formula.summed { mean * targets.len() as f64 } else { mean };
    Ok((value > 0.0).then_some(value))
}

fn over_columns(values: &[f64], columns: usize, of: fn(&[f64]) -> f64) -> f64 {
    let column = |c: usize| values.iter().skip(c).step_by(columns).copied().collect::<Vec<_>>();
    (0..columns).map(|c| of(&column(c))).sum::<f64>() / columns as f64
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    let middle = mean(values);
    mean(&values.iter().map(|v| (v - middle).powi(2)).collect::<Vec<_>>())
}

fn entropy_of_shares(values: &[f64]) -> f64 {
    let share = mean(values);
    [share, 1.0 - share].into_iter().filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum()
}

fn entropy_of_classes(labels: &[f64]) -> f64 {
    let mut sorted = labels.to_vec();
    sorted.sort_by(f64::total_cmp);
    let share = |class: &[f64]| class.len() as f64 / labels.len() as f64;
    sorted.chunk_by(|a, b| a == b).map(share).map(|p| -p * p.ln()).sum()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use candle_nn::loss;

    use super::*;
    use crate::Seed;

    #[test]
    fn the_best_constant_has_the_entropy_or_the_variance() -> Result<()> {
        let seed = Seed::new(1);
        let value = |loss: Tensor| loss.to_scalar::<f32>().map(f64::from);
        let logits = seed.normal("o", (8, 5), DType::F32, &Device::Cpu)?;
        let labels = Tensor::new(&[0u32, 0, 1, 1, 2, 2, 3, 3], &Device::Cpu)?;
        let first = value(loss::cross_entropy(&logits, &labels)?)?;
        let best = of_best_constant(&logits, &labels, first)?.unwrap();
        assert!((best - 4f64.ln()).abs() < 1e-12);

        let targets = Tensor::new(&[[999f32], [1001.0], [999.0], [1001.0]], &Device::Cpu)?;
        let output = targets.zeros_like()?;
        let first = value(loss::mse(&output, &targets)?)?;
        assert_eq!(of_best_constant(&output, &targets, first)?, Some(1.0));

        let equal = Tensor::new(&[2u32; 8], &Device::Cpu)?;
        let first = value(loss::cross_entropy(&logits, &equal)?)?;
        assert_eq!(of_best_constant(&logits, &equal, first)?, None);
        assert_eq!(of_best_constant(&logits, &labels, 0.1234)?, None);
        Ok(())
    }
}
