//! Losses that are another one's multiple, or the claimed one with another constant.

use super::{Change, Claim, Costs, Explained, Sample, tolerance};
use crate::{
    Cause,
    measure::losses::{Kind, terms},
    verdict::number,
};

pub(super) fn explain(
    claim: &Claim<'_>,
    changes: &[Change],
    costs: &[Costs],
    samples: &[Sample<'_>],
) -> Option<Explained> {
    smoothing(claim, samples)
        .or_else(|| delta(claim, samples))
        .or_else(|| multiple(claim, changes, costs, samples))
        .or_else(|| constant(claim, costs.first()?, samples))
}

fn gives(change: &Change, claim: &Claim<'_>, samples: &[Sample<'_>]) -> bool {
    Costs::new(change, samples).give(claim, claim.reduction, 1.0, samples)
}

fn reduced(change: &Change, claim: &Claim<'_>, sample: &Sample<'_>) -> f64 {
    let point = change.point(sample.point);
    claim.scale * claim.reduction.of(&terms(&change.reference, &point), point.width)
}

/// A loss of smoothed labels is linear in the share: two values tell it, the other samples confirm it.
fn smoothing(claim: &Claim<'_>, samples: &[Sample<'_>]) -> Option<Explained> {
    let first = samples.iter().find(|sample| sample.value.is_finite())?;
    let of_labels =
        matches!(claim.reference.kind, Kind::CrossEntropy | Kind::NegativeLogLikelihood);
    if !of_labels || first.point.soft {
        return None;
    }
    let classes = first.point.width as f64;
    let with = |share: f64| {
        let mut change = Change::none(claim);
        change.reference.other = share / classes;
        change.reference.own = 1.0 - share + share / classes;
        change
    };
    let (none, all) = (reduced(&with(0.0), claim, first), reduced(&with(1.0), claim, first));
    let share = (first.value - none) / (all - none);
    let is_share = share > 1e-3 && share < 1.0 - 1e-3;
    if !(is_share && gives(&with(share), claim, samples)) {
        return None;
    }
    let declared = match claim.smoothing {
        Some(declared) => format!("{} is declared", number(declared)),
        None => "none is declared".to_owned(),
    };
    Some(Explained {
        says: format!(
            "the {} with a label smoothing of {} over all classes; {declared}",
            claim.name,
            number(share),
        ),
        causes: vec![Cause::ValuesDiffer],
        advice: Some(format!(
            "where it is meant, declare it: `contract.label_smoothing({})`",
            number(share)
        )),
    })
}

/// A Huber loss grows with its delta: bisection finds the one that gives the first sample.
fn delta(claim: &Claim<'_>, samples: &[Sample<'_>]) -> Option<Explained> {
    let first = samples.iter().find(|sample| sample.value.is_finite())?;
    let Kind::Huber(declared) = claim.reference.kind else {
        return None;
    };
    let with = |delta: f64| {
        let mut change = Change::none(claim);
        change.reference.kind = Kind::Huber(delta);
        change
    };
    let (mut low, mut high) = (1e-6 * declared, 1e3 * declared);
    for _ in 0..60 {
        let middle = (low * high).sqrt();
        if reduced(&with(middle), claim, first) < first.value {
            low = middle;
        } else {
            high = middle;
        }
    }
    if !gives(&with(high), claim, samples) || high > 900.0 * declared {
        return None;
    }
    Some(Explained {
        says: format!("the Huber loss of delta {}; {} is declared", number(high), number(declared)),
        causes: vec![Cause::ValuesDiffer],
        advice: Some("give the loss and the contract one delta".to_owned()),
    })
}

/// The same factor on every sample, whatever their rows.
fn multiple(
    claim: &Claim<'_>,
    changes: &[Change],
    costs: &[Costs],
    samples: &[Sample<'_>],
) -> Option<Explained> {
    let first = samples.iter().position(|sample| sample.value.is_finite())?;
    for (change, costs) in changes.iter().zip(costs) {
        let (terms, point) = &costs.0[first];
        let own = claim.scale * claim.reduction.of(terms, point.width);
        let factor = samples[first].value / own;
        // False for NaN, too.
        if !(1e-6..1e6).contains(&factor.abs()) {
            continue;
        }
        // Two samples fix a factor by chance more easily than a whole loss: three have to agree.
        let finite = samples.iter().filter(|sample| sample.value.is_finite()).count();
        let scaled = Claim { scale: claim.scale * factor, ..*claim };
        if finite < 3 || !costs.give(&scaled, claim.reduction, 1.0, samples) {
            continue;
        }
        let names = [
            (1.0 / std::f64::consts::LN_2, "a logarithm of base 2 gives that"),
            (1.0 / std::f64::consts::LN_10, "a logarithm of base 10 gives that"),
        ];
        let close = |value: f64| (factor.abs() / value - 1.0).abs() < 1e-3;
        let known = names.iter().find(|(value, _)| close(*value)).map(|(_, why)| (*why).to_owned());
        let known = known.or(match claim.reference.kind {
            Kind::Huber(delta) if close(1.0 / delta) => {
                Some("divided by delta it is PyTorch's `SmoothL1Loss`".to_owned())
            }
            _ => None,
        });
        let why = known.map(|why| format!("; {why}")).unwrap_or_default();
        let own = change.cause.into_iter();
        let causes = match factor < 0.0 {
            true => own.chain([Cause::LossSign]).collect(),
            false if change.cause.is_none() => vec![Cause::ValuesDiffer],
            false => own.collect(),
        };
        return Some(Explained {
            says: format!("{} times {}{why}", number(factor), change.says),
            causes,
            advice: change.cause.is_none().then(|| {
                format!(
                    "where the factor is meant, declare it: `contract.scale({})`",
                    number(factor)
                )
            }),
        });
    }
    None
}

/// The claimed loss and something that does not depend on the batch: a penalty, an entropy, an offset.
fn constant(claim: &Claim<'_>, own: &Costs, samples: &[Sample<'_>]) -> Option<Explained> {
    let differences: Vec<(f64, f64)> = (samples.iter().zip(&own.0))
        .map(|(sample, (terms, point))| {
            let near = claim.scale * tolerance(terms, point, claim.reduction, sample.epsilon);
            (sample.value - claim.scale * claim.reduction.of(terms, point.width), near)
        })
        .collect();
    let (first, _) = *differences.first()?;
    // NaN agrees with nothing.
    let agree =
        differences.iter().all(|(difference, near)| (difference - first).abs() <= 2.0 * near);
    if differences.len() < 3 || !agree {
        return None;
    }
    Some(Explained {
        says: format!("the {} plus {} in every batch", claim.name, number(first)),
        causes: vec![Cause::ValuesDiffer],
        advice: Some(
            "look for a penalty or an offset that is added inside the loss; test the loss without it"
                .to_owned(),
        ),
    })
}
