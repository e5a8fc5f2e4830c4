//! The weights beside one another: shared, copied, or small all together.

use std::collections::HashMap;

use candle_core::{TensorId, Var};

use super::{
    copies::EqualRows,
    role::Role,
    scale::{self, Off},
    weights_table::{InitialWeight, WeightVerdict},
};
use crate::{
    Cause, Finding, Result,
    measure::values::same_bits,
    verdict::{count, listed},
};

/// One weight while it is judged.
pub(super) struct Weight<'v> {
    pub(super) var: &'v Var,
    pub(super) role: Role,
    pub(super) off: Option<Off>,
    pub(super) rows: Option<EqualRows>,
    /// The first of its entries.
    pub(super) first: f64,
    /// The hash of its values, where they are equal to another weight's by no chance, and not by intent.
    pub(super) drawn: Option<u64>,
    pub(super) row: InitialWeight,
}

/// The names of each variable that has several, sorted.
pub(super) fn shared(vars: &[(String, Var)], weights: &mut [Weight<'_>]) -> Vec<Finding> {
    let mut names: HashMap<TensorId, Vec<&str>> = HashMap::new();
    for (name, var) in vars {
        names.entry(var.id()).or_default().push(name);
    }
    let mut groups: Vec<Vec<&str>> = names.into_values().filter(|names| names.len() > 1).collect();
    groups.sort();
    for weight in weights.iter_mut().filter(|weight| weight.row.verdict.is_fine()) {
        if groups.iter().any(|names| names.contains(&weight.row.name.as_str())) {
            weight.row.verdict = WeightVerdict::Shared;
        }
    }
    let told = |names: Vec<&str>| {
        let evidence = format!("{} of one variable", count(names.len(), "name"));
        Finding::confirmed(Cause::VariableShared, evidence).at(listed(&names))
    };
    groups.into_iter().map(told).collect()
}

/// Weights that are equal bit for bit, are other variables, and no copies by intent.
pub(super) fn copies(weights: &mut [Weight<'_>]) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for first in 0..weights.len() {
        if weights[first].row.verdict == WeightVerdict::Copy {
            continue;
        }
        let mut members = vec![first];
        for other in first + 1..weights.len() {
            if are_copies(&weights[first], &weights[other])? {
                members.push(other);
            }
        }
        if members.len() < 2 {
            continue;
        }
        members.iter().for_each(|at| weights[*at].row.verdict = WeightVerdict::Copy);
        let names: Vec<&str> = members.iter().map(|at| weights[*at].row.name.as_str()).collect();
        let evidence =
            format!("{} with the same values, bit for bit", count(names.len(), "weight"));
        found.push(Finding::confirmed(Cause::WeightsDuplicated, evidence).at(listed(&names)));
    }
    Ok(found)
}

fn are_copies(a: &Weight<'_>, b: &Weight<'_>) -> Result<bool> {
    Ok(a.drawn.is_some()
        && a.drawn == b.drawn
        && a.var.id() != b.var.id()
        && same_bits(a.var.as_tensor(), b.var.as_tensor())?)
}

/// Most layers are too small, where one alone would be a head or a gate.
pub(super) fn mostly_small(weights: &mut [Weight<'_>]) {
    let is_layer = |weight: &Weight<'_>| {
        matches!(weight.role, Role::Layer(_) | Role::Unclear(_)) && weight.row.rms > 0.0
    };
    let small = |weight: &Weight<'_>| {
        let of = scale::small_among_others(weight.role, weight.var.elem_count(), weight.row.rms);
        of.filter(|_| is_layer(weight))
    };
    let layers = weights.iter().filter(|weight| is_layer(weight)).count();
    let all_small = weights.iter().filter(|weight| small(weight).is_some()).count();
    if all_small < 2 || 2 * all_small <= layers {
        return;
    }
    for weight in weights.iter_mut().filter(|weight| weight.row.verdict == WeightVerdict::Fine) {
        weight.off = small(weight);
        if weight.off.is_some() {
            weight.row.verdict = WeightVerdict::TooSmall;
        }
    }
}
