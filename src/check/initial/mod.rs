//! Assertions on a model before its first step.

mod copies;
mod initial_loss;
mod initialized;
mod judged;
mod role;
mod scale;
mod start;
mod weights_table;
mod why_high;
mod why_low;
mod wording;

pub use initial_loss::{InitialLoss, InitialLossReport};
pub use initialized::{Initialized, InitializedReport};
pub use weights_table::{InitialWeight, WeightVerdict};
