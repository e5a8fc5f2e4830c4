//! Predictions whose loss the user knows.

use super::{
    LossContractReport, Seen,
    closure::{Loss, called_with},
    value::digits,
};
use crate::{
    Cause, Contract, Finding, Result,
    contract::{Example, Role},
    measure::noise::epsilon,
    verdict::number,
};

/// A value that the user writes down has some digits, not all.
const SHARE: f64 = 1e-3;

/// A loss in low precision, of some hundred terms.
const ROUNDINGS: f64 = 16.0;

pub(super) fn judge(
    loss: &mut Loss<'_>,
    contract: &Contract,
    report: &mut LossContractReport,
    seen: &mut Vec<Seen>,
) -> Result<()> {
    let mut values: Vec<(Role, f64)> = Vec::new();
    for example in &contract.examples {
        let value = loss.value(&example.prediction, &example.target)?;
        values.push((example.role, value));
        known(contract, example, value, seen);
        finite(loss, example, value, seen)?;
    }
    let of = |role: Role| values.iter().find(|(other, _)| *other == role).map(|(_, value)| *value);
    report.perfect = of(Role::Perfect).or(report.perfect);
    report.uniform = of(Role::Baseline).or(report.uniform);
    report.wrong = of(Role::Wrong).or(report.wrong);
    let order = [Role::Perfect, Role::Baseline, Role::Wrong];
    let named: Vec<(Role, f64)> = order.into_iter().filter_map(|r| Some((r, of(r)?))).collect();
    for pair in named.windows(2) {
        let [(low, less), (high, more)] = pair else { continue };
        if less >= more {
            let evidence =
                format!("{} {}, {} {}", name(*low), digits(*less), name(*high), digits(*more));
            seen.push(Seen::new(
                format!("a {} prediction costs no less than a {} one", name(*low), name(*high)),
                Finding::confirmed(order_cause(*low, *high), evidence),
            ));
            return Ok(());
        }
    }
    Ok(())
}

/// Perfect above wrong is a loss upside down; anything between is a matter of degree.
fn order_cause(low: Role, high: Role) -> Cause {
    match (low, high) {
        (Role::Perfect, Role::Wrong) => Cause::LossSign,
        _ => Cause::WrongDirection,
    }
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Perfect => "perfect",
        Role::Baseline => "baseline",
        Role::Wrong => "wrong",
        Role::Known => "known",
        Role::Finite => "extreme",
    }
}

fn known(contract: &Contract, example: &Example, value: f64, seen: &mut Vec<Seen>) {
    let Some(expected) = example.value else { return };
    let epsilon = epsilon(example.prediction.dtype()).unwrap_or(f64::EPSILON);
    // What a zero is close to has no size of its own.
    let near = (SHARE + ROUNDINGS * epsilon) * expected.abs().max(1e-2);
    if (value - expected).abs() <= near {
        return;
    }
    let (value, expected) = (digits(value), digits(expected));
    let which = match example.role {
        Role::Known => "this prediction",
        role => &format!("the {} prediction", name(role)),
    };
    seen.push(Seen::new(
        format!(
            "the loss is not the {}: {which} costs {value}, where {expected} is right",
            contract.name
        ),
        Finding::confirmed(
            Cause::ValuesDiffer,
            format!("{value} for {}", called_with(&example.prediction, &example.target)),
        ),
    ));
}

fn finite(loss: &mut Loss<'_>, example: &Example, value: f64, seen: &mut Vec<Seen>) -> Result<()> {
    let what = if value.is_finite() {
        let gradient = loss.gradient(&example.prediction, &example.target)?;
        let bad = gradient.iter().flatten().find(|slope| !slope.is_finite());
        bad.map(|slope| format!("the gradient is {}", number(*slope)))
    } else {
        Some(format!("the loss is {}", number(value)))
    };
    if let Some(what) = what {
        let which = name(example.role);
        let evidence = format!("{what} for {}", called_with(&example.prediction, &example.target));
        seen.push(Seen::new(
            format!("the loss does not bear its {which} prediction"),
            Finding::confirmed(Cause::LossUnstable, evidence)
                .advice_is("bound what an exponential, a logarithm or a root is taken of: `clamp`"),
        ));
    }
    Ok(())
}
