//! Single steps: the learner's own, and the user's.

mod decreases;
mod updates;

pub use decreases::{LossDecreases, LossDecreasesReport};
pub use updates::{StepUpdates, StepUpdatesReport, VariableUpdate, VariableVerdict};
