//! What a loss function promises: the laws that [`assert_loss_contract!`](crate::assert_loss_contract) tests.
//!
//! A contract says which loss a closure claims to be, in the words of the field, and what of it is meant otherwise than
//! usual: a sum for a mean, smoothed labels, a label that does not count.
//!
//! ```
//! use candling::{contract, prelude::*};
//!
//! assert_loss_contract!(loss::cross_entropy, contract::cross_entropy(10));
//! assert_loss_contract!(loss::mse, contract::mse());
//!
//! // A mask inside the loss: label 0 is padding, and the loss takes (rows, time, classes) against (rows, time).
//! let masked = |logits: &Tensor, tags: &Tensor| {
//!     let tags = tags.flatten_all()?;
//!     let scores = candle_nn::ops::log_softmax(&logits.flatten_to(1)?, 1)?;
//!     let losses = scores.gather(&tags.unsqueeze(1)?, 1)?.squeeze(1)?.neg()?;
//!     let real = tags.ne(0u32)?.to_dtype(losses.dtype())?;
//!     (losses * &real)?.sum_all()? / real.sum_all()?
//! };
//! assert_loss_contract!(masked, contract::cross_entropy(5).target_shape([6]).ignore_index(0));
//!
//! // A loss of your own, against its formula for one row in plain numbers: focal loss.
//! let focal = |logits: &Tensor, y: &Tensor| {
//!     let log_p = candle_nn::ops::log_softmax(logits, 1)?.gather(&y.unsqueeze(1)?, 1)?;
//!     ((1.0 - log_p.exp()?)?.sqr()? * log_p)?.mean_all()?.neg()
//! };
//! let by_hand = contract::custom("focal, gamma 2").labels(4).per_row(|logits, label| {
//!     let p = logits[label[0] as usize].exp() / logits.iter().map(|z| z.exp()).sum::<f64>();
//!     -(1.0 - p).powi(2) * p.ln()
//! });
//! assert_loss_contract!(focal, by_hand);
//! # candling::Result::Ok(())
//! ```

mod custom;
mod options;

use candle_core::{DType, Device, Tensor};

use crate::measure::losses::{Kind, Pairs, Reference};

pub(crate) use custom::{Example, Role};
pub use custom::{Law, custom};

/// What a loss function promises. Made by the functions of [this module](self), refined by its own methods.
#[derive(Clone)]
#[must_use = "a contract does nothing until `assert_loss_contract!` tests it"]
pub struct Contract {
    pub(crate) name: String,
    /// What the loss claims to compute; `None` for a loss that is known by examples and laws alone.
    pub(crate) reference: Option<Reference>,
    pub(crate) classes: usize,
    pub(crate) smoothing: Option<f64>,
    pub(crate) sum: bool,
    pub(crate) scale: f64,
    pub(crate) rows: Option<usize>,
    pub(crate) shape: Option<Vec<usize>>,
    pub(crate) target_shape: Option<Vec<usize>>,
    pub(crate) soft: bool,
    pub(crate) dtype: DType,
    pub(crate) target_dtype: Option<DType>,
    pub(crate) device: Device,
    /// Of a loss of the user's own: where predictions and targets lie, or how many labels there are.
    pub(crate) predictions: (f64, f64),
    pub(crate) targets: (f64, f64),
    pub(crate) labels: Option<usize>,
    pub(crate) examples: Vec<Example>,
    pub(crate) laws: Vec<Law>,
    /// A setting that the kind of loss has no place for: its name, and where it belongs.
    pub(crate) misplaced: Option<(&'static str, &'static str)>,
}

impl std::fmt::Debug for Contract {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contract").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Contract {
    fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self { reference: Some(Reference::new(kind)), ..Self::without_formula(name) }
    }

    fn without_formula(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            reference: None,
            classes: 0,
            smoothing: None,
            sum: false,
            scale: 1.0,
            rows: None,
            shape: None,
            target_shape: None,
            soft: false,
            dtype: DType::F32,
            target_dtype: None,
            device: Device::Cpu,
            predictions: (-2.0, 2.0),
            targets: (-2.0, 2.0),
            labels: None,
            examples: Vec::new(),
            laws: Vec::new(),
            misplaced: None,
        }
    }

    fn of_classes(name: &str, classes: usize, kind: Kind) -> Self {
        Self { classes, ..Self::new(format!("{name} over {classes} classes"), kind) }
    }

    pub(crate) fn kind(&self) -> Option<&Kind> {
        self.reference.as_ref().map(|reference| &reference.kind)
    }
}

/// Cross-entropy of logits `(rows, classes)` against labels `(rows)` of u32: `-log_softmax(logits)[label]`, averaged.
///
/// `candle_nn::loss::cross_entropy`, PyTorch's `CrossEntropyLoss`. A `log_softmax` before it changes nothing, and passes.
pub fn cross_entropy(classes: usize) -> Contract {
    Contract::of_classes("cross-entropy", classes, Kind::CrossEntropy)
}

/// Negative log-likelihood of log-probabilities `(rows, classes)` against labels `(rows)` of u32, averaged.
///
/// `candle_nn::loss::nll`, PyTorch's `NLLLoss`.
pub fn nll(classes: usize) -> Contract {
    Contract::of_classes("negative log-likelihood", classes, Kind::NegativeLogLikelihood)
}

/// Kullback-Leibler divergence of the target's probabilities from log-probabilities, both `(rows, classes)`:
/// `sum t (ln t - prediction)` over the classes, averaged over the rows.
///
/// PyTorch's `KLDivLoss(reduction="batchmean")`; its `"mean"` divides by the classes, too, which is no divergence.
pub fn kl(classes: usize) -> Contract {
    let contract =
        Contract::of_classes("Kullback-Leibler divergence", classes, Kind::KullbackLeibler);
    Contract { soft: true, ..contract }
}

/// Binary cross-entropy of probabilities against targets in [0, 1] of the same dims and dtype, averaged.
///
/// PyTorch's `BCELoss`. The loss must stay finite at probabilities of exactly 0 and 1, which a sigmoid in f32 reaches.
pub fn bce() -> Contract {
    Contract::new("binary cross-entropy", Kind::BinaryCrossEntropy)
}

/// Binary cross-entropy of logits against targets in [0, 1] of the same dims and dtype, averaged.
///
/// PyTorch's `BCEWithLogitsLoss`. candle 0.11's `binary_cross_entropy_with_logit` breaks it: infinite from a logit of 17 on.
pub fn bce_with_logits() -> Contract {
    Contract::new("binary cross-entropy of logits", Kind::BinaryCrossEntropyWithLogits)
}

/// Squared error against targets of the same dims and dtype, averaged; half of it is as good.
///
/// `candle_nn::loss::mse`, PyTorch's `MSELoss`.
pub fn mse() -> Contract {
    Contract::new("squared error", Kind::Squared)
}

/// Absolute error against targets of the same dims and dtype, averaged.
///
/// PyTorch's `L1Loss`.
pub fn mae() -> Contract {
    Contract::new("absolute error", Kind::Absolute)
}

/// Huber's loss: half the square of errors up to `delta`, `delta * (error - delta / 2)` beyond, averaged.
///
/// `candle_nn::loss::huber`, PyTorch's `HuberLoss`. Its `SmoothL1Loss` is the same divided by `delta`: `.scale(1. / delta)`.
pub fn huber(delta: f64) -> Contract {
    Contract::new(format!("Huber loss of delta {delta}"), Kind::Huber(delta))
}

/// InfoNCE: row i of the prediction `(rows, width)` belongs to row i of the target `(rows, width)`, and to no other row of
/// it. Cross-entropy of the scalar products over `temperature`, averaged over the rows.
///
/// The embeddings tested with have length 1, so a loss may normalise them itself or not. `.both_ways()` for CLIP's.
///
/// *Source:* [A. van den Oord, Y. Li and O. Vinyals, 2018](https://arxiv.org/abs/1807.03748).
pub fn contrastive(temperature: f64) -> Contract {
    let pairs = Pairs { temperature, both_ways: false, one_pool: false, with_itself: false };
    Contract::new(format!("InfoNCE at temperature {temperature}"), Kind::Contrastive(pairs))
}

/// NT-Xent: as [`contrastive`], with both views in one pool: each of the 2 x rows embeddings is compared with all others, and
/// not with itself.
///
/// *Source:* [T. Chen, S. Kornblith, M. Norouzi and G. Hinton, SimCLR, 2020](https://arxiv.org/abs/2002.05709).
pub fn nt_xent(temperature: f64) -> Contract {
    let pairs = Pairs { temperature, both_ways: false, one_pool: true, with_itself: false };
    Contract::new(format!("NT-Xent at temperature {temperature}"), Kind::Contrastive(pairs))
}

/// A tensor that examples keep: cut from its graph.
fn kept(tensor: &Tensor) -> Tensor {
    tensor.detach()
}
