//! Properties: transformations, equivalence, sensitivity, determinism.

mod blind;
mod deterministic;
mod equivalent;
mod equivariant;
mod invariant;
mod layout_invariant;
mod moved;
mod narrow;
mod nonlinear;
mod rounding;
mod sensitive;
mod symmetry;
mod transform;

pub use deterministic::{Deterministic, DeterministicReport};
pub use equivalent::{Equivalent, EquivalentReport};
pub use equivariant::{Equivariant, EquivariantReport};
pub use invariant::{Invariant, InvariantReport};
pub use layout_invariant::{LayoutInvariant, LayoutInvariantReport};
pub use nonlinear::{Nonlinear, NonlinearReport};
pub use sensitive::{Direction, Sensitive, SensitiveReport};
pub use transform::{Transform, Transforms};
