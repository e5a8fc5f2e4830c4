//! Assertions on gradients.

mod flow;
mod judged;
mod table;

pub use flow::{GradientsFlow, GradientsFlowReport};
pub use table::{GradientVerdict, VariableGradient};
