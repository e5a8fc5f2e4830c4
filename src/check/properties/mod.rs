//! Properties: transformations, equivalence, sensitivity, determinism.

mod deterministic;
mod layout_invariant;
mod nonlinear;

pub use deterministic::{Deterministic, DeterministicReport};
pub use layout_invariant::{LayoutInvariant, LayoutInvariantReport};
pub use nonlinear::{Nonlinear, NonlinearReport};
