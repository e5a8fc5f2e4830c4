//! A training with the input beats one without.

mod blind;
mod options;
mod why;

pub use options::{LearnsFromInput, LearnsFromInputReport};
