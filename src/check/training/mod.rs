//! Assertions that train.

mod attempt;
mod input_blind;
mod learning;
mod overfits_batch;
mod steps;
mod wording;

pub use learning::{
    AccumulationEquivalent, AccumulationEquivalentReport, CapacityHelps, CapacityHelpsReport,
    Count, LearnsFromInput, LearnsFromInputReport, Reproducible, ReproducibleReport, Weighting,
};
pub use overfits_batch::{OverfitsBatch, OverfitsBatchReport};
pub use steps::{
    LossDecreases, LossDecreasesReport, StepUpdates, StepUpdatesReport, VariableUpdate,
    VariableVerdict,
};
