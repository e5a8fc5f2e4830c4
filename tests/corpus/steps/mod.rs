//! Groups G, L and F19: what a step does, in loops written by hand and under optimizers of one's own.

pub(crate) mod decreases;
pub(crate) mod loops;
mod rules;
mod updates;

use super::entry::Entry;

pub(crate) fn entries() -> impl Iterator<Item = Entry> {
    [updates::ENTRIES, decreases::ENTRIES].into_iter().flatten().copied()
}
