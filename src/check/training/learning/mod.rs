//! What a training learns, and whether it can be repeated.

mod reproducible;

pub use reproducible::{Reproducible, ReproducibleReport};
