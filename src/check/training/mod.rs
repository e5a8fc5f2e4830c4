//! Assertions that train.

mod arguments;
mod input_blind;
mod overfits_batch;

pub use overfits_batch::{OverfitsBatch, OverfitsBatchReport};
