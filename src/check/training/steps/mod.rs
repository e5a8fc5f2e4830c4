//! Single steps: the learner's own, and the user's.

mod updates;

pub use updates::{StepUpdates, StepUpdatesReport, VariableUpdate, VariableVerdict};
