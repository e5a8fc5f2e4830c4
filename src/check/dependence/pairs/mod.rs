//! Positions and features: which output depends on which input.

mod causal;
mod cuts;
mod dependence;
mod features;
mod leak;
mod matrix;
mod pattern;
mod probes;
mod rounding;
mod uses_input;
mod wanted;

pub use causal::{Causal, CausalReport};
pub use dependence::{Dependence, DependenceReport};
pub use uses_input::{UsesInput, UsesInputReport};
