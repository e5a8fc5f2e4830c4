//! Losses of the user's own.

use std::{ops::Range, rc::Rc};

use candle_core::Tensor;

use super::{Contract, kept};
use crate::measure::losses::{Kind, Reference};

/// A loss of your own, known by its formula in plain numbers ([`per_row`](Contract::per_row)), by examples
/// ([`perfect`](Contract::perfect), [`known`](Contract::known) and others), or by both.
///
/// Whatever is given, these laws are tested unless [`without`](Contract::without) takes them out: every row counts, the
/// target matters, the order of the rows does not, and a batch given twice leaves the loss as it is (with
/// [`sum`](Contract::sum), doubles it).
pub fn custom(name: impl Into<String>) -> Contract {
    let laws = vec![Law::EveryRowCounts, Law::TargetMatters, Law::RowOrder, Law::Reduction];
    Contract { laws, ..Contract::without_formula(name) }
}

/// What may hold for a loss of the user's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Law {
    /// Another prediction in any row moves the loss. On unless taken out.
    EveryRowCounts,
    /// Other targets give another loss. On unless taken out.
    TargetMatters,
    /// The order of the rows changes nothing. On unless taken out.
    RowOrder,
    /// A batch given twice leaves a mean as it is, and doubles a sum. On unless taken out.
    Reduction,
    /// The loss is never below 0.
    NonNegative,
    /// Adding one number to all values of a row's prediction changes nothing.
    ShiftInvariant,
}

/// A prediction and a target whose loss is known.
#[derive(Clone)]
pub(crate) struct Example {
    pub(crate) role: Role,
    pub(crate) prediction: Tensor,
    pub(crate) target: Tensor,
    /// `None` where only its place among the others is known.
    pub(crate) value: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Perfect,
    Baseline,
    Wrong,
    Known,
    Finite,
}

impl Contract {
    /// What one row costs: of its prediction's and its target's values, row-major, in f64. For a loss of your own.
    ///
    /// The loss must be the mean of it over the rows ([`sum`](Self::sum) for the sum). Say with [`shape`](Self::shape),
    /// [`target_shape`](Self::target_shape), [`labels`](Self::labels) and the ranges what it is tested with.
    pub fn per_row(mut self, cost: impl Fn(&[f64], &[f64]) -> f64 + 'static) -> Self {
        self.set(Kind::Rows(Rc::new(cost)));
        self
    }

    /// What the whole batch costs, of all its values, row-major, in f64: for a loss of your own that is no mean over rows, such as
    /// a Dice loss over the batch. No law of reduction is tested.
    pub fn of_batch(mut self, cost: impl Fn(&[f64], &[f64]) -> f64 + 'static) -> Self {
        self.set(Kind::Batch(Rc::new(cost)));
        self
    }

    fn set(&mut self, kind: Kind) {
        match self.reference {
            Some(ref reference) if !is_custom(&reference.kind) => {
                self.misplaced = Some(("per_row", "`contract::custom`"));
            }
            _ => self.reference = Some(Reference::new(kind)),
        }
    }

    /// Targets are labels `0..classes` of u32, and predictions one value for each class. For a loss of your own.
    pub fn labels(mut self, classes: usize) -> Self {
        self.labels = Some(classes);
        self
    }

    /// Where the predictions lie that a loss of your own is tested with. Default -2..2.
    pub fn predictions(mut self, range: Range<f64>) -> Self {
        self.predictions = (range.start, range.end);
        self
    }

    /// Where the targets lie that a loss of your own is tested with. Default -2..2.
    pub fn targets(mut self, range: Range<f64>) -> Self {
        self.targets = (range.start, range.end);
        self
    }

    /// A prediction that fits its target as well as any, and what it costs.
    pub fn perfect(self, prediction: &Tensor, target: &Tensor, value: f64) -> Self {
        self.example(Role::Perfect, prediction, target, Some(value))
    }

    /// A prediction that knows nothing, and what it costs: more than a perfect one.
    pub fn baseline(self, prediction: &Tensor, target: &Tensor, value: f64) -> Self {
        self.example(Role::Baseline, prediction, target, Some(value))
    }

    /// A wrong prediction: it costs more than a perfect one and than one that knows nothing.
    pub fn wrong(self, prediction: &Tensor, target: &Tensor) -> Self {
        self.example(Role::Wrong, prediction, target, None)
    }

    /// A prediction and a target whose loss is known.
    pub fn known(self, prediction: &Tensor, target: &Tensor, value: f64) -> Self {
        self.example(Role::Known, prediction, target, Some(value))
    }

    /// A prediction and a target that the loss must bear: it and its gradient stay finite.
    pub fn finite_at(self, prediction: &Tensor, target: &Tensor) -> Self {
        self.example(Role::Finite, prediction, target, None)
    }

    /// A law that holds beside the usual ones.
    pub fn law(mut self, law: Law) -> Self {
        self.laws.push(law);
        self
    }

    /// A law that does not hold for this loss.
    pub fn without(mut self, law: Law) -> Self {
        self.laws.retain(|other| *other != law);
        self
    }

    fn example(
        mut self,
        role: Role,
        prediction: &Tensor,
        target: &Tensor,
        value: Option<f64>,
    ) -> Self {
        self.examples.push(Example {
            role,
            prediction: kept(prediction),
            target: kept(target),
            value,
        });
        self
    }
}

fn is_custom(kind: &Kind) -> bool {
    matches!(kind, Kind::Rows(_) | Kind::Batch(_))
}
