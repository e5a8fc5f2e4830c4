//! Groups B, C, E, G, J and N: what a training learns, and whether it can be repeated. Most of these bugs are in the code
//! around the model, so each subject brings the test that its author would have.

mod accumulation;
mod from_input;
mod reproducible;

use super::entry::Entry;

/// Every entry.
pub(crate) fn entries() -> impl Iterator<Item = Entry> {
    let groups = [accumulation::ENTRIES, from_input::ENTRIES, reproducible::ENTRIES];
    groups.into_iter().flatten().copied()
}
