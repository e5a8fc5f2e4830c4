//! Mistakes in losses of elements.

use super::Changes;
use crate::{
    Cause,
    measure::losses::{Kind, Point, sigmoid},
};

pub(super) fn of_probabilities(changes: &mut Changes<'_>) {
    changes.kind(
        Cause::LossOnProbabilities,
        "the binary cross-entropy of sigmoid(prediction), of predictions that are probabilities already",
        Kind::BinaryCrossEntropyWithLogits,
    );
    binary(changes);
}

pub(super) fn of_binary_logits(changes: &mut Changes<'_>) {
    changes.add(
        Cause::LossOnProbabilities,
        "the binary cross-entropy of sigmoid(sigmoid(prediction))",
        |point| point.map(sigmoid),
        |_| (),
    );
    changes.kind(
        Cause::LossOnLogits,
        "the binary cross-entropy of the raw predictions, as if they were probabilities",
        Kind::BinaryCrossEntropy,
    );
    changes.add(
        Cause::ValuesDiffer,
        "the squared error of the probabilities",
        |point| point.map(sigmoid),
        |r| r.kind = Kind::Squared,
    );
    changes.kind(Cause::LossOnLogits, "the squared error of the raw predictions", Kind::Squared);
    binary(changes);
}

fn binary(changes: &mut Changes<'_>) {
    let (name, weight) = (changes.claim.name, changes.claim.reference.positive);
    let says = format!("the {name}, of the targets of 1 alone");
    changes.add(Cause::ValuesDiffer, says, Point::clone, |r| r.negative = 0.0);
    let says = format!("the {name}, of the targets of 0 alone");
    changes.add(Cause::ValuesDiffer, says, Point::clone, |r| (r.positive, r.negative) = (0.0, 1.0));
    let says = format!("the {name} with 1 and 0 in each other's place");
    changes.add(
        Cause::ValuesDiffer,
        says,
        |point| Point { target: point.target.iter().map(|t| 1.0 - t).collect(), ..point.clone() },
        |_| (),
    );
    if weight != 1.0 {
        let says = format!("the {name} with its positive weight on the targets of 0");
        changes.add(Cause::ValuesDiffer, says, Point::clone, |r| {
            (r.positive, r.negative) = (1.0, weight);
        });
        let says = format!("the {name} with its positive weight on both terms");
        changes.add(Cause::ValuesDiffer, says, Point::clone, |r| r.negative = weight);
        let says = format!("the {name} without its positive weight");
        changes.add(Cause::ValuesDiffer, says, Point::clone, |r| r.positive = 1.0);
    }
}

pub(super) fn of_numbers(changes: &mut Changes<'_>) {
    let others = [
        ("the squared error", Kind::Squared),
        ("the absolute error", Kind::Absolute),
        ("the Huber loss of delta 1", Kind::Huber(1.0)),
    ];
    for (says, kind) in others {
        if std::mem::discriminant(&kind) != std::mem::discriminant(&changes.claim.reference.kind) {
            changes.kind(Cause::ValuesDiffer, says, kind);
        }
    }
    changes.add(
        Cause::LossOnLogits,
        "minus the target times the logarithm of the prediction: a cross-entropy, of numbers that are no probabilities",
        Point::clone,
        |r| (r.kind, r.negative) = (Kind::BinaryCrossEntropy, 0.0),
    );
    changes.kind(
        Cause::LossOnLogits,
        "a binary cross-entropy of predictions that are no probabilities",
        Kind::BinaryCrossEntropy,
    );
    let name = changes.claim.name;
    changes.add(
        Cause::OutputBounded,
        format!("the {name} of sigmoid(prediction)"),
        |point| point.map(sigmoid),
        |_| (),
    );
    changes.add(
        Cause::OutputBounded,
        format!("the {name} of tanh(prediction)"),
        |point| point.map(f64::tanh),
        |_| (),
    );
    changes.add(
        Cause::OutputBounded,
        format!("the {name} of relu(prediction)"),
        |point| point.map(|v| v.max(0.0)),
        |_| (),
    );
    let sum =
        format!("the {name} of minus the prediction: added to the target, not compared with it");
    changes.add(Cause::ValuesDiffer, sum, |point| point.map(|v| -v), |_| ());
    let zero = format!("the {name} of the prediction against 0");
    changes.add(
        Cause::LossIgnoresTarget,
        zero,
        |point| Point { target: vec![0.0; point.target.len()], ..point.clone() },
        |_| (),
    );
}
