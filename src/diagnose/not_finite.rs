//! Where did the first NaN or infinity come from?
//!
//! Cost: two evaluations at most; the training noted the rest when it stopped.

use candle_core::Tensor;

use super::{Case, Trajectory};
use crate::{
    Cause, Finding, Result, Snapshot,
    measure::{
        graph::{Graph, operation},
        scan::is_finite,
        slope::traced,
        training::Gradient,
        values::{extent, norm, to_f64_vec},
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
    found.extend(overwhelming(case)?);
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
        let origin = origin(case)?;
        let made = origin.as_ref().and_then(|origin| origin.operation);
        let made = made.map_or(String::new(), |o| format!(", it begins in the result of `{o}`"));
        found.push(
            Finding::confirmed(
                Cause::NotFinite,
                format!(
                    "input and variables are finite, the output is not{made}; the loss is {loss} {when}"
                ),
            )
            .at(origin.map_or("the forward closure".to_owned(), |origin| origin.place)),
        );
    } else {
        found.push(
            Finding::confirmed(
                Cause::NotFinite,
                format!("{}, the loss is {loss} {when}", finite(case)?),
            )
            .at("the loss closure"),
        );
        // The experiment tells more than the place where it shows.
        let unstable = unstable_loss(case)?;
        found.insert(if unstable.is_confirmed() { 0 } else { found.len() }, unstable);
    }
    Ok(found)
}

/// Where a value that is not finite appeared first, and in what.
struct Origin {
    place: String,
    operation: Option<&'static str>,
}

/// Looks through the graph of the learner's loss where its variables stand. `None` where the graph does not show it.
fn origin(case: &Case<'_, '_>) -> Result<Option<Origin>> {
    let loss = case.learner.evaluate(&traced(case.batch)?, true)?.loss;
    let graph = Graph::of(&loss, case.learner.variables());
    let Some(node) = graph.first_not_finite()? else { return Ok(None) };
    let place = graph.place(node, &graph.modules());
    let place = place.unwrap_or_else(|| "before the first layer".to_owned());
    Ok(Some(Origin { place, operation: graph.operation(node)? }))
}

/// The operation whose derivative is not finite at the values that the training began with.
fn singular(case: &Case<'_, '_>) -> Result<Option<(String, &'static str)>> {
    let ended = Snapshot::take(case.learner.variables())?;
    case.before.restore()?;
    let loss = case.learner.evaluate(&traced(case.batch)?, true);
    ended.restore()?;
    let graph = Graph::of(&loss?.loss, case.learner.variables());
    let Some((node, why)) = operation::singular(&graph)? else { return Ok(None) };
    let place = graph.place(node, &graph.modules());
    Ok(Some((place.unwrap_or_else(|| "before the first layer".to_owned()), why)))
}

/// A gradient so much larger than the variables that a step at a learning rate of 1e-3 replaces them altogether. Nets
/// that train have a gradient of about their variables' own size, or far less.
const OVERWHELMING: f64 = 1e3;

/// The root mean square of an input that no scaling has touched; scaled ones are near 1.
const LARGE_INPUT: f64 = 20.0;

fn overwhelming(case: &Case<'_, '_>) -> Result<Option<Finding>> {
    let gradients = case.training.gradients.iter().filter_map(|g| g.first_norm);
    let gradient = gradients.map(|norm| norm * norm).sum::<f64>().sqrt();
    let mut size = 0.0f64;
    for (_, _, value) in case.before.values().filter(|(_, _, value)| value.dtype().is_float()) {
        size += norm(value)?.powi(2);
    }
    let ratio = gradient / size.sqrt();
    let cause = Cause::GradientExploding;
    let evidence =
        || format!("the first gradient is {} times as large as the variables", number(ratio));
    if !ratio.is_finite() || ratio <= OVERWHELMING {
        return Ok(None);
    }
    // Raw pixels make large gradients of small weights; then the weights are not to blame.
    let mut usual = true;
    for input in case.batch.input().iter().filter(|input| input.dtype().is_float()) {
        usual &= norm(input)? <= LARGE_INPUT * (input.elem_count() as f64).sqrt();
    }
    Ok(Some(match usual {
        true => Finding::confirmed(cause, evidence()),
        false => Finding::possible(cause, evidence()),
    }))
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
        Some(gradient) => match singular(case)? {
            Some((place, why)) => (
                place,
                format!(
                    "{why}: the gradient of {} is not finite at the first step, where the loss still is",
                    gradient.name
                ),
            ),
            None => (
                format!("the gradient of {}", gradient.name),
                "it is not finite at the first step, where the loss still is".to_owned(),
            ),
        },
        None => (format!("variable {first}"), "it is not finite after the training".to_owned()),
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

/// Tries the loss on other outputs, where the variables stand: squashed into (0, 1), and a tenth as large.
fn unstable_loss(case: &Case<'_, '_>) -> Result<Finding> {
    let is_finite_on = |map: fn(&Tensor) -> candle_core::Result<Tensor>| {
        let evaluation = case.learner.map_output(map).evaluate(case.batch, false);
        evaluation.is_ok_and(|evaluation| is_finite(&evaluation.loss).unwrap_or(false))
    };
    if is_finite_on(|output| output * 0.1) {
        return Ok(Finding::confirmed(
            Cause::LossUnstable,
            "on outputs a tenth as large the loss is finite: it overflows on what a network does give",
        ));
    }
    let outside = output_extent(case)?.is_some_and(|(low, high)| low < 0.0 || high > 1.0);
    if outside && is_finite_on(candle_nn::ops::sigmoid) {
        let evidence = "on outputs squashed into (0, 1) the loss is finite: it takes the logarithm of raw outputs";
        return Ok(match are_shares(case)? {
            true => Finding::confirmed(Cause::LossOnLogits, evidence),
            // A logarithmic error of positive quantities breaks the same way, and wants no sigmoid.
            false => Finding::possible(Cause::LossOnLogits, evidence),
        });
    }
    Ok(Finding::possible(
        Cause::LossUnstable,
        "the loss overflows, or takes the logarithm of 0, on outputs that a network does give",
    ))
}

/// Whether the targets are classes, or lie in [0, 1].
fn are_shares(case: &Case<'_, '_>) -> Result<bool> {
    let Some(target) = case.batch.target() else { return Ok(false) };
    Ok(!target.dtype().is_float()
        || extent(&to_f64_vec(target)?).is_some_and(|(low, high)| low >= 0.0 && high <= 1.0))
}
