//! Assertions on gradients.

mod alive;
mod compared;
mod correct;
mod flow;
mod judged;
mod table;

pub use alive::{LayerActivity, UnitsAlive, UnitsAliveReport};
pub use correct::{Differentiated, GradientsCorrect, GradientsCorrectReport};
pub use flow::{GradientsFlow, GradientsFlowReport};
pub use table::{GradientVerdict, VariableGradient};
