//! What a loss is before training, by theory: for [`assert_initial_loss!`](crate::assert_initial_loss).
//!
//! *Verify loss @ init* is the second thing to look at in a new model, after one has become one with the data
//! (A. Karpathy, *A recipe for training neural networks*, 2019). An untrained classifier knows nothing, so it should say
//! so: each of `C` classes at `1/C`, a cross-entropy of `ln C`.
//!
//! | | an undecided model's loss | sane up to | a failure by itself above |
//! |---|---|---|---|
//! | [`cross_entropy`] | `ln C` | `ln C + 4.5` | `ln C + 40.5` |
//! | [`cross_entropy_with_prior`] | the entropy of the classes | that and 4.5 | that and 40.5 |
//! | [`bce`] | `ln 2` | `ln 2 + 3.5` | `ln 2 + 12` |
//! | [`mse`], [`mae`], [`huber`] | of an output of 0: mean of `y^2`, .. | of outputs 6 off | of outputs 18 off |
//!
//! Between the two limits a loss is a failure where a defect is found that explains it: an input that is not scaled,
//! weights that are off scale, a bias, a table of tokens that is the head as well, a sum. Without one it may be right: a
//! residual stream of thirty blocks without a last norm starts at six times the size of one block.
//!
//! # Why these bands
//!
//! Nobody's first outputs are exactly undecided. Outputs of independent normal draws of standard deviation `s` have a mean
//! cross-entropy of about `ln C + s^2 / 2`. candle's layers start with a gain of `sqrt(2)` (Kaiming's, also where no ReLU
//! follows), so that `s` is about 1.4 on inputs of size 1, and losses of 0.96 to 1.74 times `ln C` were measured; `s = 3`,
//! twice that, gives the 4.5, and `s = 9` the 40.5. What the labels of a small batch add by luck is taken out first, where the loss is told to
//! be a cross-entropy (by its value): the loss is averaged over all targets that each row could have. A single output
//! bends one way or the other by twice its size at five standard deviations, which gives the 3.5, and is off by 6 for a
//! squared error.
//!
//! The lower end is where luck ends: an untrained model may happen to be right. Where the rows of a class are all alike,
//! the outputs of `n` classes are as many draws of logits of size `s`. All of them are right by a margin `m` once in ten
//! million at `m = s * sqrt(2) * z`, where a normal deviate is above `z` with a probability of `10^(-7/n)`; then the loss
//! is `ln(1 + (C-1) * exp(-m))`. With five classes or more the mean of so many draws ends sooner, 5.2 standard deviations
//! of `s / sqrt(n)` below `ln C + 0.4 s^2`. Both were held against draws. For ten classes that is about a quarter of
//! `ln C`, for two next to zero. `n` is the effective number of classes, `1 / sum(share^2)`, and `s` is 2, or smaller
//! where the logits are. A squared error is too low below a thousandth of the targets' variance.

mod distance;
mod luck;
#[cfg(test)]
mod tests;

use candle_core::Tensor;

use distance::{Distance, of_distance};
use luck::{SIGMAS, by_luck, effective, lower_end};

use crate::{
    Failure, Result,
    measure::{values::to_f64_vec, vectors::root_mean_square},
    verdict::{count, number},
};

/// What the loss of an untrained model is expected to be.
#[derive(Clone, Debug)]
pub struct Expected {
    kind: Kind,
    times: f64,
    plus: f64,
}

#[derive(Clone, Debug)]
enum Kind {
    CrossEntropy { classes: usize },
    Prior { targets: Tensor, classes: usize },
    Binary,
    Distance { targets: Tensor, of: Distance },
    Value(f64),
    Between { low: f64, high: f64 },
}

/// Cross-entropy over `classes` classes, of logits or log-probabilities: `ln C`.
///
/// Holds for a mean over rows, label smoothing included: a uniform prediction has `ln C` there, too. A model whose last
/// bias starts at the logarithm of the classes' shares starts lower: see [`cross_entropy_with_prior`].
pub fn cross_entropy(classes: usize) -> Expected {
    Expected::of(Kind::CrossEntropy { classes })
}

/// Cross-entropy of a model that starts at the classes' shares in `targets` (class ids of any shape): their entropy.
///
/// *Init well*: with the last bias at `ln(share)` of each class, the first hundred steps are not spent on learning it. The
/// shares are best taken from the whole training set.
pub fn cross_entropy_with_prior(targets: &Tensor, classes: usize) -> Expected {
    Expected::of(Kind::Prior { targets: targets.clone(), classes })
}

/// Binary cross-entropy of logits (or of probabilities, one for each answer): `ln 2`.
pub fn bce() -> Expected {
    Expected::of(Kind::Binary)
}

/// Mean squared error of an output near zero: the mean of `targets^2`. With the last bias at the targets' mean it falls to
/// their variance, which is allowed as well.
pub fn mse(targets: &Tensor) -> Expected {
    Expected::distance(targets, Distance::Squared)
}

/// Mean absolute error of an output near zero: the mean size of `targets`.
pub fn mae(targets: &Tensor) -> Expected {
    Expected::distance(targets, Distance::Absolute)
}

/// The Huber loss (`torch.nn.HuberLoss`) of an output near zero: half the square up to `delta`, a line from there.
pub fn huber(targets: &Tensor, delta: f64) -> Expected {
    Expected::distance(targets, Distance::Huber(delta))
}

/// A number that is known exactly, such as `ln C` of a head that starts at zero: to 1 %.
pub fn value(loss: f64) -> Expected {
    Expected::of(Kind::Value(loss))
}

/// A band of one's own, both ends included.
pub fn between(low: f64, high: f64) -> Expected {
    Expected::of(Kind::Between { low, high })
}

impl Expected {
    fn of(kind: Kind) -> Self {
        Self { kind, times: 1.0, plus: 0.0 }
    }

    fn distance(targets: &Tensor, of: Distance) -> Self {
        Self::of(Kind::Distance { targets: targets.clone(), of })
    }

    /// Of a loss that is multiplied: by a weight, or by the number of terms where it is a sum by intent.
    #[must_use]
    pub fn times(mut self, factor: f64) -> Self {
        (self.times, self.plus) = (self.times * factor, self.plus * factor);
        self
    }

    /// Of a loss to which another term is added, such as a penalty.
    #[must_use]
    pub fn plus(mut self, loss: f64) -> Self {
        self.plus += loss;
        self
    }

    /// The band for these targets and outputs, where the batch has them.
    pub(crate) fn band(&self, target: Option<&Tensor>, output: Option<&Tensor>) -> Result<Band> {
        if !(self.times > 0.0 && self.times.is_finite() && self.plus.is_finite()) {
            let was = format!("a loss times {} plus {}", self.times, self.plus);
            return Err(bad(was, "a factor above 0 and a finite term"));
        }
        let mut band = match &self.kind {
            Kind::CrossEntropy { classes } => of_classes(*classes, target, output)?,
            Kind::Prior { targets, classes } => of_prior(targets, *classes, target)?,
            Kind::Binary => of_binary(target, output)?,
            Kind::Distance { targets, of } => of_distance(targets, *of)?,
            Kind::Value(loss) => of_value(*loss)?,
            Kind::Between { low, high } => between_ends(*low, *high)?,
        };
        let scaled = |loss: f64| self.times * loss + self.plus;
        for loss in [
            &mut band.center,
            &mut band.low,
            &mut band.high,
            &mut band.high_with_luck,
            &mut band.far,
        ] {
            *loss = scaled(*loss);
        }
        band.best_constant = band.best_constant.map(scaled);
        let classifies =
            matches!(self.kind, Kind::CrossEntropy { .. } | Kind::Prior { .. } | Kind::Binary);
        // A loss that is scaled is not told by its value.
        band.over_targets = classifies && self.times == 1.0 && self.plus == 0.0;
        Ok(band)
    }
}

/// Where a loss may start.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Band {
    /// What it is the loss of, in words.
    pub(crate) of: String,
    pub(crate) center: f64,
    pub(crate) low: f64,
    /// For a loss that is averaged over all targets alike.
    pub(crate) high: f64,
    /// For the loss as it is, with what the labels of the batch add by luck.
    pub(crate) high_with_luck: f64,
    /// Above this no model starts, whatever its depth.
    pub(crate) far: f64,
    /// The loss of the best constant output on the expected targets, where that is another.
    pub(crate) best_constant: Option<f64>,
    /// Whether the luck of the labels may be taken out of the loss.
    pub(crate) over_targets: bool,
    /// What the last layer's bias could start at for the best constant.
    pub(crate) advice: Option<&'static str>,
}

impl Band {
    fn new(of: impl Into<String>, center: f64, low: f64, (high, far): (f64, f64)) -> Self {
        let of = of.into();
        Self {
            of,
            center,
            low,
            high,
            high_with_luck: high,
            far,
            best_constant: None,
            over_targets: false,
            advice: None,
        }
    }

    /// `0.86 .. 6.8`.
    pub(crate) fn ends(&self) -> String {
        format!("{} .. {}", number(self.low), number(self.high))
    }
}

/// Half the square of logits of size 3, twice what candle's layers give.
const OVER_CLASSES: f64 = 4.5;
/// Half the square of logits of size 9: the residual stream of thirty blocks, each of size 1, before a head of gain 1.4.
const FAR_OVER_CLASSES: f64 = 40.5;
/// Of a single logit of size 1.4 at five standard deviations, whatever the target.
const OVER_BINARY: f64 = 3.5;
const FAR_OVER_BINARY: f64 = 12.0;
/// How far an untrained output may be off: 1.4 at four standard deviations.
const OFF: f64 = 6.0;
const FAR_OFF: f64 = 18.0;
/// The size that logits are taken to have at most, where luck is reckoned.
const LOGITS: f64 = 2.0;
/// A distance this share of the best constant's is no luck.
const FITTED: f64 = 1e-3;

fn of_classes(classes: usize, target: Option<&Tensor>, output: Option<&Tensor>) -> Result<Band> {
    if classes < 2 {
        return Err(bad(format!("a cross-entropy over {classes}"), "2 classes or more"));
    }
    let center = (classes as f64).ln();
    let present = present(target, classes)?;
    let size = match output.filter(|output| output.dims().last() == Some(&classes)) {
        Some(output) => size_about_rows(output, classes)?.min(LOGITS),
        None => LOGITS,
    };
    let n = present.as_deref().map_or(classes as f64, effective);
    let all = ((classes as f64 - 1.0) * (-size * 2f64.sqrt() * by_luck(n)).exp()).ln_1p();
    let mean = center + 0.4 * size * size - SIGMAS * size / n.sqrt();
    let low = lower_end(n, all, mean);
    let of = format!("ln {classes}, the cross-entropy of {classes} equally likely classes");
    let mut band = Band::new(of, center, low, (center + OVER_CLASSES, center + FAR_OVER_CLASSES));
    band.high_with_luck = center + OVER_CLASSES.max(2.0 + 10.0 / n.sqrt());
    if let Some(shares) = present {
        let entropy = entropy(&shares);
        // A last bias at the logarithm of the shares is a good start, and lower.
        band.low = band.low.min(low * entropy / center);
        if entropy < 0.9 * center {
            band.best_constant = Some(entropy);
            band.advice = Some(
                "start the last bias at the logarithm of the classes' shares, and expect \
                 `expected::cross_entropy_with_prior`",
            );
        }
    }
    Ok(band)
}

fn of_prior(targets: &Tensor, classes: usize, target: Option<&Tensor>) -> Result<Band> {
    let uniform = of_classes(classes, None, None)?;
    let Some(shares) = present(Some(targets), classes)? else {
        let was = format!("of {} targets", targets.dtype().as_str());
        return Err(bad(was, "class ids of an integer dtype"));
    };
    let center = entropy(&shares);
    let n = effective(&self::present(target, classes)?.unwrap_or(shares));
    let of = format!("the entropy of {} by their shares", count(classes, "class"));
    let mut band = Band::new(
        of,
        center,
        uniform.low * center / uniform.center,
        (center + OVER_CLASSES, center + FAR_OVER_CLASSES),
    );
    // A batch of rare classes costs more than their share.
    band.high_with_luck = uniform.center + OVER_CLASSES.max(2.0 + 10.0 / n.sqrt());
    Ok(band)
}

fn of_binary(target: Option<&Tensor>, output: Option<&Tensor>) -> Result<Band> {
    let size = match output {
        Some(output) if output.elem_count() > 0 => {
            let values = to_f64_vec(output)?;
            (1.5 * root_mean_square(&values)).min(LOGITS)
        }
        _ => LOGITS,
    };
    let columns =
        target.map_or(1, |t| t.elem_count() / t.dims().first().copied().unwrap_or(1).max(1));
    let share = match target.filter(|target| target.elem_count() > 0) {
        Some(target) => {
            let ones = to_f64_vec(target)?;
            Some(ones.iter().sum::<f64>() / ones.len() as f64).filter(|s| (0.0..=1.0).contains(s))
        }
        None => None,
    };
    let shares = share.map(|share| [share, 1.0 - share]);
    let n = columns.max(1) as f64 * shares.as_ref().map_or(2.0, |shares| effective(shares));
    let center = 2f64.ln();
    let mean = center + 0.1 * size * size - SIGMAS * 0.5 * size / n.sqrt();
    let low = lower_end(n, (-size * by_luck(n)).exp().ln_1p(), mean);
    let of = "ln 2, the binary cross-entropy of an even chance";
    let mut band = Band::new(of, center, low, (center + OVER_BINARY, center + FAR_OVER_BINARY));
    band.high_with_luck = center + OVER_BINARY.max(1.0 + 7.0 / n.sqrt());
    if let Some(entropy) = shares.map(|shares| entropy(&shares)) {
        band.low = band.low.min(low * entropy / center);
        if entropy < 0.9 * center {
            band.best_constant = Some(entropy);
            band.advice = Some("start the last bias at `ln(share / (1 - share))` of the ones");
        }
    }
    Ok(band)
}

fn of_value(loss: f64) -> Result<Band> {
    match loss.is_finite() {
        true => {
            let room = 0.01 * loss.abs();
            Ok(Band::new("the value given, to 1 %", loss, loss - room, (loss + room, loss + room)))
        }
        false => Err(bad(format!("the value {loss}"), "a finite number")),
    }
}

fn between_ends(low: f64, high: f64) -> Result<Band> {
    match low.is_finite() && high.is_finite() && low <= high {
        true => Ok(Band::new("the band given", 0.5 * (low + high), low, (high, high))),
        false => {
            Err(bad(format!("between {low} and {high}"), "two finite numbers, the lower first"))
        }
    }
}

fn bad(was: impl std::fmt::Display, allowed: &str) -> Failure {
    Failure::bad_argument("expected", was, allowed)
}

/// The shares of the classes that come up; `None` where the targets are no class ids.
fn present(target: Option<&Tensor>, classes: usize) -> Result<Option<Vec<f64>>> {
    let Some(target) = target.filter(|t| !t.dtype().is_float() && t.elem_count() > 0) else {
        return Ok(None);
    };
    let mut counts = vec![0usize; classes];
    let labels = to_f64_vec(target)?;
    for label in &labels {
        match counts.get_mut(*label as usize).filter(|_| *label >= 0.0) {
            Some(count) => *count += 1,
            None => return Ok(None),
        }
    }
    let share = |count: usize| count as f64 / labels.len() as f64;
    Ok(Some(counts.into_iter().filter(|count| *count > 0).map(share).collect()))
}

fn entropy(shares: &[f64]) -> f64 {
    shares.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum()
}

/// The standard deviation of the logits about the mean of their row, with room for the chance of a small batch.
fn size_about_rows(output: &Tensor, classes: usize) -> Result<f64> {
    let values = to_f64_vec(output)?;
    let about: Vec<f64> = values
        .chunks_exact(classes)
        .flat_map(|row| {
            let mean = row.iter().sum::<f64>() / classes as f64;
            row.iter().map(move |v| v - mean)
        })
        .collect();
    let unbiased = classes as f64 / (classes as f64 - 1.0);
    Ok(1.5 * unbiased.sqrt() * root_mean_square(&about))
}
