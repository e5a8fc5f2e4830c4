//! Where did the first NaN or infinity come from?
//!
//! Cost: none; the training noted it when it stopped.

use super::{Case, Trajectory};
use crate::{
    Cause, Finding, Result,
    measure::{
        scan::is_finite,
        training::Gradient,
        values::{extent, to_f64_vec},
    },
    verdict::{count, number},
};

pub(super) fn findings(case: &Case<'_, '_>) -> Result<Vec<Finding>> {
    let Some(broken) = &case.training.broken else {
        return Ok(Vec::new());
    };
    let loss = number(case.training.losses[broken.step]);
    let when = match broken.step {
        0 => "before the first step".to_owned(),
        step => format!("after {}", count(step, "step")),
    };
    let first = |names: &[String]| match names {
        [only] => only.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
        [] => String::new(),
    };
    let mut found = Vec::new();
    // What grows out of every bound overflows in the end: the growth is the story, not the overflow.
    if case.trajectory == Trajectory::Exploding {
        return Ok(found);
    }
    if !broken.gradients.is_empty() {
        found.push(
            Finding::confirmed(
                Cause::NotFinite,
                format!(
                    "the gradient is not finite where the loss still was; the loss is {loss} {when}"
                ),
            )
            .at(format!("the gradient of {}", first(&broken.gradients))),
        );
    } else if !broken.variables.is_empty() {
        found.push(
            Finding::confirmed(Cause::NotFinite, format!("the loss is {loss} {when}"))
                .at(format!("variable {}", first(&broken.variables))),
        );
    } else if broken.output {
        found.push(
            Finding::confirmed(
                Cause::NotFinite,
                format!(
                    "input and variables are finite, the output is not; the loss is {loss} {when}"
                ),
            )
            .at("the forward closure"),
        );
    } else {
        found.push(
            Finding::confirmed(
                Cause::NotFinite,
                format!("{}, the loss is {loss} {when}", finite(case)?),
            )
            .at("the loss closure"),
        );
        found.push(unstable_loss(case)?);
    }
    Ok(found)
}

/// Variables that a training left without a finite value. candle's `relu` makes 0 of NaN, so the loss need not show it.
pub(super) fn hidden(case: &Case<'_, '_>) -> Result<Vec<Finding>> {
    if case.training.broken.is_some() {
        return Ok(Vec::new());
    }
    let mut broken = Vec::new();
    for (name, var) in case.learner.variables() {
        if !is_finite(var.as_tensor())? {
            broken.push(name.as_str());
        }
    }
    let Some(first) = broken.first() else {
        return Ok(Vec::new());
    };
    let at_first = |g: &&Gradient| g.first_norm.is_some_and(|norm| !norm.is_finite());
    let (place, evidence) = match case.training.gradients.iter().find(at_first) {
        Some(gradient) => (
            format!("the gradient of {}", gradient.name),
            "it is not finite at the first step, where the loss still is",
        ),
        None => (format!("variable {first}"), "it is not finite after the training"),
    };
    let evidence = format!(
        "{evidence}; {} end as NaN or infinity, and a later `relu` hides it",
        count(broken.len(), "variable"),
    );
    Ok(vec![Finding::confirmed(Cause::NotFinite, evidence).at(place)])
}

fn finite(case: &Case<'_, '_>) -> Result<String> {
    Ok(match output_extent(case)? {
        Some((low, high)) => {
            format!("the output in [{}, {}] is finite", number(low), number(high))
        }
        None => "every variable is finite".to_owned(),
    })
}

fn output_extent(case: &Case<'_, '_>) -> Result<Option<(f64, f64)>> {
    match &case.training.first_output {
        Some(output) => Ok(extent(&to_f64_vec(output)?)),
        None => Ok(None),
    }
}

/// A logarithm of something that is no probability, or an exponential of something large.
fn unstable_loss(case: &Case<'_, '_>) -> Result<Finding> {
    let outside = output_extent(case)?.is_some_and(|(low, high)| low < 0.0 || high > 1.0);
    let is_nan = case.training.losses.last().is_some_and(|loss| loss.is_nan());
    Ok(match outside && is_nan {
        true => Finding::possible(
            Cause::LossOnLogits,
            "outputs outside [0, 1] go into a loss that may take their logarithm",
        ),
        false => Finding::possible(
            Cause::LossUnstable,
            "the loss overflows, or takes the logarithm of 0, on outputs that a network does give",
        ),
    })
}
