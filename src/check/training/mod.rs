//! Assertions that train.

mod attempt;
mod input_blind;
mod learning;
mod overfits_batch;
mod steps;
mod wording;

pub use learning::{Reproducible, ReproducibleReport};
pub use overfits_batch::{OverfitsBatch, OverfitsBatchReport};
