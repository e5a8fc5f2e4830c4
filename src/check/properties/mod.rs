//! Properties: transformations, equivalence, sensitivity, determinism.

mod bending;
mod between;
mod calls;
mod deterministic;
mod layout_invariant;
mod layouts;
mod nonlinear;

pub use deterministic::{Deterministic, DeterministicReport};
pub use layout_invariant::{LayoutInvariant, LayoutInvariantReport};
pub use nonlinear::{Nonlinear, NonlinearReport};
