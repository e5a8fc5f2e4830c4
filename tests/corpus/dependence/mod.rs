//! What depends on what, and laws that a function obeys.

mod batch_size;
mod cache;
mod deep;
mod ignored;
mod masks;
mod models;
mod padding;
mod rows;
mod state;
mod symmetry;
mod time;

use super::entry::Entry;

pub(super) fn entries() -> Vec<Entry> {
    [
        rows::ENTRIES,
        batch_size::ENTRIES,
        masks::ENTRIES,
        time::ENTRIES,
        cache::ENTRIES,
        deep::ENTRIES,
        padding::ENTRIES,
        ignored::ENTRIES,
        symmetry::ENTRIES,
        state::ENTRIES,
    ]
    .concat()
}
