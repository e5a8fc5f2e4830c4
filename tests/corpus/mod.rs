//! Bugs beside their clean twins: what the assertions see, and that they leave the twins alone.
//!
//! Tests and the scoreboard example share this module, so it depends on nothing else in `tests/`.

mod data;
pub(crate) mod entry;
mod gradient_flow;
mod loss;
mod models;
mod numerics;
mod optimizer;
mod optimizers;
mod regularization;
#[cfg(test)]
mod soak;

use entry::Entry;

/// Every entry, group by group.
pub(crate) fn entries() -> Vec<Entry> {
    [
        loss::ENTRIES,
        gradient_flow::ENTRIES,
        optimizer::ENTRIES,
        numerics::ENTRIES,
        regularization::ENTRIES,
    ]
    .concat()
}
