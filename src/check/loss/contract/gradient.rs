//! The gradient of a loss, beside the slope of its reference.

use super::{
    Seen,
    closure::Loss,
    form::Accepted,
    probes::{Aim, Probe, Probes},
    value::Values,
};
use crate::{
    Cause, Finding, Result,
    measure::{
        losses::{Kind, slopes},
        noise::epsilon,
        values::multi_index,
    },
    verdict::{count, listed, number},
};

/// The reference's slope is one of central differences, good to six digits; a mistake moves it by tenths.
const SHARE: f64 = 2e-3;

/// A gradient passes through as many operations as a loss has: that many roundings, of the largest entry.
const ROUNDINGS: f64 = 64.0;

/// Up to here all entries are compared, and this many of more: every row and every class are among them.
const MOST_ENTRIES: usize = 512;

/// Each entry costs a row of work: where rows hold tens of thousands of values, fewer are compared.
const MOST_WORK: usize = 1 << 21;
const LEAST_ENTRIES: usize = 64;

/// Whether the loss is cut from its prediction.
pub(super) fn judge(
    loss: &mut Loss<'_>,
    probes: &Probes<'_>,
    values: &Values,
    seen: &mut Vec<Seen>,
) -> Result<bool> {
    let mut random = values.samples.iter().filter(|m| m.probe.aim == Aim::Random);
    let Some(measured) = random.next() else { return Ok(false) };
    let gradient = loss.gradient(&measured.probe.prediction, &measured.probe.target)?;
    if gradient.is_none() {
        seen.push(detached(loss, &measured.probe, measured.value)?);
        return Ok(true);
    }
    let Some(accepted) = &values.accepted else { return Ok(false) };
    // What is normalised already may be normalised again, log-probabilities and embeddings: the value is the same, and the
    // gradient is the part of it along the normalised ones.
    let mut forms = vec![accepted.clone()];
    if probes.kind.is_of_classes() || matches!(probes.kind, Kind::Contrastive(_)) {
        forms.push(accepted.clone());
        forms[1].reference.normalised = true;
    }
    for measured in values.samples.iter().filter(|m| m.probe.aim == Aim::Random).take(2) {
        let probe = &measured.probe;
        let gradient = loss.gradient(&probe.prediction, &probe.target)?;
        let Some(gradient) = gradient else { continue };
        let mut wrong = None;
        for form in &forms {
            let compared = compare(&gradient, form, probes, probe)?;
            if compared.is_none() {
                wrong = None;
                break;
            }
            wrong = wrong.or(compared);
        }
        if let Some(wrong) = wrong {
            seen.push(wrong);
            break;
        }
    }
    Ok(false)
}

fn detached(loss: &mut Loss<'_>, probe: &Probe, value: f64) -> Result<Seen> {
    let other = loss.value(&probe.prediction.affine(-0.5, 0.25)?, &probe.target)?;
    let evidence = if other.to_bits() == value.to_bits() {
        format!("the loss is {} whatever the prediction is", number(value))
    } else {
        format!(
            "another prediction moves the loss, {} -> {}, and the backward pass returns no gradient for it",
            number(value),
            number(other),
        )
    };
    Ok(Seen::new(
        "no gradient reaches the prediction: nothing can be trained by this loss",
        Finding::confirmed(Cause::LossDetached, evidence),
    ))
}

fn compare(
    gradient: &[f64],
    accepted: &Accepted,
    probes: &Probes<'_>,
    probe: &Probe,
) -> Result<Option<Seen>> {
    let point = &probe.point;
    let all = point.prediction.len();
    // A stride without a common divisor with the width passes through every class.
    let most = (MOST_WORK / point.row_len().max(1)).clamp(LEAST_ENTRIES, MOST_ENTRIES);
    let stride = all.div_ceil(most);
    let stride = (stride..).find(|stride| common_divisor(*stride, point.width) == 1);
    let entries: Vec<usize> = (0..all).step_by(stride.unwrap_or(1)).collect();
    let expected = slopes(&accepted.reference, accepted.reduction, point, &entries);
    let expected: Vec<f64> = expected.iter().map(|slope| slope * accepted.scale).collect();
    let found: Vec<f64> = entries.iter().map(|entry| gradient[*entry]).collect();
    let largest = expected.iter().map(|slope| slope.abs()).fold(0.0, f64::max);
    if largest == 0.0 {
        return Err(crate::Failure::vacuous(format!(
            "the formula of the contract `{}` does not depend on the prediction",
            probes.contract.name,
        )));
    }
    let epsilon = epsilon(probes.contract.dtype).unwrap_or(f64::EPSILON);
    let near = (SHARE + ROUNDINGS * epsilon) * largest;
    let off: Vec<f64> = expected.iter().zip(&found).map(|(e, f)| (e - f).abs()).collect();
    // A gradient that is not finite is wrong too, and no distance.
    let wrong: Vec<usize> =
        (0..off.len()).filter(|at| off[*at].is_nan() || off[*at] > near).collect();
    let Some(worst) = wrong.iter().copied().max_by(|a, b| off[*a].total_cmp(&off[*b])) else {
        return Ok(None);
    };
    let place = format!("prediction{:?}", multi_index(entries[worst], probe.prediction.dims()));
    let pair = format!("{}, where the slope is {}", number(found[worst]), number(expected[worst]));
    let finding = match told(&entries, &expected, &found, near, point.row_len()) {
        Some(finding) => finding,
        None => {
            let evidence =
                format!("{} of {} differ; {pair}", wrong.len(), count(off.len(), "entry"));
            Finding::confirmed(Cause::GradientWrong, evidence).advice_is(
                "look for a `detach` on one of the factors, or an operation whose backward pass is wrong",
            )
        }
    };
    Ok(Some(Seen::new("the loss has the right value and a wrong gradient", finding.at(place))))
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// Mistakes that a gradient shows by itself.
fn told(
    entries: &[usize],
    expected: &[f64],
    found: &[f64],
    near: f64,
    row_len: usize,
) -> Option<Finding> {
    let pairs = || expected.iter().zip(found);
    if pairs().all(|(e, f)| (e + f).abs() <= near) {
        let evidence = "the gradient is exactly minus the slope of the loss";
        return Some(Finding::confirmed(Cause::LossSign, evidence));
    }
    // Rows whose every entry has a slope to give, and gets none.
    let mut silent: Vec<usize> = Vec::new();
    let rows = entries.last()? / row_len.max(1) + 1;
    let mut others_right = true;
    for row in 0..rows {
        let of_row = || (0..entries.len()).filter(|at| entries[*at] / row_len == row);
        let sloped = of_row().any(|at| expected[at].abs() > near);
        if sloped && of_row().all(|at| found[at] == 0.0) {
            silent.push(row);
        } else {
            others_right &= of_row().all(|at| (expected[at] - found[at]).abs() <= near);
        }
    }
    if silent.is_empty() || !others_right {
        return None;
    }
    let names: Vec<String> = silent.iter().map(usize::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let evidence = format!(
        "{} of {} get a gradient of exactly 0, where the loss has a slope: {} {}",
        silent.len(),
        count(rows, "row"),
        if silent.len() == 1 { "row" } else { "rows" },
        listed(&names),
    );
    Some(Finding::confirmed(Cause::LossIgnoresRows, evidence))
}
