//! What a training learns, and whether it can be repeated.

mod accumulation;
mod capacity;
mod from_input;
mod reproducible;
mod trained;

pub use accumulation::{AccumulationEquivalent, AccumulationEquivalentReport, Count, Weighting};
pub use capacity::{CapacityHelps, CapacityHelpsReport};
pub use from_input::{LearnsFromInput, LearnsFromInputReport};
pub use reproducible::{Reproducible, ReproducibleReport};
