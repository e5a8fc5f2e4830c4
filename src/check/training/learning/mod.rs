//! What a training learns, and whether it can be repeated.

mod accumulation;
mod reproducible;

pub use accumulation::{AccumulationEquivalent, AccumulationEquivalentReport, Count, Weighting};
pub use reproducible::{Reproducible, ReproducibleReport};
