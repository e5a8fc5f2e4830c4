//! Does a fit depend on the input at all? One extra forward for each look, no second training.

use candle_core::Tensor;

use crate::{
    Cause, Failure, Finding, Result,
    diagnose::Case,
    measure::{
        rows::{misleading_rotation, rotate},
        values::scalar,
    },
    verdict::{count, number},
};

/// The failure of a fit that needs no input: its loss stays at the target when the rows are given to one another's
/// targets, or when the input is zeroed.
pub(super) fn survives(case: &Case<'_, '_>) -> Result<Option<Failure>> {
    let Some(target) = case.batch.target() else {
        return Ok(None);
    };
    let input = case.batch.input();
    // Targets with other rows than the input (flattened by the loss) cannot be turned against it.
    if target.dims().first() == input[0].dims().first() && case.batch.rows() > Some(1) {
        let Some((by, misled)) = misleading_rotation(target)? else {
            return Ok(Some(equal_targets(case)));
        };
        let rotated =
            input.iter().map(|t| rotate(t, by)).collect::<candle_core::Result<Vec<_>>>()?;
        if let Some(loss) = still_fitted(case, rotated)? {
            let how = format!("with {} given the input of another row", count(misled, "row"));
            return Ok(Some(blind(case, loss, &how)));
        }
    }
    let zeroed = input.iter().map(Tensor::zeros_like).collect::<candle_core::Result<Vec<_>>>()?;
    // An input of zeros is its own: nothing would change.
    let is_zero = input.iter().map(all_zero).collect::<Result<Vec<_>>>()?;
    if is_zero.iter().all(|zero| *zero) {
        return Ok(None);
    }
    let loss = still_fitted(case, zeroed)?;
    Ok(loss.map(|loss| blind(case, loss, "with every input zeroed")))
}

fn all_zero(tensor: &Tensor) -> Result<bool> {
    Ok(crate::measure::values::to_f64_vec(tensor)?.iter().all(|v| *v == 0.0))
}

/// The loss on that input where it is still at the target. A model may refuse such an input: then it is not blind.
fn still_fitted(case: &Case<'_, '_>, input: Vec<Tensor>) -> Result<Option<f64>> {
    let Ok(evaluation) = case.learner.evaluate(&case.batch.with_input(input), false) else {
        return Ok(None);
    };
    let loss = scalar(&evaluation.loss)?;
    let reached = case.goal.target.max(case.training.last());
    Ok((loss <= reached).then_some(loss))
}

fn blind(case: &Case<'_, '_>, loss: f64, how: &str) -> Failure {
    let headline = format!(
        "the fit does not depend on the input: the loss is {} {how} (target {})",
        number(loss),
        number(case.goal.target),
    );
    let evidence = format!("the loss stays at {} {how}", number(loss));
    Failure::vacuous(headline)
        .fact("fitted", case.way())
        .finding(Finding::confirmed(Cause::InputNotLearned, evidence))
        .help("check that the input reaches the model, and that it tells the rows apart")
}

fn equal_targets(case: &Case<'_, '_>) -> Failure {
    Failure::vacuous(
        "the fit does not depend on the input: all targets are equal, so a bias fits them",
    )
    .fact("fitted", case.way())
    .help("give the batch rows with different targets")
}
