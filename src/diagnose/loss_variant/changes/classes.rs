//! Mistakes in losses over classes.

use super::Changes;
use crate::{
    Cause,
    measure::losses::{Kind, Point, argmax, log_softmax, sigmoid, softmax},
};

pub(super) fn of_classes(changes: &mut Changes<'_>) {
    let claim = changes.claim;
    let (name, reference) = (claim.name, claim.reference.clone());
    let probabilities = |point: &Point| point.map_rows(softmax);
    changes.add(
        Cause::LossOnProbabilities,
        format!("the {name} of softmax(prediction)"),
        probabilities,
        |_| (),
    );
    changes.add(
        Cause::LossOnProbabilities,
        "minus the probability of the label, without a logarithm",
        probabilities,
        |r| r.kind = Kind::NegativeLogLikelihood,
    );
    changes.add(
        Cause::LossOnProbabilities,
        format!("the {name} of sigmoid(prediction)"),
        |point| point.map(sigmoid),
        |_| (),
    );
    if matches!(reference.kind, Kind::CrossEntropy) {
        changes.kind(
            Cause::LossOnLogits,
            "minus the label's raw prediction, as if that were a log-probability",
            Kind::NegativeLogLikelihood,
        );
        changes.add(
            Cause::LossOnLogits,
            "minus the logarithm of the label's raw prediction, as if that were a probability",
            |point| point.map(f64::ln),
            |r| r.kind = Kind::NegativeLogLikelihood,
        );
    }
    changes.add(
        Cause::BatchMixed,
        format!("the {name} of a softmax over the rows, not over the classes"),
        softmax_over_rows,
        |r| r.kind = Kind::NegativeLogLikelihood,
    );
    if !claim.soft {
        changes.add(
            Cause::LossIgnoresTarget,
            format!("the {name} of the prediction against its own largest value"),
            |point| {
                let target = point.predictions().map(|row| argmax(row) as f64).collect();
                Point { target, ..point.clone() }
            },
            |_| (),
        );
        changes.add(
            Cause::NotInvariant,
            "the squared error of the expected class index: class 3 counts as nearer to 4 than to 9",
            |point| {
                let mean = |row: &[f64]| {
                    softmax(row).iter().enumerate().map(|(i, p)| i as f64 * p).sum::<f64>()
                };
                let prediction = point.predictions().map(mean).collect();
                Point { prediction, width: 1, ..point.clone() }
            },
            |r| r.kind = Kind::Squared,
        );
        changes.add(
            Cause::ValuesDiffer,
            "the squared error of the probabilities against the label's one-hot row",
            |point| one_hot(&point.map_rows(softmax)),
            |r| r.kind = Kind::Squared,
        );
        changes.add(
            Cause::LossOnLogits,
            "the squared error of the raw predictions against the label's one-hot row",
            one_hot,
            |r| r.kind = Kind::Squared,
        );
        changes.add(
            Cause::ValuesDiffer,
            "a binary cross-entropy of each class by itself, as if rows could have several labels",
            one_hot,
            |r| r.kind = Kind::BinaryCrossEntropyWithLogits,
        );
    }
    if reference.shift != 0 {
        let says = format!("the {name}, without the shift to the next token");
        let change = changes.add(Cause::PairsBroken, says, Point::clone, |r| r.shift = 0);
        change.advice = Some(
            "compare position t with token t + 1: `logits.narrow(1, 0, time - 1)` against `tokens.narrow(1, 1, time - 1)`"
                .to_owned(),
        );
        let says = format!("the {name} against the token after the next: shifted twice");
        changes.add(Cause::PairsBroken, says, Point::clone, |r| r.shift = 2);
        let says = format!("the {name} against the token before: shifted the wrong way");
        changes.add(Cause::PairsBroken, says, Point::clone, |r| r.shift = -1);
    } else {
        let says = format!("the {name} against the token after the position's own: it shifts");
        let change = changes.add(Cause::PairsBroken, says, Point::clone, |r| r.shift = 1);
        change.advice =
            Some("where the loss shifts by itself, declare it: `contract.next_token()`".to_owned());
    }
    if reference.ignored.is_some() {
        let says = format!("the {name} with the ignored label counted as any other");
        let change = changes.add(Cause::PaddingLeak, says, Point::clone, |r| r.ignored = None);
        change.advice = Some("mask the padded positions in the loss".to_owned());
        let says = format!("the {name} with the ignored label counted as class 0");
        let zero = |point: &Point| Point {
            target: point.target.iter().map(|label| label.max(0.0)).collect(),
            ..point.clone()
        };
        changes.add(Cause::PaddingLeak, says, zero, |r| r.ignored = None);
    }
    if reference.ignored.is_none() && !claim.soft {
        let says = format!("the {name} without the labels of 0");
        let change =
            changes.add(Cause::LossIgnoresRows, says, Point::clone, |r| r.ignored = Some(0.0));
        change.advice = Some(
            "where label 0 is padding, declare it: `contract.ignore_index(0)`; else count its rows"
                .to_owned(),
        );
    }
    if reference.class_weights.is_some() {
        let says = format!("the {name} without the class weights");
        changes.add(Cause::ValuesDiffer, says, Point::clone, |r| r.class_weights = None);
        let says = format!("the {name} with each class weight inverted");
        changes.add(Cause::ValuesDiffer, says, Point::clone, |r| {
            let weights = r.class_weights.iter().flatten();
            r.class_weights = Some(weights.map(|weight| 1.0 / weight).collect());
        });
    }
    smoothing(changes);
}

fn smoothing(changes: &mut Changes<'_>) {
    let claim = changes.claim;
    let name = claim.name;
    let Some(share) = claim.smoothing else {
        return;
    };
    let r = claim.reference;
    // Over C classes `own - other` is 1 - share, `other` is share / C.
    let classes = (share / r.other).round();
    let says = format!("the {name} without its label smoothing");
    changes.add(Cause::ValuesDiffer, says, Point::clone, |r| (r.own, r.other) = (1.0, 0.0));
    let sum = |own: f64, other: f64| own + (classes - 1.0) * other;
    for (own, other) in [
        (1.0 - share, share / classes),
        (1.0 - share + share / classes, share / (classes - 1.0)),
        (1.0, share / classes),
        (1.0, share / (classes - 1.0)),
        (1.0 - share, share),
    ] {
        let says = format!(
            "the {name} with label weights of {own:.4} and {other:.4}, which sum to {:.4}, not to 1",
            sum(own, other),
        );
        let change = changes
            .add(Cause::LossReduction, says, Point::clone, |r| (r.own, r.other) = (own, other));
        change.advice = Some(
            "the label's weight is 1 - share + share / classes with share / classes for every other, or 1 - share with \
             share / (classes - 1)"
                .to_owned(),
        );
    }
    let even = 1.0 / classes;
    let says =
        format!("the {name} with a label smoothing of 1: every class is as right as any other");
    changes.add(Cause::LossIgnoresTarget, says, Point::clone, |r| (r.own, r.other) = (even, even));
}

pub(super) fn of_distributions(changes: &mut Changes<'_>) {
    changes.kind(
        Cause::ValuesDiffer,
        "the divergence of the prediction from the target: the two are in each other's place",
        Kind::KullbackLeiblerSwapped,
    );
    changes.kind(
        Cause::ValuesDiffer,
        "the cross-entropy of the two: the target's own entropy is not taken off",
        Kind::NegativeLogLikelihood,
    );
    let name = changes.claim.name;
    changes.add(
        Cause::LossOnProbabilities,
        format!("the {name} with probabilities where log-probabilities belong"),
        |point| point.map_rows(softmax),
        |_| (),
    );
}

/// Labels as rows of zeros with a one.
fn one_hot(point: &Point) -> Point {
    if point.soft {
        return point.clone();
    }
    let row = |label: f64| (0..point.width).map(move |class| f64::from(class as f64 == label));
    let target = point.target.iter().copied().flat_map(row).collect();
    Point { target, ..point.clone() }
}

/// Log-probabilities of a softmax down each column.
fn softmax_over_rows(point: &Point) -> Point {
    let (width, rows) = (point.width, point.prediction.len() / point.width);
    let mut prediction = point.prediction.clone();
    for column in 0..width {
        let values: Vec<f64> =
            (0..rows).map(|row| point.prediction[row * width + column]).collect();
        for (row, value) in log_softmax(&values).into_iter().enumerate() {
            prediction[row * width + column] = value;
        }
    }
    Point { prediction, ..point.clone() }
}
