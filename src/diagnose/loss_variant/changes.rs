//! The known mistakes, each as another loss.

use super::Claim;
use crate::{
    Cause,
    measure::losses::{Kind, Pairs, Point, Reference, argmax, log_softmax, sigmoid, softmax},
};

/// Another loss than the claimed one.
pub(crate) struct Change {
    /// What is computed: `the cross-entropy of softmax(prediction)`.
    pub(crate) says: String,
    /// `None` for the claimed loss itself.
    pub(crate) cause: Option<Cause>,
    pub(crate) reference: Reference,
    pub(crate) advice: Option<String>,
    prepare: fn(&Point) -> Point,
}

impl Change {
    pub(crate) fn none(claim: &Claim<'_>) -> Self {
        Self {
            says: format!("the {}", claim.name),
            cause: None,
            reference: claim.reference.clone(),
            advice: None,
            prepare: Point::clone,
        }
    }

    pub(crate) fn point(&self, point: &Point) -> Point {
        (self.prepare)(point)
    }
}

/// Collects changes of one claim.
struct Changes<'c> {
    claim: &'c Claim<'c>,
    found: Vec<Change>,
}

impl Changes<'_> {
    fn add(
        &mut self,
        cause: Cause,
        says: impl Into<String>,
        prepare: fn(&Point) -> Point,
        change: impl FnOnce(&mut Reference),
    ) -> &mut Change {
        let mut reference = self.claim.reference.clone();
        change(&mut reference);
        self.found.push(Change {
            says: says.into(),
            cause: Some(cause),
            reference,
            advice: None,
            prepare,
        });
        let last = self.found.len() - 1;
        &mut self.found[last]
    }

    /// The same numbers under another formula.
    fn kind(&mut self, cause: Cause, says: &str, kind: Kind) -> &mut Change {
        self.add(cause, says, Point::clone, |reference| reference.kind = kind)
    }
}

pub(super) fn of(claim: &Claim<'_>) -> Vec<Change> {
    let mut changes = Changes { claim, found: Vec::new() };
    match claim.reference.kind {
        Kind::CrossEntropy | Kind::NegativeLogLikelihood => of_classes(&mut changes),
        Kind::KullbackLeibler => of_distributions(&mut changes),
        Kind::BinaryCrossEntropy => of_probabilities(&mut changes),
        Kind::BinaryCrossEntropyWithLogits => of_binary_logits(&mut changes),
        Kind::Squared | Kind::Absolute | Kind::Huber(_) => of_numbers(&mut changes),
        Kind::Contrastive(pairs) => of_pairs(&mut changes, pairs),
        _ => {}
    }
    if claim.reference.kind.is_elementwise() {
        let says = format!("the {} of every prediction against every target", claim.name);
        changes.add(Cause::LossBroadcast, says, Point::clone, |r| r.crossed = true);
    }
    changes.found
}

fn of_classes(changes: &mut Changes<'_>) {
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

fn of_distributions(changes: &mut Changes<'_>) {
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

fn of_probabilities(changes: &mut Changes<'_>) {
    changes.kind(
        Cause::LossOnProbabilities,
        "the binary cross-entropy of sigmoid(prediction), of predictions that are probabilities already",
        Kind::BinaryCrossEntropyWithLogits,
    );
    binary(changes);
}

fn of_binary_logits(changes: &mut Changes<'_>) {
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

fn of_numbers(changes: &mut Changes<'_>) {
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

fn of_pairs(changes: &mut Changes<'_>, pairs: Pairs) {
    let name = changes.claim.name;
    let with = |changes: &mut Changes<'_>, says: String, pairs: Pairs| {
        changes.add(Cause::ValuesDiffer, says, Point::clone, |r| r.kind = Kind::Contrastive(pairs));
    };
    let t = pairs.temperature;
    for (says, temperature) in [
        ("without the temperature", 1.0),
        ("multiplied by the temperature, not divided", 1.0 / t),
        ("divided by the temperature twice", t * t),
        ("divided by the root of the temperature", t.sqrt()),
    ] {
        with(changes, format!("the {name} of similarities {says}"), Pairs { temperature, ..pairs });
    }
    if pairs.one_pool {
        let says = format!("the {name} with every row compared with itself, too");
        with(changes, says, Pairs { with_itself: true, ..pairs });
        let says = format!("the InfoNCE loss at temperature {t}, from one view to the other alone");
        with(changes, says, Pairs { one_pool: false, ..pairs });
        let both = Pairs { one_pool: false, both_ways: true, ..pairs };
        let says = format!(
            "the InfoNCE loss at temperature {t}, both ways, without the pairs inside a view"
        );
        with(changes, says, both);
    } else {
        let (says, both_ways) = match pairs.both_ways {
            true => ("one way alone", false),
            false => ("both ways; declare that as `contract.both_ways()`", true),
        };
        with(changes, format!("the {name}, {says}"), Pairs { both_ways, ..pairs });
        let says = format!("the {name}, from the targets to the predictions");
        changes.add(
            Cause::ValuesDiffer,
            says,
            |point| Point {
                prediction: point.target.clone(),
                target: point.prediction.clone(),
                ..point.clone()
            },
            |_| (),
        );
    }
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
