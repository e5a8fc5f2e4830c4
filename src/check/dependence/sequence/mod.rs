//! Sequence models: caches, padding, positions.

mod cache;
mod grid;
mod order;
mod padding;
mod rounding;

pub use cache::{CacheConsistent, CacheConsistentReport, CachedRun};
pub use order::{PositionSensitive, PositionSensitiveReport};
pub use padding::{PaddingInvariant, PaddingInvariantReport, Side};
