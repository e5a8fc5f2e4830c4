//! What the losses of the field are, in plain f64: the other side of a comparison with a loss closure.
//!
//! A loss has three parts: what a row costs ([`Kind`]), what is done to targets and weights ([`Reference`]), and how the
//! costs become one number ([`Reduction`]). They are kept apart, so that a loss which differs in one of them is told by it.

mod contrastive;
mod reduction;
mod rows;
mod slope;
mod terms;

use std::rc::Rc;

pub(crate) use contrastive::Pairs;
pub(crate) use reduction::Reduction;
pub(crate) use rows::{argmax, log_softmax, sigmoid, softmax};
pub(crate) use slope::slopes;
pub(crate) use terms::{Terms, terms};

/// The cost of one row, given its prediction and its target, in plain numbers.
pub(crate) type RowCost = Rc<dyn Fn(&[f64], &[f64]) -> f64>;

/// What a row or an element costs.
#[derive(Clone)]
pub(crate) enum Kind {
    /// Of logits.
    CrossEntropy,
    /// Of log-probabilities.
    NegativeLogLikelihood,
    /// Of log-probabilities, against the target's probabilities.
    KullbackLeibler,
    /// The same with prediction and target in each other's place.
    KullbackLeiblerSwapped,
    /// Of probabilities, element by element.
    BinaryCrossEntropy,
    /// Of logits, element by element.
    BinaryCrossEntropyWithLogits,
    Squared,
    Absolute,
    /// Half the square up to delta, linear from there on.
    Huber(f64),
    Contrastive(Pairs),
    /// A formula of the user's, row by row.
    Rows(RowCost),
    /// A formula of the user's, of the whole batch at once.
    Batch(RowCost),
}

impl Kind {
    /// One cost for each label, over a last dimension of classes.
    pub(crate) fn is_of_classes(&self) -> bool {
        matches!(
            self,
            Kind::CrossEntropy
                | Kind::NegativeLogLikelihood
                | Kind::KullbackLeibler
                | Kind::KullbackLeiblerSwapped
        )
    }

    /// One cost for each element.
    pub(crate) fn is_elementwise(&self) -> bool {
        matches!(
            self,
            Kind::BinaryCrossEntropy
                | Kind::BinaryCrossEntropyWithLogits
                | Kind::Squared
                | Kind::Absolute
                | Kind::Huber(_)
        )
    }
}

/// A loss before its reduction.
#[derive(Clone)]
pub(crate) struct Reference {
    pub(crate) kind: Kind,
    /// The weight of a label's own class, and of every other: 1 and 0 without label smoothing.
    pub(crate) own: f64,
    pub(crate) other: f64,
    pub(crate) class_weights: Option<Vec<f64>>,
    /// The weights of the two terms of a binary cross-entropy.
    pub(crate) positive: f64,
    pub(crate) negative: f64,
    /// The label that does not count.
    pub(crate) ignored: Option<f64>,
    /// How many positions the target is ahead of the prediction: 1 for a loss that shifts the tokens itself.
    pub(crate) shift: i64,
    /// Every prediction against every target.
    pub(crate) crossed: bool,
    /// Log-probabilities or embeddings, which are normalised, are so once more: another gradient and the same value.
    pub(crate) normalised: bool,
}

impl Reference {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            own: 1.0,
            other: 0.0,
            class_weights: None,
            positive: 1.0,
            negative: 1.0,
            ignored: None,
            shift: 0,
            crossed: false,
            normalised: false,
        }
    }

    /// `share` of the label's weight goes to all classes alike (PyTorch's `label_smoothing`).
    pub(crate) fn smoothed_over_all(mut self, share: f64, classes: usize) -> Self {
        self.other = share / classes as f64;
        self.own = 1.0 - share + self.other;
        self
    }

    /// `share` of the label's weight goes to the other classes alike.
    pub(crate) fn smoothed_over_others(mut self, share: f64, classes: usize) -> Self {
        self.other = share / (classes.max(2) - 1) as f64;
        self.own = 1.0 - share;
        self
    }
}

/// A prediction and its target, in numbers.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) prediction: Vec<f64>,
    pub(crate) target: Vec<f64>,
    pub(crate) rows: usize,
    /// How many labels a row has: 1, or its length in tokens.
    pub(crate) positions: usize,
    /// The classes of a label, or the features of a row.
    pub(crate) width: usize,
    /// The target holds a distribution over the classes, not a label.
    pub(crate) soft: bool,
}

impl Point {
    pub(crate) fn predictions(&self) -> impl Iterator<Item = &[f64]> {
        self.prediction.chunks_exact(self.width.max(1))
    }

    /// The numbers of one row's prediction.
    pub(crate) fn row_len(&self) -> usize {
        self.prediction.len() / self.rows.max(1)
    }

    /// One row of it.
    pub(crate) fn row(&self, row: usize) -> Self {
        let part = |values: &[f64]| {
            let len = values.len() / self.rows.max(1);
            values[row * len..(row + 1) * len].to_vec()
        };
        let (positions, width, soft) = (self.positions, self.width, self.soft);
        let (prediction, target) = (part(&self.prediction), part(&self.target));
        Self { prediction, target, rows: 1, positions, width, soft }
    }

    /// Whether the label at this place counts.
    pub(crate) fn counts(&self, ignored: Option<f64>, label: usize) -> bool {
        self.soft || ignored.is_none_or(|ignored| self.target.get(label) != Some(&ignored))
    }

    /// The same point with every row's prediction made anew.
    pub(crate) fn map_rows(&self, f: impl Fn(&[f64]) -> Vec<f64>) -> Self {
        Self { prediction: self.predictions().flat_map(f).collect(), ..self.clone() }
    }

    pub(crate) fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self { prediction: self.prediction.iter().map(|v| f(*v)).collect(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Result, Tensor};
    use candle_nn::{loss, ops};

    use super::*;
    use crate::{
        Seed,
        measure::values::{scalar, to_f64_vec},
    };

    fn point(prediction: &Tensor, target: &Tensor) -> Result<Point> {
        Ok(Point {
            prediction: to_f64_vec(prediction)?,
            target: to_f64_vec(target)?,
            rows: prediction.dims()[0],
            positions: 1,
            width: prediction.dims()[1],
            soft: false,
        })
    }

    fn mean(kind: Kind, point: &Point) -> f64 {
        Reduction::Mean.of(&terms(&Reference::new(kind), point), point.width)
    }

    #[test]
    fn references_are_candles_losses() -> Result<()> {
        let seed = Seed::new(1);
        let (p, y) = (
            seed.normal("p", (8, 5), DType::F64, &Device::Cpu)?,
            seed.normal("y", (8, 5), DType::F64, &Device::Cpu)?,
        );
        let labels = seed.tokens("labels", 5, 8, &Device::Cpu)?;
        let classes = point(&p, &labels)?;
        let near = |a: f64, b: Tensor| {
            let b = scalar(&b).unwrap();
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        };
        near(mean(Kind::CrossEntropy, &classes), loss::cross_entropy(&p, &labels)?);
        near(mean(Kind::NegativeLogLikelihood, &classes), loss::nll(&p, &labels)?);
        let numbers = point(&p, &y)?;
        near(mean(Kind::Squared, &numbers), loss::mse(&p, &y)?);
        near(mean(Kind::Huber(0.7), &numbers), loss::huber(&p, &y, 0.7)?);
        let bits = y.gt(0.0)?.to_dtype(DType::F64)?;
        let answers = point(&p, &bits)?;
        let bce = || loss::binary_cross_entropy_with_logit(&p, &bits);
        near(mean(Kind::BinaryCrossEntropyWithLogits, &answers), bce()?);
        let probabilities = point(&ops::sigmoid(&p)?, &bits)?;
        near(mean(Kind::BinaryCrossEntropy, &probabilities), bce()?);
        Ok(())
    }

    /// Values of `torch.nn.functional.cross_entropy` by hand: weights, smoothing, an ignored label.
    #[test]
    fn options_are_pytorchs() {
        let point = Point {
            prediction: vec![0.0, 1.0, 2.0, 2.0, 0.0, 1.0],
            target: vec![2.0, 1.0],
            rows: 2,
            positions: 1,
            width: 3,
            soft: false,
        };
        let sum = (1.0 + 1f64.exp() + 2f64.exp()).ln();
        let (first, second) = (sum - 2.0, sum);
        let value = |reference: &Reference| Reduction::Mean.of(&terms(reference, &point), 3);
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        let plain = Reference::new(Kind::CrossEntropy);
        near(value(&plain), (first + second) / 2.0);
        let weighted = Reference { class_weights: Some(vec![1.0, 2.0, 4.0]), ..plain.clone() };
        near(value(&weighted), (4.0 * first + 2.0 * second) / 6.0);
        near(value(&Reference { ignored: Some(2.0), ..plain.clone() }), second);
        let all = (3.0 * sum - 3.0) / 3.0;
        let smoothed = plain.smoothed_over_all(0.1, 3);
        near(value(&smoothed), 0.9 * (first + second) / 2.0 + 0.1 * all);
    }
}
