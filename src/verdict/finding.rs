use std::fmt;

use super::Cause;

/// One thing seen: a cause, the evidence in numbers, the place, and what to try next.
///
/// A finding is *confirmed* when it was measured or an experiment proved it, and *possible* when the evidence merely
/// fits. Confirmed findings come first in [`Failure::findings`](crate::Failure::findings).
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    cause: Cause,
    confirmed: bool,
    place: Option<String>,
    evidence: String,
    advice: Option<String>,
}

impl Finding {
    pub(crate) fn confirmed(cause: Cause, evidence: impl Into<String>) -> Self {
        Self { cause, confirmed: true, place: None, evidence: evidence.into(), advice: None }
    }

    pub(crate) fn possible(cause: Cause, evidence: impl Into<String>) -> Self {
        Self { confirmed: false, ..Self::confirmed(cause, evidence) }
    }

    pub(crate) fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    pub(crate) fn advice_is(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// What went wrong, out of the catalogue.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// Whether it was measured or proved by an experiment, rather than merely fitting the evidence.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Where: a variable, a layer, a row, an element. `None` when the cause has no single place.
    pub fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }

    /// The evidence, in numbers.
    pub fn evidence(&self) -> &str {
        &self.evidence
    }

    /// What to try next.
    pub fn advice(&self) -> &str {
        self.advice.as_deref().unwrap_or(self.cause.advice())
    }
}

impl fmt::Display for Finding {
    /// `loss-sign: with the loss negated, 2.31 -> 0.004 in 118 steps`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.cause)?;
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.evidence)
    }
}
