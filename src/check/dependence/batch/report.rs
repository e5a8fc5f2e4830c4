use std::fmt;

use crate::{Finding, verdict::count};

/// What a passed [`BatchIndependent`](super::BatchIndependent) measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BatchIndependentReport {
    /// The rows of the batch; every ordered pair of them was tested.
    pub rows: usize,
    /// How often the function was called.
    pub forwards: usize,
    /// The rows whose own output never changed when they were replaced: padding, or a gate that is shut. That no other row
    /// noticed them says little.
    pub unmoved: Vec<usize>,
    /// What the backward pass says.
    pub gradient: GradientProof,
    /// The other batch sizes in which the same rows had the same output, up to rounding.
    pub sizes: Vec<usize>,
    /// By which share of its size the output of a row changed when other rows were replaced, where only rounding did that:
    /// rows that are grouped by their values are multiplied in groups, and no gradient runs between them. 0 where every bit
    /// stayed.
    pub rounding: f64,
    /// What was found, and allowed by the caller.
    pub allowed: Vec<Finding>,
}

/// What the backward pass says of the rows of a batch.
///
/// The proof by replacement is the verdict; the gradient adds dependences that no replaced value happened to show, and those
/// of the backward pass alone.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum GradientProof {
    /// The gradient of every row of the output is exactly zero at all other rows of the input.
    Proved {
        /// Backward passes that took.
        passes: usize,
        /// The rows of the input that got a gradient of their own.
        rows: usize,
    },
    /// No gradient arrives at the input, though replacing it changes the output: it is cut by a `detach`, or by an
    /// operation of candle without a backward pass (`LayerNorm::forward`, `softmax_last_dim`). Where it is cut in part, on
    /// one of two paths, the other is proved.
    Cut,
    /// The gradient holds NaN or infinities.
    NotFinite,
    /// The input or the output is of integers, or of a format that candle does not differentiate.
    NotFloat,
    /// The backward pass returned this error.
    Refused(String),
    /// The gradient mixes rows, and the backward pass of this operation of candle is wrong by itself: `conv1d` mixes them.
    Engine(String),
    /// Rows are mixed, and that was allowed.
    NotTried,
}

impl fmt::Display for GradientProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proved { passes, rows } => {
                write!(f, "no gradient between rows: {} with a gradient, ", count(*rows, "row"))?;
                match passes {
                    1 => f.write_str("1 backward pass"),
                    n => write!(f, "{n} backward passes"),
                }
            }
            Self::Cut => f.write_str("no gradient arrives at the input: its graph is cut"),
            Self::NotFinite => f.write_str("the gradient holds NaN or infinities"),
            Self::NotFloat => f.write_str("no gradient: integers have none"),
            Self::Refused(error) => write!(f, "the backward pass returned an error: {error}"),
            Self::Engine(operation) => {
                write!(
                    f,
                    "the gradient mixes rows: the backward pass of candle's {operation} is wrong"
                )
            }
            Self::NotTried => f.write_str("not tried: rows are mixed, and that is allowed"),
        }
    }
}
