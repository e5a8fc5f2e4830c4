//! What the steps did to every variable, as one table.

use std::fmt;

use super::{
    driver::{Driver, Role},
    walk::Walk,
};
use crate::{
    measure::vectors::length,
    verdict::{columns, number},
};

/// What became of one variable in the first steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VariableVerdict {
    /// The steps change it.
    Moves,
    /// Declared frozen, and not changed by a bit.
    Frozen,
    /// Declared frozen, and changed.
    FrozenMoved,
    /// A running statistic, which the forward pass moves.
    Statistic,
    /// Of integers.
    Fixed,
    /// It did not change by a bit, and that is no fault: its steps are less than its last bit, or its gradient is zero.
    Idle,
    /// It did not change by a bit.
    Still,
}

impl fmt::Display for VariableVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Moves => "moves",
            Self::Frozen => "frozen",
            Self::FrozenMoved => "frozen, moved",
            Self::Statistic => "running statistic",
            Self::Fixed => "integers",
            Self::Idle => "idle",
            Self::Still => "still",
        })
    }
}

/// One variable and the largest of its updates.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VariableUpdate {
    /// The variable's name.
    pub name: String,
    /// Its dimensions.
    pub dims: Vec<usize>,
    /// What became of it.
    pub verdict: VariableVerdict,
    /// Its Euclidean norm before the first step.
    pub norm: f64,
    /// The Euclidean norm of its largest update.
    pub update: f64,
    /// `update / norm`; `None` for a variable that begins at zero.
    pub ratio: Option<f64>,
}

/// All variables; those named idle did not move by right.
pub(super) fn rows(
    driver: &Driver<'_>,
    walk: Option<&Walk>,
    idle: &[String],
) -> Vec<VariableUpdate> {
    let row = |(at, watched): (usize, &super::driver::Watched)| {
        let moved = walk.is_some_and(|walk| walk.moved[at]);
        let (norm, update) = (length(&watched.start), walk.map_or(0.0, |walk| walk.largest[at]));
        let verdict = match (watched.role, moved) {
            (Role::Frozen, true) => VariableVerdict::FrozenMoved,
            (Role::Frozen, false) => VariableVerdict::Frozen,
            (Role::Statistic, _) => VariableVerdict::Statistic,
            (Role::Fixed, _) => VariableVerdict::Fixed,
            (Role::Trained, true) => VariableVerdict::Moves,
            (Role::Trained, false) if idle.contains(&watched.name) => VariableVerdict::Idle,
            (Role::Trained, false) => VariableVerdict::Still,
        };
        VariableUpdate {
            name: watched.name.clone(),
            dims: watched.var.dims().to_vec(),
            verdict,
            norm,
            update,
            ratio: (norm > 0.0).then(|| update / norm),
        }
    };
    driver.watched.iter().enumerate().map(row).collect()
}

/// So many lines are shown; those that move are folded away first.
const ROWS: usize = 24;

pub(super) fn table(variables: &[VariableUpdate]) -> String {
    let long = variables.len() > ROWS;
    let shown: Vec<&VariableUpdate> = (variables.iter())
        .filter(|v| !long || v.verdict != VariableVerdict::Moves)
        .take(ROWS)
        .collect();
    let rows: Vec<[String; 4]> = shown.iter().map(|variable| row(variable)).collect();
    let mut lines = columns(&rows);
    if shown.len() < variables.len() {
        lines.push(format!("and {} more", variables.len() - shown.len()));
    }
    lines.join("\n")
}

fn row(variable: &VariableUpdate) -> [String; 4] {
    let size = match (variable.update, variable.ratio) {
        (0.0, _) => String::new(),
        (update, Some(ratio)) => format!("by {}, {} of its size", number(update), number(ratio)),
        (update, None) => format!("by {}, from zero", number(update)),
    };
    [variable.name.clone(), format!("{:?}", variable.dims), variable.verdict.to_string(), size]
}
