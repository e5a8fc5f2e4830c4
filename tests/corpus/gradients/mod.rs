//! What gradients show: variants of the master list's bugs in other models and other places.

mod backward;
mod custom_ops;
mod cut;
mod depth;
mod engine;
mod fused;
mod idle;
mod models;
mod not_finite;
mod precision;
mod rounded;
mod units;
mod unused;
mod unused_layers;

use super::entry::Entry;

pub(super) fn entries() -> Vec<Entry> {
    [
        fused::ENTRIES,
        idle::ENTRIES,
        cut::ENTRIES,
        rounded::ENTRIES,
        unused::ENTRIES,
        unused_layers::ENTRIES,
        backward::ENTRIES,
        engine::ENTRIES,
        depth::ENTRIES,
        units::ENTRIES,
        not_finite::ENTRIES,
        precision::ENTRIES,
    ]
    .concat()
}
