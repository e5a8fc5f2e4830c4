//! Today's verdicts, all but the correct ones. A new candle release changes this list, and nothing else should.

mod list;

use super::{
    case::Case,
    defects::OVERFLOW_CHECKS,
    verdict::{
        Condition,
        Verdict::{self, Correct},
    },
};

pub(crate) use list::KNOWN;

/// What one defect makes of some cases.
pub(crate) struct Known {
    /// The id of the defect.
    pub(crate) defect: &'static str,
    pub(crate) verdict: Verdict,
    pub(crate) conditions: &'static [Condition],
    pub(crate) cases: &'static [&'static str],
    /// The verdict of a build without overflow checks, where it is another.
    pub(crate) unchecked: Option<Verdict>,
}

impl Known {
    /// The verdict in this build.
    pub(crate) fn here(&self) -> Verdict {
        match self.unchecked {
            Some(verdict) if !OVERFLOW_CHECKS => verdict,
            _ => self.verdict,
        }
    }
}

/// What is known of a case under a condition, if it is not correct.
pub(crate) fn known(case: &Case, condition: Condition) -> Option<&'static Known> {
    let name = case.name();
    KNOWN
        .iter()
        .find(|known| known.conditions.contains(&condition) && known.cases.contains(&name.as_str()))
}

impl Case {
    /// Today's verdict, where the condition applies.
    pub(crate) fn expected(&self, condition: Condition) -> Verdict {
        known(self, condition).map_or(Correct, Known::here)
    }
}

const fn known_as(
    verdict: Verdict,
    defect: &'static str,
    conditions: &'static [Condition],
    cases: &'static [&'static str],
) -> Known {
    Known { defect, verdict, conditions, cases, unchecked: None }
}
