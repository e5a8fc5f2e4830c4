use std::{collections::BTreeMap, panic::Location};

use candle_core::Tensor;

use crate::{
    Cause, Failure, Finding, Result,
    check::{call, tensors::kind_of},
    measure::values::{is_floating, is_readable, multi_index, to_i64_vec},
    verdict::{count, listed, number},
};

/// Labels are what a loss over classes takes them for: whole numbers in `0..classes`, and every class comes up.
///
/// `y` is of an integer dtype (u8, u32, i16, i32, i64) and of any shape: `[rows]`, `[rows, time]`, `[rows, height, width]`.
///
/// # Failures
///
/// - a label outside `0..classes`: [`Cause::LabelOutOfRange`], also of those that candle takes without an error (u32 4294967295,
///   which is -1 written as u32);
/// - a class without a label: [`Cause::LabelMissingClass`]. So is, with [`balance`](Labels::balance), a class that is too
///   rare;
/// - no label at all, or none that counts, is [`Vacuous`](crate::FailureKind::Vacuous);
/// - a float dtype, or `classes` of 0: the check does not run.
///
/// ```
/// use candling::{check::Labels, prelude::*};
///
/// let y = Tensor::new(&[0u32, 2, 1, 1], &Device::Cpu)?;
/// let report = Labels::new().balance(3.0).check(&y, 3)?;
/// assert_eq!(report.counts, [1, 2, 1]);
///
/// let failure = Labels::new().check(&(y + 1.0)?, 3).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::LabelOutOfRange));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Labels {
    balance: Option<f64>,
    ignore: Option<i64>,
    allowed: Vec<Cause>,
}

/// What a passed [`Labels`] counted.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct LabelsReport {
    /// How many labels each class has.
    pub counts: Vec<usize>,
    /// How many labels are the ignored one.
    pub ignored: usize,
    /// How many times as many labels the most frequent class has as the least frequent one; infinite where one has none.
    pub ratio: f64,
}

impl Labels {
    /// Nothing is ignored, and classes may be as rare as they are.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The most times as many labels that the most frequent class may have as the least frequent one: 1 or more.
    /// Default: any.
    #[must_use]
    pub fn balance(mut self, ratio: f64) -> Self {
        self.balance = Some(ratio);
        self
    }

    /// A label that stands for none, as PyTorch's `ignore_index = -100`: it is in range, and of no class. Default: none.
    ///
    /// candle's `cross_entropy` has no such label: its rows have to be left out before the loss.
    #[must_use]
    pub fn ignore(mut self, label: i64) -> Self {
        self.ignore = Some(label);
        self
    }

    /// A cause that is no failure here. May be called several times.
    #[must_use]
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Looks at every label of `y`.
    ///
    /// # Errors
    ///
    /// A [`Failure`] as the type's documentation lists them.
    #[track_caller]
    pub fn check(&self, y: &Tensor, classes: usize) -> Result<LabelsReport> {
        let location = Location::caller();
        call::signed("labels", location, self.judge(y, classes))
    }

    fn judge(&self, y: &Tensor, classes: usize) -> Result<LabelsReport> {
        self.arguments(y, classes)?;
        let labels = to_i64_vec(y)?;
        let counted = Counted::of(&labels, classes, self.ignore);
        if counted.ignored == labels.len() {
            let failure = match labels.len() {
                0 => Failure::vacuous("there are no labels"),
                n => Failure::vacuous(format!(
                    "none of {} counts: all are {}, which is ignored",
                    count(n, "label"),
                    self.ignore.unwrap_or_default(),
                )),
            };
            return Err(failure.fact("labels", kind_of(y)));
        }
        let out_of_range = counted.out_of_range(y, labels.len());
        let missing = counted.missing();
        let rare = self.balance.and_then(|balance| counted.rare(balance));
        let findings: Vec<(String, Finding)> = [out_of_range, missing, rare]
            .into_iter()
            .flatten()
            .filter(|(_, finding)| !self.allowed.contains(&finding.cause()))
            .collect();
        if findings.is_empty() {
            return Ok(LabelsReport {
                ratio: counted.ratio(),
                counts: counted.counts,
                ignored: counted.ignored,
            });
        }
        let headlines: Vec<&str> = findings.iter().map(|(line, _)| line.as_str()).collect();
        let mut failure = Failure::violated(headlines.join("; "))
            .fact("labels", kind_of(y))
            .fact("classes", classes.to_string())
            .fact("counts", counted.table());
        if counted.ignored > 0 {
            failure = failure.fact(
                "ignored",
                format!("{} of {}", counted.ignored, self.ignore.unwrap_or_default()),
            );
        }
        Err(failure.with_findings(findings.into_iter().map(|(_, finding)| finding)))
    }

    fn arguments(&self, y: &Tensor, classes: usize) -> Result<()> {
        if classes == 0 {
            return Err(Failure::bad_argument("classes", classes, "1 or more"));
        }
        if let Some(ratio) = self.balance.filter(|ratio| ratio.is_nan() || *ratio < 1.0) {
            return Err(Failure::bad_argument(
                "balance",
                ratio,
                "1 or more: how many times as many labels the most frequent class may have",
            ));
        }
        if let Some(ignored) = self.ignore.filter(|label| (0..classes as i64).contains(label)) {
            return Err(Failure::bad_argument(
                "ignore",
                format_args!("{ignored}, a class of its own"),
                format_args!("a label outside 0..{classes}"),
            ));
        }
        if is_floating(y.dtype()) || !is_readable(y.dtype()) {
            return Err(Failure::bad_argument(
                "y",
                kind_of(y),
                "labels of an integer dtype, as u32",
            )
            .help(
                "labels in a float tensor go through a rounding (bf16 has no 257): read them as integers, or `to_dtype(DType::U32)`; a binary target of 0. and 1. is no label of a class",
            ));
        }
        Ok(())
    }
}

/// The labels by class.
struct Counted {
    counts: Vec<usize>,
    ignored: usize,
    /// Labels outside the classes: how many there are of each, and where the first is.
    outside: BTreeMap<i64, (usize, usize)>,
}

impl Counted {
    fn of(labels: &[i64], classes: usize, ignore: Option<i64>) -> Self {
        let mut counted = Self { counts: vec![0; classes], ignored: 0, outside: BTreeMap::new() };
        for (position, label) in labels.iter().enumerate() {
            if ignore == Some(*label) {
                counted.ignored += 1;
            } else if let Some(class) =
                usize::try_from(*label).ok().and_then(|class| counted.counts.get_mut(class))
            {
                *class += 1;
            } else {
                counted.outside.entry(*label).or_insert((0, position)).0 += 1;
            }
        }
        counted
    }

    fn ratio(&self) -> f64 {
        let least = self.counts.iter().min().copied().unwrap_or(0);
        let most = self.counts.iter().max().copied().unwrap_or(0);
        if least == 0 { f64::INFINITY } else { most as f64 / least as f64 }
    }

    fn out_of_range(&self, y: &Tensor, n: usize) -> Option<(String, Finding)> {
        let classes = self.counts.len();
        let (label, (_, position)) =
            self.outside.iter().min_by_key(|(_, (_, position))| *position)?;
        let bad: usize = self.outside.values().map(|(count, _)| count).sum();
        let headline = match (bad, n) {
            (1, 1) => format!("the only label is outside 0..{classes}"),
            (1, n) => format!("1 of {n} labels is outside 0..{classes}"),
            (bad, n) => format!("{bad} of {n} labels are outside 0..{classes}"),
        };
        let place = format!("{:?}", multi_index(*position, y.dims()));
        let known: Vec<String> = self.outside.keys().map(i64::to_string).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let mut finding = if self.counts_from_one() {
            Finding::confirmed(
                Cause::LabelOutOfRange,
                format!("the labels are 1..={classes}, and none is 0: they count from 1"),
            )
            .advice_is("subtract 1 where the labels are read; one output more on the head hides it")
        } else if *label == i64::from(u32::MAX) {
            Finding::confirmed(
                Cause::LabelOutOfRange,
                format!("label {label}, which is -1 as a u32"),
            )
            .advice_is("candle takes this label without an error and gives its row a loss of 0: leave such rows out before the loss")
        } else if known.len() == 1 {
            Finding::confirmed(Cause::LabelOutOfRange, format!("label {label}"))
        } else {
            Finding::confirmed(
                Cause::LabelOutOfRange,
                format!("label {label}; outside are {}", listed(&known)),
            )
        };
        if self.outside.keys().all(|label| *label < 0) && self.outside.len() == 1 {
            finding = finding
                .advice_is(format!("if {label} marks rows without a label, say `ignore = {label}`, and leave them out before the loss"));
        }
        Some((headline, finding.at(place)))
    }

    /// All of `1..=classes` and nothing else.
    fn counts_from_one(&self) -> bool {
        let classes = self.counts.len() as i64;
        self.outside.keys().eq([classes].iter())
            && self.counts[0] == 0
            && self.counts[1..].iter().all(|count| *count > 0)
    }

    fn missing(&self) -> Option<(String, Finding)> {
        // One bug, told once.
        if self.counts_from_one() {
            return None;
        }
        let missing: Vec<String> = (0..self.counts.len())
            .filter(|class| self.counts[*class] == 0)
            .map(|class| class.to_string())
            .collect();
        let names: Vec<&str> = missing.iter().map(String::as_str).collect();
        let (classes, labels) = (self.counts.len(), self.counts.iter().sum::<usize>());
        let headline = match names.as_slice() {
            [] => return None,
            [class] => format!("class {class} has no label"),
            more => format!("{} of {classes} have no label", count(more.len(), "class")),
        };
        let present: Vec<usize> = (0..classes).filter(|class| self.counts[*class] > 0).collect();
        let (evidence, advice) = match present.as_slice() {
            [only] if labels > 1 => (
                format!("all {labels} labels are {only}"),
                "look at what reads the labels: a column of one value was taken, or one folder",
            ),
            _ if labels < classes => (
                format!("{} cannot hold {}", count(labels, "label"), count(classes, "class")),
                "give the labels of the whole set; a small batch of many classes is `allow = Cause::LabelMissingClass`",
            ),
            _ => (
                format!("none of {} is {}", count(labels, "label"), listed(&names)),
                "check the label mapping, and a split of rows that are sorted by class",
            ),
        };
        let finding = Finding::confirmed(Cause::LabelMissingClass, evidence).advice_is(advice);
        Some((headline, finding))
    }

    /// A class with too few labels; one with none is told by [`missing`](Self::missing).
    fn rare(&self, balance: f64) -> Option<(String, Finding)> {
        let ratio = self.ratio();
        if ratio <= balance || ratio.is_infinite() {
            return None;
        }
        let by_count = |class: &usize| self.counts[*class];
        let rarest = (0..self.counts.len()).min_by_key(by_count)?;
        let most = (0..self.counts.len()).rev().max_by_key(by_count)?;
        let headline = format!(
            "class {most} has {} times as many labels as class {rarest}, allowed {}",
            number(ratio),
            number(balance)
        );
        let evidence = format!(
            "{} of class {rarest}, {} of class {most}",
            count(self.counts[rarest], "label"),
            self.counts[most]
        );
        let finding = Finding::confirmed(Cause::LabelMissingClass, evidence).advice_is(
            "collect or oversample the rare class after the split, or weight the loss; what is so by nature belongs into `balance`",
        );
        Some((headline, finding))
    }

    /// `0: 5, 1: 3, 2: 0`.
    fn table(&self) -> String {
        const SHOWN: usize = 12;
        let shown: Vec<String> = (self.counts.iter().enumerate().take(SHOWN))
            .map(|(class, count)| format!("{class}: {count}"))
            .collect();
        match self.counts.len().saturating_sub(SHOWN) {
            0 => shown.join(", "),
            more => format!("{} and {more} more", shown.join(", ")),
        }
    }
}
