//! Which of the findings are told, and how a failure begins.

use super::{VariableUpdate, VariableVerdict, sizes, walk::Walk};
use crate::{
    Cause, Finding,
    verdict::{count, number},
};

/// A clipping to nothing, or a step up the gradient, is why a rate looks too low or too high: it is told, not both.
pub(super) fn told_once(mut findings: Vec<Finding>) -> Vec<Finding> {
    let has = |findings: &[Finding], cause: Cause| {
        findings.iter().any(|f| f.cause() == cause && f.is_confirmed())
    };
    if has(&findings, Cause::UpdateRatio) {
        findings.retain(|f| f.cause() != Cause::LearningRateLow);
    }
    if has(&findings, Cause::LossSign) || has(&findings, Cause::GradientsStale) {
        findings.retain(|f| f.cause() != Cause::LearningRateHigh);
    }
    findings
}

pub(super) fn headline(
    variables: &[VariableUpdate],
    walk: Option<&Walk>,
    findings: &[Finding],
) -> String {
    let of = |verdict: VariableVerdict| variables.iter().filter(|v| v.verdict == verdict).count();
    let may_train =
        of(VariableVerdict::Moves) + of(VariableVerdict::Still) + of(VariableVerdict::Idle);
    let (still, thawed) = (of(VariableVerdict::Still), of(VariableVerdict::FrozenMoved));
    let cause = findings.first().map(Finding::cause);
    let Some(walk) = walk else {
        return format!("no step moves any of {}", count(may_train, "variable"));
    };
    let typical = walk.ratios.iter().copied().fold(0.0, f64::max);
    match cause {
        Some(Cause::NotFinite) => "a step makes the variables NaN or infinite".to_owned(),
        Some(Cause::LearningRateHigh) => {
            format!("the steps are far too long: {} of the weights at most", number(typical))
        }
        Some(Cause::LearningRateLow) if typical >= sizes::LEAST => {
            "the steps never grow to their full size".to_owned()
        }
        Some(Cause::LearningRateLow) => {
            format!("the steps are far too short: {} of the weights at most", number(typical))
        }
        Some(Cause::UpdateRatio) => "steps are of the wrong size".to_owned(),
        Some(Cause::LossSign) => "the steps go up the gradient of the loss".to_owned(),
        Some(Cause::GradientsStale) => "a step uses gradients of earlier ones".to_owned(),
        Some(Cause::OptimizerStateReset) => "the optimizer begins anew at every step".to_owned(),
        Some(Cause::DecayUnintended) => {
            "the step shrinks what it should not, or too much".to_owned()
        }
        Some(Cause::RegularizationSign) => "the loss rewards large variables".to_owned(),
        _ if thawed > 0 => format!("the step moves {} declared frozen", count(thawed, "variable")),
        _ if still > 0 => {
            format!("{still} of {} never move", count(may_train, "variable"))
        }
        Some(Cause::FrozenVariableMoved) => "the optimizer moves running statistics".to_owned(),
        _ => "the step does not train as it should".to_owned(),
    }
}
