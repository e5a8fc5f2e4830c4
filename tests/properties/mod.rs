//! Properties: transformations, equivalence, sensitivity, determinism.

mod equivalent;
mod quiet;
mod sensitive;
mod symmetry;
mod clean;
mod deterministic;
mod layout_invariant;
mod models;
mod nonlinear;
mod zoo;
