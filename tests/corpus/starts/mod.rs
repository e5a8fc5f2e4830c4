//! Group D: how a model starts.

mod copies;
mod losses;
mod sizes;
mod zeros;

use candling::check::Initialized;

use super::entry::{Entry, Subject};

const GROUP: &str = "initialisation";

pub(crate) fn entries() -> impl Iterator<Item = Entry> {
    [zeros::ENTRIES, copies::ENTRIES, sizes::ENTRIES, losses::ENTRIES]
        .into_iter()
        .flatten()
        .copied()
}

/// The user's own test: all weights are drawn, but for those that start at zero by intent.
pub(crate) fn initialized(subject: Subject, zeros: &'static [&'static str]) -> Subject {
    subject.test(move |learner, _| {
        Initialized::new().allow_zero(zeros.iter().copied()).check(learner.variables())
    })
}
