//! What each weight starts as, and all of them as one table.

use std::fmt;

use crate::verdict::{columns, number};

/// How one weight starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WeightVerdict {
    /// Drawn, and of a sane size.
    Fine,
    /// All zeros, and declared so.
    ZeroByIntent,
    /// All zeros.
    Zero,
    /// One value throughout, not zero.
    Constant,
    /// Some of its rows are equal.
    RowsEqual,
    /// Equal to another weight.
    Copy,
    /// One variable under several names.
    Shared,
    /// Signals grow through it.
    TooLarge,
    /// Signals are lost in it.
    TooSmall,
    /// It holds NaN or an infinity.
    NotFinite,
}

impl WeightVerdict {
    /// Whether nothing is wrong with it.
    pub fn is_fine(self) -> bool {
        matches!(self, Self::Fine | Self::ZeroByIntent)
    }
}

impl fmt::Display for WeightVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fine => "fine",
            Self::ZeroByIntent => "zero, allowed",
            Self::Zero => "zero",
            Self::Constant => "constant",
            Self::RowsEqual => "equal rows",
            Self::Copy => "a copy",
            Self::Shared => "shared",
            Self::TooLarge => "too large",
            Self::TooSmall => "too small",
            Self::NotFinite => "not finite",
        })
    }
}

/// One weight before training.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InitialWeight {
    /// The variable's name.
    pub name: String,
    /// Its dimensions.
    pub dims: Vec<usize>,
    /// How it starts.
    pub verdict: WeightVerdict,
    /// The root of the mean square of its entries: the standard deviation, where they are drawn around zero.
    pub rms: f64,
    /// How many times signals of independent entries grow through it: `rms * sqrt(fan_in)`. On the smaller of fan-in and
    /// fan-out where no bias tells which dimension counts the outputs; `None` for tables, which add nothing up.
    pub gain: Option<f64>,
}

/// So many lines are shown; of a longer table those that are fine are left out first.
const ROWS: usize = 24;

/// The weights, a line each.
pub(super) fn table(weights: &[InitialWeight]) -> String {
    let wrong = || weights.iter().filter(|weight| !weight.verdict.is_fine());
    let (shown, left_out): (Vec<&InitialWeight>, usize) = match weights.len() <= ROWS {
        true => (weights.iter().collect(), 0),
        false => {
            let shown: Vec<_> = wrong().take(ROWS).collect();
            let left_out = weights.len() - shown.len();
            (shown, left_out)
        }
    };
    let rows: Vec<[String; 4]> = shown.into_iter().map(row).collect();
    let mut lines = columns(&rows);
    if left_out > 0 {
        lines.push(format!("and {left_out} more"));
    }
    lines.join("\n")
}

fn row(weight: &InitialWeight) -> [String; 4] {
    let size = match weight.gain {
        _ if weight.rms == 0.0 || !weight.rms.is_finite() => String::new(),
        Some(gain) => format!("entries {}, gain {}", number(weight.rms), number(gain)),
        None => format!("entries {}", number(weight.rms)),
    };
    [weight.name.clone(), format!("{:?}", weight.dims), weight.verdict.to_string(), size]
}
