//! Properties: transformations, equivalence, sensitivity, determinism.

mod clean;
mod deterministic;
mod equivalent;
mod layout_invariant;
mod nonlinear;
mod quiet;
mod sensitive;
mod symmetry;
mod traps;
mod zoo;
