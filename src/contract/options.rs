//! What of a loss is meant otherwise than usual.

use candle_core::{DType, Device};

use super::Contract;
use crate::measure::losses::{Kind, Reference};

impl Contract {
    /// The loss is a sum over the batch, not a mean.
    pub fn sum(mut self) -> Self {
        self.sum = true;
        self
    }

    /// The loss is this many times the usual one: `0.5` for half of it.
    pub fn scale(mut self, factor: f64) -> Self {
        self.scale = factor;
        self
    }

    /// Labels equal to this one do not count: neither in the loss nor in what it is divided by. For losses of labels.
    ///
    /// Below zero the labels tested with are i64.
    pub fn ignore_index(self, label: i64) -> Self {
        self.of_labels("ignore_index", |reference| reference.ignored = Some(label as f64))
    }

    /// This share of a label's weight is spread, over all classes as in PyTorch or over the others alone: both pass. For
    /// losses of labels.
    pub fn label_smoothing(mut self, share: f64) -> Self {
        self.smoothing = Some(share);
        let classes = self.classes;
        self.of_labels("label_smoothing", |reference| {
            *reference = reference.clone().smoothed_over_all(share, classes);
        })
    }

    /// A weight for each class; the mean divides by the sum of the weights of the batch's labels, as in PyTorch. For losses
    /// of labels.
    pub fn class_weights(self, weights: impl Into<Vec<f64>>) -> Self {
        let weights = weights.into();
        self.of_labels("class_weights", |reference| reference.class_weights = Some(weights))
    }

    /// The weight of a target of 1, where one of 0 has 1 (PyTorch's `pos_weight`). For binary cross-entropies.
    pub fn positive_weight(mut self, weight: f64) -> Self {
        match &mut self.reference {
            Some(reference) if is_binary(&reference.kind) => reference.positive = weight,
            _ => self.misplaced = Some(("positive_weight", "a binary cross-entropy")),
        }
        self
    }

    /// Targets are distributions over the classes, `(rows, classes)` of floats, not labels. For cross-entropies.
    pub fn soft_targets(mut self) -> Self {
        self.soft = true;
        self.of_labels("soft_targets", |_| ())
    }

    /// The loss itself compares each position with the token after it: logits `(rows, time, classes)` against tokens
    /// `(rows, time)`, of which the last position's logits and the first token do not count. For losses of labels, with
    /// [`target_shape`](Self::target_shape).
    pub fn next_token(self) -> Self {
        self.of_labels("next_token", |reference| reference.shift = 1)
    }

    /// The targets look for their predictions, too, and both losses are averaged (CLIP). For [`contrastive`](super::contrastive).
    pub fn both_ways(mut self) -> Self {
        match &mut self.reference {
            Some(Reference { kind: Kind::Contrastive(pairs), .. }) if !pairs.one_pool => {
                pairs.both_ways = true;
            }
            _ => self.misplaced = Some(("both_ways", "`contract::contrastive`")),
        }
        self
    }

    /// How many rows a batch has. Default 12, fewer for many classes. Other numbers of rows are tested beside it.
    pub fn rows(mut self, rows: usize) -> Self {
        self.rows = Some(rows);
        self
    }

    /// The dims of one row's prediction: `[1]` for `(rows, 1)`, `[]` for `(rows)`. Default `[3]`; `[16]` for embeddings; for losses
    /// over classes those of the labels, and the classes behind them.
    ///
    /// Where neither this nor `target_shape` is given, a loss of elements must also be right, or an error, for `(rows, 1)`
    /// against `(rows)`.
    pub fn shape(mut self, dims: impl Into<Vec<usize>>) -> Self {
        self.shape = Some(dims.into());
        self
    }

    /// The dims of one row's target. Default: those of the prediction, for labels `[]`. Labels of `[time]` have predictions
    /// of `[time, classes]`.
    pub fn target_shape(mut self, dims: impl Into<Vec<usize>>) -> Self {
        self.target_shape = Some(dims.into());
        self
    }

    /// The dtype of predictions and of targets that are no labels. Default f32.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// The dtype of the targets. Default u32 for labels, else the predictions' own.
    pub fn target_dtype(mut self, dtype: DType) -> Self {
        self.target_dtype = Some(dtype);
        self
    }

    /// Where the tensors are. Default the CPU.
    pub fn device(mut self, device: &Device) -> Self {
        self.device = device.clone();
        self
    }

    /// The name, and what is meant otherwise than usual: `cross-entropy over 5 classes, label 0 ignored`.
    pub(crate) fn described(&self) -> String {
        let mut parts = vec![self.name.clone()];
        if let Some(share) = self.smoothing {
            parts.push(format!("label smoothing of {share}"));
        }
        if let Some(reference) = &self.reference {
            parts.extend(reference.ignored.map(|label| format!("label {label} ignored")));
            parts.extend(reference.class_weights.as_ref().map(|_| "weighted by class".to_owned()));
            parts.extend(
                (reference.positive != 1.0)
                    .then(|| format!("positive weight {}", reference.positive)),
            );
            parts.extend((reference.shift != 0).then(|| "of the next token".to_owned()));
        }
        parts.extend((self.scale != 1.0).then(|| format!("times {}", self.scale)));
        parts.extend(self.sum.then(|| "summed".to_owned()));
        parts.join(", ")
    }

    fn of_labels(mut self, option: &'static str, set: impl FnOnce(&mut Reference)) -> Self {
        match &mut self.reference {
            Some(reference) if is_of_labels(&reference.kind) => set(reference),
            _ => self.misplaced = Some((option, "a cross-entropy or a likelihood of classes")),
        }
        self
    }
}

fn is_of_labels(kind: &Kind) -> bool {
    matches!(kind, Kind::CrossEntropy | Kind::NegativeLogLikelihood)
}

fn is_binary(kind: &Kind) -> bool {
    matches!(kind, Kind::BinaryCrossEntropy | Kind::BinaryCrossEntropyWithLogits)
}
