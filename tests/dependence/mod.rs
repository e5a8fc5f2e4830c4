//! What depends on what: rows on rows, positions on positions, outputs on inputs.

mod batch;
mod grouped;
mod pairs;
mod sequence;
