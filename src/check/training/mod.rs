//! Assertions that train.

mod attempt;
mod input_blind;
mod learning;
mod overfits_batch;
mod steps;
mod wording;

pub use learning::{
    AccumulationEquivalent, AccumulationEquivalentReport, Count, Reproducible, ReproducibleReport,
    Weighting,
};
pub use overfits_batch::{OverfitsBatch, OverfitsBatchReport};
