//! Single steps: the learner's own, and the user's.

mod decreases;
mod updates;

/// The share of the gradient, by its size, along which a step goes up. A step down has next to none, one that knows nothing
/// of the gradient half.
const CLIMBS: f64 = 0.9;

pub use decreases::{LossDecreases, LossDecreasesReport};
pub use updates::{StepUpdates, StepUpdatesReport, VariableUpdate, VariableVerdict};
