//! Assertions on a model before its first step.

mod copies;
mod initialized;
mod judged;
mod role;
mod scale;
mod weights_table;
mod wording;

pub use initialized::{Initialized, InitializedReport};
pub use weights_table::{InitialWeight, WeightVerdict};
