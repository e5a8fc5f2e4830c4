//! What can be said of an op, and under which condition.

use std::fmt;

/// The order is that of harm: what is loud is found by whoever runs the code, what is silent by nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Correct,
    /// An `Err`, in the forward or the backward pass.
    Errors,
    Panics,
    /// No gradient arrives, and no error is raised.
    Cut,
    /// Another number than the right one, and no error is raised.
    Wrong,
}

/// How the op is used. The first six are about its gradient, the others about its forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Condition {
    /// The operands are variables.
    Leaf,
    /// The operands are results of another op.
    NonLeaf,
    /// The operands have a second use, the left term of the sum that is the loss.
    ReusedBefore,
    /// The same with the second use on the right: the backward pass meets the two in the other order.
    ReusedAfter,
    /// One operand is a non-contiguous view.
    Strided,
    /// The result is transposed: the gradient that comes back is a non-contiguous view.
    TransposedAfter,
    /// Forward: a non-contiguous view gives what a contiguous tensor of the same values gives.
    Layout,
    /// Forward: the rows of a batch give what each gives alone.
    Rows,
}

impl Condition {
    pub(crate) const GRADIENTS: [Self; 6] = [
        Self::Leaf,
        Self::NonLeaf,
        Self::ReusedBefore,
        Self::ReusedAfter,
        Self::Strided,
        Self::TransposedAfter,
    ];
}

/// A verdict with what was seen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// The numbers, or the error's first line. Empty for [`Verdict::Correct`].
    pub(crate) detail: String,
}

impl Outcome {
    pub(crate) fn correct() -> Self {
        Self { verdict: Verdict::Correct, detail: String::new() }
    }

    pub(crate) fn new(verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { verdict, detail: detail.into() }
    }

    /// The more harmful of the two; the first where they are equally so.
    pub(crate) fn worse(self, other: Self) -> Self {
        if other.verdict > self.verdict { other } else { self }
    }

    pub(crate) fn worst(so_far: Option<Self>, other: Self) -> Option<Self> {
        Some(match so_far {
            Some(so_far) => so_far.worse(other),
            None => other,
        })
    }

    /// The same with the details of both where they are equally harmful.
    pub(crate) fn with(mut self, other: Self) -> Self {
        if other.verdict == self.verdict && !self.detail.is_empty() {
            self.detail = format!("{}; {}", self.detail, other.detail);
            return self;
        }
        self.worse(other)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Correct => "correct",
            Self::Errors => "errors",
            Self::Panics => "panics",
            Self::Cut => "cut",
            Self::Wrong => "wrong",
        })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Leaf => "leaf",
            Self::NonLeaf => "non-leaf",
            Self::ReusedBefore => "reused before",
            Self::ReusedAfter => "reused after",
            Self::Strided => "strided",
            Self::TransposedAfter => "transposed after",
            Self::Layout => "layout",
            Self::Rows => "rows",
        })
    }
}
