//! What a check that trains can be given, and how it says what it cannot.

use candle_core::{DeviceLocation, Tensor};

use crate::{
    Batch, Cause, Failure, Finding, Learner, Result, learner::Evaluation, measure::scan::is_finite,
    verdict::count,
};

/// The learner has variables that may train, and its frozen prefixes name some.
pub(crate) fn learner(learner: &Learner<'_>) -> Result<()> {
    if learner.variables().is_empty() {
        return Err(Failure::not_run("the learner has no variables to train")
            .finding(Finding::possible(
                Cause::VariableUntracked,
                "a `VarMap` is empty until the model is built from it, and weights of `from_mmaped_safetensors` are not in it",
            ))
            .help("build the model first, then pass its `VarMap` to `Learner::new`"));
    }
    if let Some(prefix) = learner.frozen_without_effect() {
        let names: Vec<&str> = learner.variables().iter().map(|(name, _)| name.as_str()).collect();
        return Err(Failure::bad_argument(
            "frozen",
            format_args!("{prefix:?}, which begins no variable's name"),
            format_args!("the beginning of one of {}", names.join(", ")),
        ));
    }
    if learner.trainable().next().is_none() {
        return Err(Failure::not_run(format!(
            "none of the learner's {} may train: all are frozen, integers or running statistics",
            count(learner.variables().len(), "variable"),
        )));
    }
    Ok(())
}

/// Every input member has rows, as many as the others, finite values, and the device of the variables.
pub(crate) fn batch(learner: &Learner<'_>, batch: &Batch) -> Result<()> {
    if learner.owns_data() {
        return Ok(());
    }
    let member = |i: usize| match batch.input().len() {
        1 => "the input".to_owned(),
        _ => format!("input {i}"),
    };
    for (i, tensor) in batch.input().iter().enumerate() {
        let rows = tensor.dims().first().copied();
        match rows {
            None => {
                return Err(Failure::bad_argument(
                    "batch",
                    format_args!("{} of rank 0", member(i)),
                    "the batch as the first dimension",
                ));
            }
            Some(_) if tensor.elem_count() == 0 => {
                return Err(Failure::bad_argument(
                    "batch",
                    format_args!("{} of dims {:?}, empty", member(i), tensor.dims()),
                    "at least one row",
                ));
            }
            Some(_) if rows != batch.rows() => {
                return Err(Failure::bad_argument(
                    "batch",
                    format_args!(
                        "{} of dims {:?} beside {} of dims {:?}",
                        member(0),
                        batch.input()[0].dims(),
                        member(i),
                        tensor.dims(),
                    ),
                    "one number of rows for all",
                ));
            }
            Some(_) => {}
        }
        if !is_finite(tensor)? {
            return Err(Failure::bad_argument(
                "batch",
                format_args!("{} with NaN or infinite values", member(i)),
                "finite values",
            )
            .finding(
                Finding::confirmed(Cause::NotFinite, "NaN or infinite before the model is called")
                    .at(member(i)),
            ));
        }
        devices(learner, &member(i), tensor)?;
    }
    if let Some(target) = batch.target() {
        devices(learner, "the target", target)?;
        if target.elem_count() == 0 {
            return Err(Failure::bad_argument(
                "batch",
                format_args!("targets of dims {:?}, empty", target.dims()),
                "at least one target",
            ));
        }
        if !is_finite(target)? {
            return Err(Failure::bad_argument(
                "batch",
                "targets with NaN or infinite values",
                "finite values",
            ));
        }
    }
    Ok(())
}

fn devices(learner: &Learner<'_>, what: &str, tensor: &Tensor) -> Result<()> {
    let variables = learner.variables().iter();
    let located = variables.map(|(name, var)| (name.as_str(), var.device().location()));
    one_device(located, what, tensor.device().location())
}

fn one_device<'v>(
    mut variables: impl Iterator<Item = (&'v str, DeviceLocation)>,
    what: &str,
    device: DeviceLocation,
) -> Result<()> {
    match variables.find(|(_, location)| *location != device) {
        None => Ok(()),
        Some((name, location)) => Err(Failure::bad_argument(
            "batch",
            format_args!("on two devices: variable `{name}` on {location:?}, {what} on {device:?}"),
            "everything on one device; `tensor.to_device(..)` moves it",
        )),
    }
}

/// The first evaluation gave an output with a row for each target, and a loss that is one number of a float dtype.
pub(crate) fn evaluation(batch: &Batch, evaluation: &Evaluation) -> Result<()> {
    if let (Some(output), Some(target)) = (&evaluation.output, batch.target()) {
        if output.rank() == 0 {
            return Err(Failure::not_run(
                "the forward closure returned a scalar; allowed: an output with the batch as its first dimension",
            )
            .help("a closure that returns the loss itself belongs into `Learner::from_loss`"));
        }
        // A loss may flatten (batch, time) targets: then output and targets agree, and the input does not.
        let rows = |t: &Tensor| t.dims().first().copied();
        if rows(target) != batch.rows() && rows(target) != rows(output) {
            return Err(Failure::bad_argument(
                "batch",
                format_args!(
                    "an input of dims {:?} with targets of dims {:?}, for an output of dims {:?}",
                    batch.input()[0].dims(),
                    target.dims(),
                    output.dims(),
                ),
                "as many targets as rows",
            ));
        }
    }
    let loss = &evaluation.loss;
    if loss.rank() != 0 {
        return Err(Failure::not_run(format!(
            "the loss closure returned a tensor of dims {:?}; allowed: a scalar",
            loss.dims(),
        ))
        .help("end the loss closure with `mean_all()`"));
    }
    if !loss.dtype().is_float() {
        return Err(Failure::not_run(format!(
            "the loss closure returned a scalar of dtype {}; allowed: a float dtype",
            loss.dtype().as_str(),
        ))
        .finding(Finding::possible(
            Cause::LossDetached,
            "an integer carries no gradient; a count of right answers is a metric, not a loss",
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_on_another_device_is_named() {
        let cuda = DeviceLocation::Cuda { gpu_id: 0 };
        let vars = [("a", DeviceLocation::Cpu), ("b.weight", cuda)];
        let failure = one_device(vars.into_iter(), "the input", DeviceLocation::Cpu).unwrap_err();
        insta::assert_snapshot!(failure.text(), @"`batch` is on two devices: variable `b.weight` on Cuda { gpu_id: 0 }, the input on Cpu; allowed: everything on one device; `tensor.to_device(..)` moves it");
        assert!(one_device(vars.into_iter().take(1), "the input", DeviceLocation::Cpu).is_ok());
    }
}
