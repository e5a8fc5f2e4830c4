//! A larger model does better.

mod options;
mod why;

pub use options::{CapacityHelps, CapacityHelpsReport};
