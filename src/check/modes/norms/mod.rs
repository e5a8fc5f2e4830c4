//! Running statistics: moved by training, by training alone, towards the batch's own, and used by evaluation.

mod average;
mod used;

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};

use self::{
    average::{momenta, settled_gap},
    used::{is_used, mixes_rows},
};
use super::{evaluation::Evaluation, passes::Passes, report::NormSeen};
use crate::{
    Cause, Finding, Result,
    learner::is_running_statistic,
    measure::{
        scan::is_finite,
        values::{extent, to_f64_vec},
    },
    verdict::{listed, number},
};

pub(super) use used::fill_zeros;

/// A momentum within this of 1 keeps nothing of the batches before.
const ALL_OF_IT: f64 = 1e-3;

/// What was seen of the running statistics.
pub(super) struct Norms {
    pub(super) seen: Vec<NormSeen>,
    pub(super) settled_gap: Option<f64>,
    pub(super) findings: Vec<Finding>,
}

/// One running statistic.
struct Statistic {
    name: String,
    var: Var,
    /// A training pass moves it: from where it is, or from values that are far off.
    moves: bool,
    momentum: Option<f64>,
    /// Evaluation changes with it.
    used: Option<bool>,
}

/// `moved`: the variables that a training pass changed, and that get no gradient. `training`: the output of training passes,
/// where they have one. `runs`: whether the layer of that name is known to run in training passes.
pub(super) fn look(
    passes: &Passes<'_, '_>,
    evaluation: &Evaluation,
    moved: &[String],
    training: Option<&Tensor>,
    runs: &dyn Fn(&str) -> bool,
) -> Result<Norms> {
    let variables = passes.learner.variables().iter();
    let wanted = |(name, var): &&(String, Var)| {
        // A count of batches is no average, and nothing that evaluation would use.
        let counts = name.ends_with("num_batches_tracked");
        var.dtype().is_float() && !counts && (moved.contains(name) || is_running_statistic(name))
    };
    let found: Vec<(String, Var)> = variables.filter(wanted).cloned().collect();
    if found.is_empty() {
        return Ok(Norms { seen: Vec::new(), settled_gap: None, findings: Vec::new() });
    }
    let mut statistics = Vec::with_capacity(found.len());
    let measured = momenta(passes, &found)?;
    for ((name, var), measured) in found.into_iter().zip(measured) {
        let moves = moved.contains(&name) || measured.is_none_or(|m| m.moves);
        let momentum = measured.and_then(|m| m.momentum).filter(|_| moves);
        let used = is_used(passes, evaluation, &name, &var)?;
        statistics.push(Statistic { name, var, moves, momentum, used });
    }
    let settled_gap = match training.filter(|_| evaluation.is_steady) {
        Some(training) => settled_gap(passes, &statistics, training)?,
        None => None,
    };
    passes.restore()?;
    let mut layers: BTreeMap<String, Vec<Statistic>> = BTreeMap::new();
    for statistic in statistics {
        let layer = statistic.name.rsplit_once('.').map_or("", |(layer, _)| layer).to_owned();
        layers.entry(layer).or_default().push(statistic);
    }
    let mut norms = Norms { seen: Vec::new(), settled_gap, findings: Vec::new() };
    let mut mixed: Option<Option<String>> = None;
    for (layer, statistics) in layers {
        if statistics.iter().any(|statistic| is_running_statistic(&statistic.name)) {
            let mut mixes = || -> Result<Option<String>> {
                if mixed.is_none() {
                    mixed = Some(mixes_rows(passes, evaluation)?);
                }
                Ok(mixed.clone().flatten())
            };
            norms.findings.extend(judged(passes, &layer, &statistics, &mut mixes, runs(&layer))?);
        }
        norms.seen.push(seen(layer, &statistics));
    }
    Ok(norms)
}

fn seen(layer: String, statistics: &[Statistic]) -> NormSeen {
    let used: Vec<bool> = statistics.iter().filter_map(|statistic| statistic.used).collect();
    NormSeen {
        layer,
        statistics: statistics.iter().map(|statistic| statistic.name.clone()).collect(),
        moves: statistics.iter().any(|statistic| statistic.moves),
        momentum: statistics.iter().find_map(|statistic| statistic.momentum),
        used_in_eval: (!used.is_empty()).then(|| used.contains(&true)),
    }
}

fn judged(
    passes: &Passes<'_, '_>,
    layer: &str,
    statistics: &[Statistic],
    mixes: &mut dyn FnMut() -> Result<Option<String>>,
    runs: bool,
) -> Result<Option<Finding>> {
    let place = |statistics: &[&Statistic]| {
        let names: Vec<&str> = statistics.iter().map(|s| s.name.as_str()).collect();
        match layer.is_empty() || names.len() < 2 {
            true => listed(&names),
            false => layer.to_owned(),
        }
    };
    let all: Vec<&Statistic> = statistics.iter().collect();
    // Where evaluation does not notice any of them it normalises by something else.
    let unused = all.iter().all(|statistic| statistic.used == Some(false));
    if unused && let Some(evidence) = mixes()? {
        let evidence = format!(
            "evaluation does not notice its running statistics, and {evidence}: it normalises by the batch's own"
        );
        return Ok(Some(Finding::confirmed(Cause::NormStatsOfBatch, evidence).at(place(&all))));
    }
    let stays: Vec<&Statistic> = (all.iter().copied())
        .filter(|s| !s.moves && !passes.learner.is_frozen(&s.name))
        // A norm that takes no mean off (`remove_mean: false`) has a mean that stays 0.
        .filter(|s| !s.name.ends_with("running_mean") || all.iter().all(|other| !other.moves))
        .collect();
    let noticed = stays.iter().any(|statistic| statistic.used != Some(false));
    if !stays.is_empty() && noticed && runs {
        let names: Vec<&str> = stays.iter().map(|s| s.name.as_str()).collect();
        let values: Vec<String> = stays.iter().map(|s| range(s.var.as_tensor())).collect();
        let evidence = format!(
            "no training pass moves {}: they stay at {}, also when they are set far off",
            names.join(" and "),
            values.join(" and "),
        );
        let evidence = match stays.len() {
            1 => {
                evidence.replace(": they stay", ": it stays").replace("when they are", "when it is")
            }
            _ => evidence,
        };
        return Ok(Some(Finding::confirmed(Cause::NormStatsFrozen, evidence).at(place(&stays))));
    }
    let idle: Vec<&Statistic> = all
        .iter()
        .copied()
        .filter(|s| is_running_statistic(&s.name) && s.moves && s.used == Some(false))
        .collect();
    if !idle.is_empty() {
        let evidence = "training moves it, and evaluation does not notice when it is moved";
        let finding = Finding::confirmed(Cause::VariableUnused, evidence).at(place(&idle));
        return Ok(Some(finding.advice_is(
            "normalise by the running statistics in evaluation: training keeps them for nothing else",
        )));
    }
    let momentum = all.iter().find_map(|s| s.momentum.map(|momentum| (*s, momentum)));
    Ok(match momentum {
        Some((_, momentum)) if (momentum - 1.0).abs() <= ALL_OF_IT => {
            let evidence = "each training pass replaces its running statistics: a momentum of 1 keeps those of the last batch alone";
            let finding = Finding::confirmed(Cause::NormStatsOfBatch, evidence).at(place(&all));
            Some(finding.advice_is(
                "momentum is the share of the new batch in candle and PyTorch, 0.1 as a rule, and 1 minus that in Keras",
            ))
        }
        Some((statistic, momentum)) if !(-ALL_OF_IT..=2.0).contains(&momentum) => {
            let evidence = format!(
                "each training pass multiplies {} by {}, and adds to it: it grows without end",
                statistic.name,
                number(1.0 - momentum),
            );
            Some(Finding::possible(Cause::NotFinite, evidence).at(statistic.name.clone()))
        }
        _ => None,
    })
}

/// `0`; `0.8..1.2`.
fn range(tensor: &Tensor) -> String {
    let values = to_f64_vec(tensor).unwrap_or_default();
    match extent(&values) {
        Some((low, high)) if low == high => number(low),
        Some((low, high)) => format!("{}..{}", number(low), number(high)),
        None => "nothing".to_owned(),
    }
}

/// A training pass that leaves NaN or infinity in a running statistic.
pub(super) fn not_finite(passes: &Passes<'_, '_>) -> Result<Option<Finding>> {
    let mut bad = Vec::new();
    for (name, var) in passes.named_statistics() {
        if !is_finite(var.as_tensor())? {
            bad.push(name);
        }
    }
    let names: Vec<&str> = bad.iter().map(String::as_str).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let finding = Finding::confirmed(
        Cause::NotFinite,
        "NaN or infinite after one training pass, and with them everything in evaluation, for good",
    )
    .at(listed(&names));
    Ok(Some(match passes.rows() {
        1 => finding.advice_is(
            "the variance of one value is 0/0: train batch norm on two rows or more, and drop a last batch of one",
        ),
        _ => finding.advice_is(
            "look at what the norm is given: one row at a time (the variance of one value is 0/0), or NaN",
        ),
    }))
}
