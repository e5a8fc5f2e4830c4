//! What depends on what: rows on rows, positions on positions, outputs on inputs.

pub(super) mod batch;
pub(super) mod pairs;
pub(super) mod sequence;

pub use batch::{
    BatchIndependent, BatchIndependentReport, GradientProof, rows_by_gradient, rows_by_replacement,
};
