//! Which other loss a closure computes, where it does not compute the one it claims to.
//!
//! Cost: no call of the closure. The values it gave on random probes are compared with what each known mistake would have
//! given; a mistake that explains all of them to rounding is what the closure computes.

mod changes;
mod fitted;
mod tolerance;

use crate::{
    Cause,
    measure::losses::{Point, Reduction, Reference, Terms, terms},
    verdict::number,
};

pub(crate) use changes::Change;
pub(crate) use tolerance::tolerance;

/// What the closure gave for one probe.
pub(crate) struct Sample<'p> {
    pub(crate) point: &'p Point,
    pub(crate) value: f64,
    /// The distance from 1 to the next number of the probe's dtype.
    pub(crate) epsilon: f64,
}

/// What the loss claims to be.
pub(crate) struct Claim<'c> {
    pub(crate) name: &'c str,
    pub(crate) reference: &'c Reference,
    pub(crate) reduction: Reduction,
    pub(crate) scale: f64,
    /// The share of the declared label smoothing.
    pub(crate) smoothing: Option<f64>,
    /// Targets are distributions, not labels.
    pub(crate) soft: bool,
}

/// What the closure computes, and which mistakes make that of what it should.
pub(crate) struct Explained {
    /// The whole of it: `exactly the cross-entropy of softmax(prediction), summed over the batch`.
    pub(crate) says: String,
    pub(crate) causes: Vec<Cause>,
    pub(crate) advice: Option<String>,
}

/// Two values that agree by chance do not agree on probes of other rows.
const LEAST_FINITE: usize = 2;

/// The first mistake, or pair of mistakes, that gives every sample.
pub(crate) fn explain(claim: &Claim<'_>, samples: &[Sample<'_>]) -> Option<Explained> {
    let changes: Vec<Change> =
        std::iter::once(Change::none(claim)).chain(changes::of(claim)).collect();
    let costs: Vec<Costs> = changes.iter().map(|change| Costs::new(change, samples)).collect();
    let all = || changes.iter().zip(&costs);
    // One mistake before two: first another loss, then another reduction or sign, then both.
    for (change, costs) in all() {
        if costs.give(claim, claim.reduction, 1.0, samples) {
            return Some(told(claim, change, claim.reduction, false));
        }
    }
    for (change, costs) in all() {
        for negated in [false, true] {
            let sign = if negated { -1.0 } else { 1.0 };
            for reduction in std::iter::once(claim.reduction).chain(REDUCTIONS) {
                if costs.give(claim, reduction, sign, samples) {
                    return Some(told(claim, change, reduction, negated));
                }
            }
        }
    }
    fitted::explain(claim, &changes, &costs, samples)
}

const REDUCTIONS: [Reduction; 12] = [
    Reduction::Mean,
    Reduction::Sum,
    Reduction::OverNumber,
    Reduction::MeanOfRowSums,
    Reduction::MeanOfRowMeans,
    Reduction::OverWidth,
    Reduction::SumOfRowMeans,
    Reduction::OverRowsTwice,
    Reduction::FirstRow,
    Reduction::AllButLastRow,
    Reduction::RootOfMean,
    Reduction::RootOfSum,
];

/// What every sample costs by one loss, before its reduction.
struct Costs(Vec<(Terms, Point)>);

impl Costs {
    fn new(change: &Change, samples: &[Sample<'_>]) -> Self {
        let of = |sample: &Sample<'_>| {
            let point = change.point(sample.point);
            (terms(&change.reference, &point), point)
        };
        Self(samples.iter().map(of).collect())
    }

    /// Whether this loss gives every sample, and enough of them finite.
    fn give(
        &self,
        claim: &Claim<'_>,
        reduction: Reduction,
        sign: f64,
        samples: &[Sample<'_>],
    ) -> bool {
        let mut finite = 0;
        for (sample, (terms, point)) in samples.iter().zip(&self.0) {
            let expected = sign * claim.scale * reduction.of(terms, point.width);
            if !expected.is_finite() || !sample.value.is_finite() {
                // A logarithm of something negative: NaN on both sides is agreement that proves nothing.
                if expected.is_finite() != sample.value.is_finite() {
                    return false;
                }
                continue;
            }
            let near = claim.scale.abs() * tolerance(terms, point, reduction, sample.epsilon);
            if (expected - sample.value).abs() > near {
                return false;
            }
            finite += 1;
        }
        finite >= LEAST_FINITE
    }
}

fn told(claim: &Claim<'_>, change: &Change, reduction: Reduction, negated: bool) -> Explained {
    let mut causes = Vec::new();
    let mut says = if negated {
        causes.push(Cause::LossSign);
        format!("minus {}", change.says)
    } else {
        change.says.clone()
    };
    let (how, cause) = phrase(change, reduction);
    if reduction != claim.reduction {
        says = format!("{says}, {how}");
    }
    let reduced = (reduction != claim.reduction).then_some(cause);
    causes = change.cause.into_iter().chain(reduced).chain(causes).collect();
    if claim.scale != 1.0 {
        says = format!("{} times {says}", number(claim.scale));
    }
    let only_sum = change.cause.is_none() && reduction == Reduction::Sum && !negated;
    let advice = match only_sum {
        true => Some(
            "use `mean_all` so that the step does not change with the batch; a sum that is meant is declared, \
             `contract.sum()`"
                .to_owned(),
        ),
        false => change.advice.clone(),
    };
    Explained { says, causes, advice }
}

fn phrase(change: &Change, reduction: Reduction) -> (String, Cause) {
    let width = if change.reference.kind.is_of_classes() { "classes" } else { "features" };
    let (how, cause) = match reduction {
        Reduction::Mean => ("averaged, not summed", Cause::LossReduction),
        Reduction::Sum => ("summed over the batch, not averaged", Cause::LossReduction),
        Reduction::MeanOfRowSums => {
            ("summed over each row, then averaged over the rows", Cause::LossReduction)
        }
        Reduction::MeanOfRowMeans => (
            "averaged over each row first, so that labels of short rows count more",
            Cause::LossReduction,
        ),
        Reduction::OverNumber if change.reference.class_weights.is_some() => (
            "divided by the number of labels, not by the sum of their weights",
            Cause::LossReduction,
        ),
        Reduction::OverNumber => (
            "divided by the number of all labels, those that do not count included",
            Cause::LossReduction,
        ),
        Reduction::OverWidth => {
            return (format!("divided by the number of {width}, too"), Cause::LossReduction);
        }
        Reduction::SumOfRowMeans => {
            ("averaged over each row's features, then summed over the rows", Cause::LossReduction)
        }
        Reduction::OverRowsTwice => ("divided by the number of rows twice", Cause::LossReduction),
        Reduction::FirstRow => ("of the first row alone", Cause::LossIgnoresRows),
        Reduction::AllButLastRow => ("of all rows but the last", Cause::LossIgnoresRows),
        Reduction::RootOfMean => ("under a square root", Cause::ValuesDiffer),
        Reduction::RootOfSum => ("summed, under a square root", Cause::ValuesDiffer),
    };
    (how.to_owned(), cause)
}
