//! What became of each variable's gradient, and all of them as one table.

use std::fmt;

use crate::verdict::{columns, number};

/// What became of one variable's gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GradientVerdict {
    /// It arrives, finite and of a sane size; perhaps only after the first steps, where a gate begins at zero.
    Flows,
    /// Zero by right: the result does not depend on the variable beyond rounding (the key bias of an attention, a bias
    /// before a norm that takes it out again).
    NumericallyZero,
    /// Nothing on this batch depends on the variable, but other inputs do (an expert no token was sent to).
    Idle,
    /// It arrives as exact zeros, and still does after a few steps.
    Zero,
    /// It arrives, too small beside the others to train anything.
    Vanishing,
    /// It arrives, so large that a usual step replaces the variable.
    Exploding,
    /// It holds NaN or an infinity.
    NotFinite,
    /// Moving the variable changes nothing, and no gradient arrives, or one of values that were computed once, before the
    /// pass.
    Unused,
    /// None arrives, though moving the variable changes the result.
    Cut,
    /// It arrives for some rows of a matrix; the others get zeros, though the loss has a slope along them.
    PartlyCut,
    /// None arrives, and two evaluations differ, so that moving the variable tells nothing.
    Unknown,
}

impl GradientVerdict {
    /// Whether the variable trains as it should, or is no worse off than it has to be.
    pub fn is_fine(self) -> bool {
        matches!(self, Self::Flows | Self::NumericallyZero | Self::Idle)
    }
}

impl fmt::Display for GradientVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flows => "flows",
            Self::NumericallyZero => "zero by right",
            Self::Idle => "idle here",
            Self::Zero => "zero",
            Self::Vanishing => "vanishing",
            Self::Exploding => "exploding",
            Self::NotFinite => "not finite",
            Self::Unused => "unused",
            Self::Cut => "cut",
            Self::PartlyCut => "partly cut",
            Self::Unknown => "unknown",
        })
    }
}

/// One variable and its gradient.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VariableGradient {
    /// The variable's name.
    pub name: String,
    /// Its dimensions.
    pub dims: Vec<usize>,
    /// What became of its gradient.
    pub verdict: GradientVerdict,
    /// The Euclidean norm of the gradient before the first step; `None` where none arrived.
    pub norm: Option<f64>,
    /// The Euclidean norm of the variable itself.
    pub size: f64,
}

/// So many rows are shown; of a longer table those that are fine are folded away first.
const ROWS: usize = 24;

/// The variables in the order they were made, a line each; runs of one verdict are folded in long tables.
pub(super) fn table(variables: &[VariableGradient]) -> String {
    let rows: Vec<[String; 4]> = match variables.len() <= ROWS {
        true => variables.iter().map(row).collect(),
        false => runs(variables).flat_map(folded).collect(),
    };
    let shown = rows.len().min(ROWS);
    let mut lines = columns(&rows);
    lines.truncate(shown);
    if rows.len() > shown {
        lines.push(format!("and {} more lines", rows.len() - shown));
    }
    lines.join("\n")
}

fn row(variable: &VariableGradient) -> [String; 4] {
    let norm = match variable.norm {
        Some(norm) => format!("norm {}", number(norm)),
        None => String::new(),
    };
    let dims = format!("{:?}", variable.dims);
    [variable.name.clone(), dims, variable.verdict.to_string(), norm]
}

fn runs(variables: &[VariableGradient]) -> impl Iterator<Item = &[VariableGradient]> {
    variables.chunk_by(|a, b| a.verdict == b.verdict)
}

fn folded(run: &[VariableGradient]) -> Vec<[String; 4]> {
    match run {
        [] | [_] | [_, _] => run.iter().map(row).collect(),
        [first, .., last] => vec![[
            format!("{} .. {}", first.name, last.name),
            format!("{} variables", run.len()),
            first.verdict.to_string(),
            String::new(),
        ]],
    }
}
