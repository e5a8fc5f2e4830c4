//! Properties: transformations, equivalence, sensitivity, determinism.

mod equivalent;
mod quiet;
mod sensitive;
mod symmetry;
