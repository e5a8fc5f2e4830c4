//! Does a fit depend on the input at all? One extra forward for each look, no second training.

use candle_core::Tensor;

use crate::{
    Batch, Cause, Failure, Finding, Learner, Result,
    diagnose::Case,
    measure::{
        rows::{misleading_rotation, rotate},
        values::scalar,
    },
    verdict::{count, number},
};

/// What is left of a loss may grow by this share and still not care whose input it is given: a fit of the rows loses
/// many times what was left when they are mixed up.
const UNMOVED: f64 = 0.1;

/// The failure of a fit that needs no input: its loss stays where it is when the rows are given to one another's
/// targets, or when the input is zeroed.
pub(super) fn survives(case: &Case<'_, '_>) -> Result<Option<Failure>> {
    let Some(target) = case.batch.target() else {
        return Ok(None);
    };
    let input = case.batch.input();
    // Targets with other rows than the input (flattened by the loss) cannot be turned against it.
    if target.dims().first() == input[0].dims().first() && case.batch.rows() > Some(1) {
        let Some((by, misled)) = misleading_rotation(target)? else {
            return Ok(match ignores_targets(case.learner, case.batch, target) {
                true => None,
                false => Some(equal_targets(case)),
            });
        };
        // A contrastive loss pairs the rows among themselves, so that turning the input turns both sides; a loss that
        // takes its target from the input does not see the target turned. A blind fit survives both.
        let turned =
            input.iter().map(|t| rotate(t, by)).collect::<candle_core::Result<Vec<_>>>()?;
        let inputs = still_fitted(case, &case.batch.with_input(turned))?;
        let targets = still_fitted(case, &Batch::of_members(input.to_vec(), rotate(target, by)?))?;
        if let (Some(loss), Some(_)) = (inputs, targets) {
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
    let loss = still_fitted(case, &case.batch.with_input(zeroed))?;
    Ok(loss.map(|loss| blind(case, loss, "with every input zeroed")))
}

/// Whether the loss is the same for other targets: then theirs is a place holder, and says nothing about the fit.
pub(super) fn ignores_targets(learner: &Learner<'_>, batch: &Batch, target: &Tensor) -> bool {
    let loss = |target: Tensor| -> Result<f64> {
        let batch = Batch::of_members(batch.input().to_vec(), target);
        Ok(scalar(&learner.evaluate(&batch, false)?.loss)?)
    };
    // Zeros become ones, and the rest zeros.
    let other = target.eq(0.0).and_then(|zeros| zeros.to_dtype(target.dtype()));
    let (Ok(own), Ok(other)) = (loss(target.clone()), other) else { return false };
    loss(other).is_ok_and(|other| other == own)
}

fn all_zero(tensor: &Tensor) -> Result<bool> {
    Ok(crate::measure::values::to_f64_vec(tensor)?.iter().all(|v| *v == 0.0))
}

/// The loss on that batch where it is still where the fit left it. A model may refuse such a batch: then it is not
/// blind.
fn still_fitted(case: &Case<'_, '_>, batch: &Batch) -> Result<Option<f64>> {
    let Ok(evaluation) = case.learner.evaluate(batch, false) else {
        return Ok(None);
    };
    let loss = scalar(&evaluation.loss)?;
    // A target that the caller named says itself what a fit is; and what is left of a loss below zero is no share of it.
    let reached = match case.goal.strict {
        true => case.goal.target,
        false => case.goal.target.max((1.0 + UNMOVED) * case.training.last()),
    };
    Ok((loss <= reached).then_some(loss))
}

fn blind(case: &Case<'_, '_>, loss: f64, how: &str) -> Failure {
    if case.goal.strict {
        let headline = format!(
            "the target of {} needs no input: the loss is {} {how}",
            number(case.goal.target),
            number(loss),
        );
        return Failure::vacuous(headline)
            .fact("fitted", case.way())
            .finding(Finding::possible(
                Cause::InputNotLearned,
                "a lower loss may still need the input",
            ))
            .help("name a lower `loss_below`, one that only a model that reads its input reaches");
    }
    let headline = format!(
        "the fit does not depend on the input: the loss is {} {how} (target {})",
        number(loss),
        number(case.goal.target),
    );
    let evidence = format!("the loss stays at {} {how}", number(loss));
    Failure::vacuous(headline)
        .fact("fitted", case.way())
        .finding(Finding::confirmed(Cause::InputNotLearned, evidence))
        .help(
            "check that the input reaches the model and tells the rows apart; where the first loss is mostly offset or \
             penalty, name the loss to reach with `loss_below`",
        )
}

fn equal_targets(case: &Case<'_, '_>) -> Failure {
    Failure::vacuous(
        "the fit does not depend on the input: all targets are equal, so a bias fits them",
    )
    .fact("fitted", case.way())
    .help("give the batch rows with different targets")
}
