//! How a learner starts, as far as it can be told from one that is trained already.

use super::functions::applicable;
use crate::{
    Batch, Cause, Learner, Result, Snapshot,
    check::{InitialLoss, Initialized},
    expected::{self, Expected},
    measure::{
        formula::{Formula, Kind, matching, read_rows},
        values::{scalar, to_f64_vec},
    },
};

/// Training makes weights grow, so their size is not judged; where it spoils the first loss, `initial_loss` says so. Weights
/// of zero may be gates, adapters and heads that open with the first steps: their gradients tell.
pub(super) fn initialized(learner: &Learner<'_>, allowed: &[Cause]) -> Result<Option<Result<()>>> {
    let mut zeros = Vec::new();
    for (name, var) in learner.variables() {
        if var.dtype().is_float() && to_f64_vec(var.as_tensor())?.iter().all(|value| *value == 0.0)
        {
            zeros.push(name.clone());
        }
    }
    let options = Initialized::new().allow(Cause::WeightsScale).allow_zero(zeros);
    let options = allowed.iter().fold(options, |o, cause| o.allow(*cause));
    Ok(applicable(options.check(learner.variables()).map(drop)))
}

/// Where the loss is told to be one that theory knows. That it is low is no fault in a learner that is trained; that it is
/// high is one where a defect is found that explains it, and else the scale of a loss on cosines over a temperature.
pub(super) fn initial_loss(
    learner: &Learner<'_>,
    batch: &Batch,
    allowed: &[Cause],
) -> Result<Option<Result<()>>> {
    // A pass may move running statistics.
    let _guard = Snapshot::take(learner.variables())?.guard();
    let Some(expected) = expected(learner, batch) else { return Ok(None) };
    let options = InitialLoss::new().allow(Cause::InitialLossLow).allow(Cause::InitialLossHigh);
    let options = allowed.iter().fold(options, |o, cause| o.allow(*cause));
    Ok(applicable(options.check(learner, batch, expected).map(drop)))
}

/// What is expected of the mean of one formula, where the loss has its very value. A sum may be intended; what keeps the
/// model from being evaluated is told by other checks.
fn expected(learner: &Learner<'_>, batch: &Batch) -> Option<Expected> {
    let seen = learner.evaluate(batch, false).ok()?;
    let (output, target) = (seen.output?, batch.target()?);
    let formulas = matching(&output, target, scalar(&seen.loss).ok()?).ok()?;
    let [Formula { kind, summed: false, negated: false }] = formulas[..] else { return None };
    match kind {
        Kind::CrossEntropy | Kind::NegativeLogLikelihood => {
            Some(expected::cross_entropy(read_rows(&output).ok()??.classes))
        }
        Kind::BinaryCrossEntropyWithLogits => Some(expected::bce()),
        Kind::MeanSquaredError => Some(expected::mse(target)),
        Kind::BroadcastSquaredError => None,
    }
}
