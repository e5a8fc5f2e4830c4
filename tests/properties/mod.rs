//! Properties: transformations, equivalence, sensitivity, determinism.

mod clean;
mod deterministic;
mod layout_invariant;
mod models;
mod nonlinear;
mod zoo;
