//! Sequence models: caches, padding, positions.

mod bad_input;
mod cache;
mod order;
mod padding;
mod small;
mod traps;

/// So many seeds of every healthy model raise no alarm.
const SEEDS: u64 = 30;
