//! Rows of a batch: none depends on another.

mod independent;
mod mixed;
mod other_sizes;
mod report;

pub use independent::{BatchIndependent, rows_by_gradient, rows_by_replacement};
pub use report::{BatchIndependentReport, GradientProof};
