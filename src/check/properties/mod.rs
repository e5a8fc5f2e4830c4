//! Properties: transformations, equivalence, sensitivity, determinism.

mod blind;
mod equivalent;
mod equivariant;
mod invariant;
mod moved;
mod rounding;
mod sensitive;
mod symmetry;
mod transform;

pub use equivalent::{Equivalent, EquivalentReport};
pub use equivariant::{Equivariant, EquivariantReport};
pub use invariant::{Invariant, InvariantReport};
pub use sensitive::{Direction, Sensitive, SensitiveReport};
pub use transform::{Transform, Transforms};
mod deterministic;
mod layout_invariant;
mod nonlinear;

pub use deterministic::{Deterministic, DeterministicReport};
pub use layout_invariant::{LayoutInvariant, LayoutInvariantReport};
pub use nonlinear::{Nonlinear, NonlinearReport};
