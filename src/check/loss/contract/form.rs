//! The forms of a loss that are as good as each other.

use super::{probes::Probes, value::Measured};
use crate::{
    diagnose::loss_variant::tolerance,
    measure::losses::{Kind, Point, Reduction, Reference, terms},
};

/// The form of the claimed loss that the closure computes.
#[derive(Clone)]
pub(super) struct Accepted {
    pub(super) reference: Reference,
    pub(super) reduction: Reduction,
    pub(super) scale: f64,
}

impl Accepted {
    pub(super) fn value(&self, point: &Point) -> f64 {
        self.scale * self.reduction.of(&terms(&self.reference, point), point.width)
    }

    /// How far rounding may carry the closure from [`value`](Self::value).
    pub(super) fn tolerance(&self, point: &Point, epsilon: f64) -> f64 {
        let terms = terms(&self.reference, point);
        self.scale * tolerance(&terms, point, self.reduction, epsilon)
    }

    /// How far a measured value is from this form's.
    pub(super) fn off(&self, measured: &Measured) -> f64 {
        (measured.value - self.value(&measured.probe.point)).abs()
    }

    pub(super) fn agrees(&self, measured: &Measured, epsilon: f64) -> bool {
        self.off(measured) <= self.tolerance(&measured.probe.point, epsilon)
    }
}

/// The forms of the claimed loss that are as good as each other, the usual one first.
pub(super) fn forms(probes: &Probes<'_>) -> Vec<Accepted> {
    let contract = probes.contract;
    let Some(reference) = &contract.reference else { return Vec::new() };
    let mut references = vec![reference.clone()];
    if let Some(share) = contract.smoothing {
        references.push(reference.clone().smoothed_over_others(share, contract.classes));
    }
    let several = probes.shape.iter().product::<usize>() > 1 && reference.kind.is_elementwise()
        || probes.positions() > 1;
    let reductions = match (&reference.kind, contract.sum) {
        (Kind::Batch(_), _) | (_, true) => vec![Reduction::Sum],
        (_, false) if several => vec![Reduction::Mean, Reduction::MeanOfRowSums],
        (_, false) => vec![Reduction::Mean],
    };
    let scales = match reference.kind {
        Kind::Squared if contract.scale == 1.0 => vec![1.0, 0.5],
        _ => vec![contract.scale],
    };
    let mut forms = Vec::new();
    for scale in scales {
        for reduction in &reductions {
            for reference in &references {
                let (reference, reduction) = (reference.clone(), *reduction);
                forms.push(Accepted { reference, reduction, scale });
            }
        }
    }
    forms
}
