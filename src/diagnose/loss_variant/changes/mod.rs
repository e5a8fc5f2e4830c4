//! The known mistakes, each as another loss.

mod classes;
mod elements;
mod pairs;

use super::Claim;
use crate::{
    Cause,
    measure::losses::{Kind, Point, Reference},
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
        Kind::CrossEntropy | Kind::NegativeLogLikelihood => classes::of_classes(&mut changes),
        Kind::KullbackLeibler => classes::of_distributions(&mut changes),
        Kind::BinaryCrossEntropy => elements::of_probabilities(&mut changes),
        Kind::BinaryCrossEntropyWithLogits => elements::of_binary_logits(&mut changes),
        Kind::Squared | Kind::Absolute | Kind::Huber(_) => elements::of_numbers(&mut changes),
        Kind::Contrastive(pairs) => pairs::of_pairs(&mut changes, pairs),
        _ => {}
    }
    if claim.reference.kind.is_elementwise() {
        let says = format!("the {} of every prediction against every target", claim.name);
        changes.add(Cause::LossBroadcast, says, Point::clone, |r| r.crossed = true);
    }
    changes.found
}
