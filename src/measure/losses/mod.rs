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
