//! Rows of a batch: none depends on another.

mod independent;
mod mixed;
mod other_sizes;
mod report;

pub use independent::BatchIndependent;
pub use report::{BatchIndependentReport, GradientProof};
