//! What is wrong with gradients that do not flow, in words.

use super::{
    judged::{Judged, Judgement},
    table::GradientVerdict,
};
use crate::{
    Cause, Finding, Result,
    diagnose::graph_end::{self, Operation, Seen, State},
    measure::{
        graph::{Graph, operation},
        values::to_f64_vec,
    },
    verdict::{all as all_of, count, listed, number},
};

pub(super) fn findings(judgement: &Judgement<'_, '_>) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    found.extend(not_finite(judgement)?);
    // NaN stays NaN whatever a variable does: who is used, and who is cut, cannot be seen by it.
    if to_f64_vec(&judgement.pass.evaluation.loss)?.iter().any(|loss| loss.is_nan()) {
        if found.is_empty() {
            found.push(Finding::confirmed(Cause::NotFinite, "it is NaN").at("the loss"));
        }
        return Ok(found);
    }
    found.extend(cut(judgement)?);
    found.extend(partly_cut(judgement));
    found.extend(unused(judgement));
    found.extend(stale(judgement));
    found.extend(zero(judgement)?);
    found.extend(out_of_scale(judgement)?);
    Ok(found)
}

fn names<'j>(variables: &[&'j Judged]) -> Vec<&'j str> {
    variables.iter().map(|variable| variable.name.as_str()).collect()
}

fn cut(judgement: &Judgement<'_, '_>) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let all = judgement.variables.len();
    let tracked = |tensor: Option<&candle_core::Tensor>| tensor.is_some_and(|t| t.track_op());
    let evaluation = &judgement.pass.evaluation;
    let missing = judgement.variables.iter().filter(|v| v.arrived.is_none()).count();
    if missing == all && tracked(evaluation.output.as_ref()) && !evaluation.loss.track_op() {
        return Ok(vec![Finding::confirmed(
            Cause::LossDetached,
            "the output carries a graph and the loss does not: no variable gets a gradient",
        )]);
    }
    let cut = judgement.named(GradientVerdict::Cut);
    if !cut.is_empty() {
        let seen: Vec<Seen<'_>> = (judgement.variables.iter())
            .map(|variable| Seen {
                name: &variable.name,
                var: &variable.var,
                state: match variable.verdict {
                    GradientVerdict::Cut => State::Cut,
                    GradientVerdict::Unused | GradientVerdict::Unknown | GradientVerdict::Idle => {
                        State::Aside
                    }
                    _ => State::Flows,
                },
            })
            .collect();
        let effects = cut.iter().filter_map(|variable| variable.effect);
        let largest = effects.map(|effect| effect.on_loss).fold(0.0, f64::max);
        let ends = graph_end::ends(&seen, judgement.still.as_ref())?;
        found.extend(ends.iter().map(|end| end.finding(all, largest)));
    }
    let unknown = judgement.named(GradientVerdict::Unknown);
    if !unknown.is_empty() {
        let evidence = format!(
            "no gradient arrives at {} of {}; two evaluations differ, so whether they matter cannot be told",
            unknown.len(),
            count(all, "variable"),
        );
        found.push(
            Finding::possible(Cause::GradientCut, evidence).at(listed(&names(&unknown))).advice_is(
                "give the learner `Learner::with_modes`, so that it can be looked at without its randomness",
            ),
        );
    }
    Ok(found)
}

fn partly_cut(judgement: &Judgement<'_, '_>) -> Option<Finding> {
    let partly = judgement.named(GradientVerdict::PartlyCut);
    let first = partly.first()?;
    let evidence = format!(
        "{} of the {} rows of {} get zeros for a gradient ({}), though the loss has a slope along them: what is computed from these rows passes an operation without a backward pass, as queries and keys do in `softmax_last_dim` or `rope`",
        first.rows.len(),
        first.var.dims()[0],
        first.name,
        ranges(&first.rows),
    );
    Some(
        Finding::confirmed(Cause::GradientCut, evidence)
            .at(listed(&names(&partly)))
            .advice_is(Operation::Attention.remedy()),
    )
}

/// `0..32, 40`.
fn ranges(rows: &[usize]) -> String {
    let runs = rows.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [only] => only.to_string(),
        [first, .., last] => format!("{first}..{}", last + 1),
        [] => String::new(),
    });
    let runs: Vec<String> = runs.collect();
    listed(&runs.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Variables of which something was computed once, when the model was built, in place of at every pass.
fn stale(judgement: &Judgement<'_, '_>) -> Option<Finding> {
    let mut stale = judgement.named(GradientVerdict::Unused);
    stale.retain(|variable| variable.arrived.is_some());
    if stale.is_empty() {
        return None;
    }
    let evidence = format!(
        "moving {} of {} changes nothing, though a gradient arrives: what is computed from them was computed before this pass, and is not computed again",
        stale.len(),
        count(judgement.variables.len(), "variable"),
    );
    Some(
        Finding::confirmed(Cause::VariableUnused, evidence)
            .at(listed(&names(&stale)))
            .advice_is("compute it in the forward closure, from the variables as they are, and not when the model is built"),
    )
}

fn unused(judgement: &Judgement<'_, '_>) -> Option<Finding> {
    let mut unused = judgement.named(GradientVerdict::Unused);
    unused.retain(|variable| variable.arrived.is_none());
    let all = judgement.variables.len();
    if unused.is_empty() {
        return None;
    }
    if unused.len() == all {
        return Some(Finding::confirmed(
            Cause::VariableUntracked,
            "moving any of the learner's variables changes nothing: the model computes with other tensors",
        ));
    }
    let elsewhere = match judgement.probes {
        0 => String::new(),
        n => format!(", nor does it on {n} other batches"),
    };
    let in_output = unused.iter().filter_map(|v| v.effect).any(|effect| effect.on_output);
    let what = if in_output { "the output and not the loss" } else { "nothing" };
    let evidence = format!(
        "moving {} of {} changes {what}{elsewhere}, and no gradient arrives",
        unused.len(),
        count(all, "variable"),
    );
    Some(Finding::confirmed(Cause::VariableUnused, evidence).at(listed(&names(&unused))))
}

fn zero(judgement: &Judgement<'_, '_>) -> Result<Vec<Finding>> {
    let zero = judgement.named(GradientVerdict::Zero);
    let Some(last) = zero.last() else {
        return Ok(Vec::new());
    };
    let place = listed(&names(&zero));
    let all = judgement.variables.len();
    if let Some((layer, activity)) = judgement.blocked()?.into_iter().next_back() {
        let (cause, state) = match activity.dead > 0 {
            true => (Cause::UnitsDead, "0"),
            false => (Cause::UnitsSaturated, "at the ends of their range"),
        };
        let evidence = format!(
            "{} of the {} {} {state} on {}, so {} of {} {} a gradient of zeros: {place}",
            all_of(activity.units, "unit"),
            activity.operation,
            if activity.units == 1 { "is" } else { "are" },
            all_of(activity.samples, "sample"),
            zero.len(),
            count(all, "variable"),
            if zero.len() == 1 { "gets" } else { "get" },
        );
        return Ok(vec![Finding::confirmed(cause, evidence).at(layer)]);
    }
    let effects = || zero.iter().filter_map(|variable| variable.effect);
    let matters = effects().any(|effect| effect.on_loss != 0.0);
    let in_output = effects().any(|effect| effect.on_output);
    let constant = |variable: &&Judged| is_constant(variable);
    let constants: Vec<&Judged> =
        judgement.variables.iter().filter(|v| v.var.rank() >= 2).filter(constant).collect();
    if !constants.is_empty() {
        let evidence = format!(
            "{} of {} {} a gradient of zeros, still after eight steps: the entries of {} are all equal",
            zero.len(),
            count(all, "variable"),
            if zero.len() == 1 { "gets" } else { "get" },
            listed(&names(&constants)),
        );
        return Ok(vec![Finding::confirmed(Cause::WeightsConstant, evidence).at(place)]);
    }
    if matters && !judgement.named(GradientVerdict::Cut).is_empty() {
        let evidence = format!(
            "the gradient of {} of {} is exactly zero, though moving them changes the result: what was cut elsewhere may have left nothing of it",
            zero.len(),
            count(all, "variable"),
        );
        return Ok(vec![Finding::possible(Cause::GradientCut, evidence).at(place)]);
    }
    if let Some(arrived) = zero[0].arrived.filter(|arrived| arrived.norm > 0.0) {
        let evidence = format!(
            "the gradient of {} of {} is rounding alone ({}): a small move changes nothing and a large one does, as where only an `argmax` of them is used",
            zero.len(),
            count(all, "variable"),
            number(arrived.norm),
        );
        let finding = Finding::confirmed(Cause::GradientCut, evidence).at(place);
        return Ok(vec![finding.advice_is(
            "let the gradient in by a smooth way: weigh what was chosen by its share of all, and not of those chosen",
        )]);
    }
    Ok(vec![match matters {
        true => Finding::confirmed(
            Cause::GradientCut,
            format!(
                "the gradient of {} of {} is exactly zero, though moving them changes the result: something after `{}` sends zeros back",
                zero.len(),
                count(all, "variable"),
                last.name,
            ),
        )
        .at(place)
        .advice_is("look for a hand-written backward pass, a clamp, or a product with zero"),
        false => Finding::confirmed(
            Cause::VariableUnused,
            format!(
                "the gradient of {} of {} is exactly zero, still after eight steps, and moving them changes {}",
                zero.len(),
                count(all, "variable"),
                if in_output { "the output and not the loss" } else { "nothing" },
            ),
        )
        .at(place)
        .advice_is("what they compute is multiplied by zero, masked, or passed on by a softmax over one element"),
    }])
}

fn is_constant(variable: &Judged) -> bool {
    let values = to_f64_vec(variable.var.as_tensor()).unwrap_or_default();
    values.len() > 1 && values.iter().all(|value| *value == values[0])
}

fn out_of_scale(judgement: &Judgement<'_, '_>) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let all = judgement.variables.len();
    let (underflowing, vanishing): (Vec<_>, Vec<_>) = (judgement.named(GradientVerdict::Vanishing))
        .into_iter()
        .partition(|variable| variable.underflows);
    if !underflowing.is_empty() {
        let evidence = format!(
            "the gradient of {} of {} is zero in f16, whose smallest number is 6e-8: with a larger loss it is not",
            underflowing.len(),
            count(all, "variable"),
        );
        found.push(
            Finding::confirmed(Cause::PrecisionLoss, evidence).at(listed(&names(&underflowing))).advice_is(
                "multiply the loss before the backward pass and divide the gradients after it, or compute this part of the loss in f32",
            ),
        );
    }
    let norms = |of: &[&Judged]| {
        let norms = of.iter().filter_map(|v| v.arrived).map(|arrived| arrived.norm);
        norms.fold((f64::INFINITY, 0.0f64), |(low, high), n| (low.min(n), high.max(n)))
    };
    if !vanishing.is_empty() {
        let everyone: Vec<&Judged> = judgement.variables.iter().collect();
        let place = listed(&names(&vanishing));
        let blocked = judgement.blocked()?;
        let evidence = format!(
            "the gradient of {} of {} is as small as {} where the largest is {}, and no larger after eight steps",
            vanishing.len(),
            count(all, "variable"),
            number(norms(&vanishing).0),
            number(norms(&everyone).1),
        );
        found.push(match blocked.last() {
            Some((layer, activity)) if activity.saturated > 0 => Finding::confirmed(
                Cause::UnitsSaturated,
                format!(
                    "{} of the {} {} at the ends of their range on {}; {evidence}",
                    all_of(activity.units, "unit"),
                    activity.operation,
                    if activity.units == 1 { "is" } else { "are" },
                    all_of(activity.samples, "sample"),
                ),
            )
            .at(layer),
            _ => Finding::confirmed(Cause::GradientVanishing, evidence).at(place),
        });
    }
    let exploding = judgement.named(GradientVerdict::Exploding);
    if !exploding.is_empty() {
        let ratio = (exploding.iter())
            .filter_map(|v| Some(v.arrived?.norm / v.size.max(f64::MIN_POSITIVE)))
            .filter(|ratio| ratio.is_finite())
            .fold(0.0, f64::max);
        let evidence = format!(
            "the gradient of {} of {} is up to {} times as large as the variable itself",
            exploding.len(),
            count(all, "variable"),
            number(ratio),
        );
        found.push(
            Finding::confirmed(Cause::GradientExploding, evidence).at(listed(&names(&exploding))),
        );
    }
    Ok(found)
}

/// NaN in gradients, or in values that a `relu` hides from the loss, with the place where it began.
fn not_finite(judgement: &Judgement<'_, '_>) -> Result<Option<Finding>> {
    let broken = judgement.named(GradientVerdict::NotFinite);
    if judgement.variables.iter().all(|variable| variable.verdict.is_fine()) {
        return Ok(None);
    }
    let graph = Graph::of(&judgement.pass.evaluation.loss, judgement.learner.variables());
    let modules = graph.modules();
    let place = |node: usize| {
        graph.place(node, &modules).unwrap_or_else(|| "before the first layer".to_owned())
    };
    let which = match broken.as_slice() {
        [] => "the loss does not show it: candle's `relu` makes 0 of NaN".to_owned(),
        broken => format!(
            "the gradient of {} of {} is NaN or infinite ({})",
            broken.len(),
            count(judgement.variables.len(), "variable"),
            listed(&names(broken)),
        ),
    };
    if let Some(node) = graph.first_not_finite()? {
        let made = match graph.operation(node)? {
            Some(operation) => format!("in the result of `{operation}`"),
            None => "here".to_owned(),
        };
        let evidence = format!("the first value that is not finite appears {made}; {which}");
        return Ok(Some(Finding::confirmed(Cause::NotFinite, evidence).at(place(node))));
    }
    if broken.is_empty() {
        return Ok(None);
    }
    Ok(Some(match operation::singular(&graph)? {
        Some((node, why)) => Finding::confirmed(
            Cause::NotFinite,
            format!("{which}; every value is finite, but {why}"),
        )
        .at(place(node)),
        None => Finding::confirmed(
            Cause::NotFinite,
            format!("{which}; every value on the way there is finite"),
        )
        .at(format!("the gradient of {}", broken[0].name)),
    }))
}
