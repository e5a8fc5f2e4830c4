//! Assertions that train.

mod attempt;
mod input_blind;
mod overfits_batch;
mod wording;

pub use overfits_batch::{OverfitsBatch, OverfitsBatchReport};
