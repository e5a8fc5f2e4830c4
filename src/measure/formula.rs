//! Which formula a loss closure computes, told by its value.
//!
//! A loss is a number; the formulas of the field give other numbers for the same output and targets. Where one of them
//! gives the loss's very value, at two points of a training, the closure computes that formula.

use candle_core::{Result, Tensor};

use super::values::{extent, to_f64_vec};

/// A formula of the field, and how it was applied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Formula {
    pub(crate) kind: Kind,
    pub(crate) summed: bool,
    pub(crate) negated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Cross-entropy of logits: `-log_softmax(output)[class]`.
    CrossEntropy,
    /// Negative log-likelihood of log-probabilities: `-output[class]`.
    NegativeLogLikelihood,
    /// Binary cross-entropy of logits.
    BinaryCrossEntropyWithLogits,
    MeanSquaredError,
    /// Every prediction against every target, as (N, 1) against (N) broadcasts.
    BroadcastSquaredError,
}

/// What kind of numbers the output's rows are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rows {
    pub(crate) classes: usize,
    /// Every row is non-negative and sums to 1.
    pub(crate) are_probabilities: bool,
    /// The exponentials of every row sum to 1.
    pub(crate) are_log_probabilities: bool,
    /// Every value is in [0, 1].
    pub(crate) in_unit_interval: bool,
}

/// Above this many elements the formulas are not tried: they are told apart on less.
const MOST_ELEMENTS: usize = 1 << 20;

/// Reads the output's rows: the last dimension, or single values.
pub(crate) fn read_rows(output: &Tensor) -> Result<Option<Rows>> {
    let classes = output.dims().last().copied().unwrap_or(1);
    if output.elem_count() == 0 || output.elem_count() > MOST_ELEMENTS {
        return Ok(None);
    }
    let values = to_f64_vec(output)?;
    // Sums of rounded probabilities: a few units in the last place of the format each.
    let near_one = |sum: f64| (sum - 1.0).abs() < 1e-2;
    let rows = || values.chunks_exact(classes);
    let (low, high) = extent(&values).unwrap_or((f64::NAN, f64::NAN));
    Ok(Some(Rows {
        classes,
        are_probabilities: classes > 1 && low >= 0.0 && rows().all(|r| near_one(r.iter().sum())),
        are_log_probabilities: classes > 1
            && rows().all(|r| near_one(r.iter().map(|v| v.exp()).sum())),
        in_unit_interval: low >= 0.0 && high <= 1.0,
    }))
}

/// Every formula whose value for this output and these targets is `loss`.
pub(crate) fn matching(output: &Tensor, target: &Tensor, loss: f64) -> Result<Vec<Formula>> {
    let sizes = output.elem_count().max(target.elem_count());
    if sizes == 0 || sizes > MOST_ELEMENTS || !loss.is_finite() || loss == 0.0 {
        return Ok(Vec::new());
    }
    let terms = if target.dtype().is_float() {
        elementwise(output, target)?
    } else {
        of_classes(output, target)?
    };
    let mut found = Vec::new();
    for (kind, terms) in terms {
        let sum: f64 = terms.sum;
        for summed in [false, true] {
            let value = if summed { sum } else { sum / terms.count as f64 };
            if summed && terms.count == 1 {
                continue;
            }
            for negated in [false, true] {
                let value = if negated { -value } else { value };
                // f32 sums of thousands of terms keep five digits or more.
                if (value - loss).abs() <= 1e-4 * loss.abs() {
                    found.push(Formula { kind, summed, negated });
                }
            }
        }
    }
    Ok(found)
}

struct Terms {
    sum: f64,
    count: usize,
}

fn terms(values: impl Iterator<Item = f64>) -> Terms {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), v| (sum + v, count + 1));
    Terms { sum, count }
}

fn of_classes(output: &Tensor, target: &Tensor) -> Result<Vec<(Kind, Terms)>> {
    let classes = output.dims().last().copied().unwrap_or(1);
    if classes < 2 || output.elem_count() != target.elem_count() * classes {
        return Ok(Vec::new());
    }
    let (output, labels) = (to_f64_vec(output)?, to_f64_vec(target)?);
    if labels.iter().any(|label| !(0.0..classes as f64).contains(label)) {
        return Ok(Vec::new());
    }
    let rows = || output.chunks_exact(classes).zip(labels.iter().map(|label| *label as usize));
    let cross_entropy = terms(rows().map(|(row, label)| log_sum_exp(row) - row[label]));
    let likelihood = terms(rows().map(|(row, label)| -row[label]));
    Ok(vec![(Kind::CrossEntropy, cross_entropy), (Kind::NegativeLogLikelihood, likelihood)])
}

fn elementwise(output: &Tensor, target: &Tensor) -> Result<Vec<(Kind, Terms)>> {
    let (o, t) = (to_f64_vec(output)?, to_f64_vec(target)?);
    if o.len() != t.len() {
        return Ok(Vec::new());
    }
    let pairs = || o.iter().copied().zip(t.iter().copied());
    let mut found = vec![(Kind::MeanSquaredError, terms(pairs().map(|(o, t)| (o - t).powi(2))))];
    if t.iter().all(|t| (0.0..=1.0).contains(t)) {
        let entropy = |(o, t): (f64, f64)| o.max(0.0) - o * t + (-o.abs()).exp().ln_1p();
        found.push((Kind::BinaryCrossEntropyWithLogits, terms(pairs().map(entropy))));
    }
    // (N, 1) against (N) in either order: all N x N pairs, in closed form.
    let column = |tensor: &Tensor| matches!(tensor.dims(), [_, 1]);
    let flat = |tensor: &Tensor| tensor.rank() == 1;
    let crossed = (column(output) && flat(target)) || (flat(output) && column(target));
    if crossed && o.len() > 1 {
        let n = o.len() as f64;
        let moment = |v: &[f64], power: i32| v.iter().map(|x| x.powi(power)).sum::<f64>();
        let sum = n * (moment(&o, 2) + moment(&t, 2)) - 2.0 * moment(&o, 1) * moment(&t, 1);
        found.push((Kind::BroadcastSquaredError, Terms { sum, count: o.len() * o.len() }));
    }
    Ok(found)
}

fn log_sum_exp(row: &[f64]) -> f64 {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    max + row.iter().map(|v| (v - max).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use candle_nn::loss;

    use super::*;
    use crate::Seed;

    fn kinds(output: &Tensor, target: &Tensor, loss: &Tensor) -> Vec<(Kind, bool, bool)> {
        let loss = f64::from(loss.to_scalar::<f32>().unwrap());
        let found = matching(output, target, loss).unwrap();
        found.into_iter().map(|f| (f.kind, f.summed, f.negated)).collect()
    }

    #[test]
    fn candles_losses_are_recognised_by_their_values() -> Result<()> {
        let seed = Seed::new(1);
        let logits = seed.normal("o", (8, 5), DType::F32, &Device::Cpu)?;
        let labels = seed.tokens("y", 5, 8, &Device::Cpu)?;
        let ce = loss::cross_entropy(&logits, &labels)?;
        assert_eq!(kinds(&logits, &labels, &ce), [(Kind::CrossEntropy, false, false)]);
        assert_eq!(kinds(&logits, &labels, &ce.neg()?), [(Kind::CrossEntropy, false, true)]);
        let nll = loss::nll(&logits, &labels)?;
        assert_eq!(kinds(&logits, &labels, &nll), [(Kind::NegativeLogLikelihood, false, false)]);

        let (o, t) = (logits.narrow(1, 0, 1)?, seed.normal("t", (8, 1), DType::F32, &Device::Cpu)?);
        let mse = loss::mse(&o, &t)?;
        assert_eq!(kinds(&o, &t, &mse), [(Kind::MeanSquaredError, false, false)]);
        let sum = (o.sub(&t)?.sqr()?).sum_all()?;
        assert_eq!(kinds(&o, &t, &sum), [(Kind::MeanSquaredError, true, false)]);
        let bits = t.gt(0.0)?.to_dtype(DType::F32)?;
        let bce = loss::binary_cross_entropy_with_logit(&o, &bits)?;
        assert_eq!(kinds(&o, &bits, &bce), [(Kind::BinaryCrossEntropyWithLogits, false, false)]);
        Ok(())
    }

    #[test]
    fn a_broadcast_of_a_column_against_a_row_is_recognised() -> Result<()> {
        let seed = Seed::new(2);
        let o = seed.normal("o", (6, 1), DType::F32, &Device::Cpu)?;
        let t = seed.normal("t", 6, DType::F32, &Device::Cpu)?;
        let crossed = o.broadcast_sub(&t)?.sqr()?.mean_all()?;
        assert_eq!(kinds(&o, &t, &crossed), [(Kind::BroadcastSquaredError, false, false)]);
        Ok(())
    }

    #[test]
    fn rows_are_told_by_what_they_sum_to() -> Result<()> {
        let logits = Seed::new(3).normal("o", (4, 5), DType::F32, &Device::Cpu)?;
        let read = |t: &Tensor| read_rows(t).map(Option::unwrap);
        let plain = read(&logits)?;
        assert!(!plain.are_probabilities && !plain.are_log_probabilities);
        assert!(read(&candle_nn::ops::softmax(&logits, 1)?)?.are_probabilities);
        assert!(read(&candle_nn::ops::log_softmax(&logits, 1)?)?.are_log_probabilities);
        assert!(read(&candle_nn::ops::sigmoid(&logits)?)?.in_unit_interval);
        Ok(())
    }
}
