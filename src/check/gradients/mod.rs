//! Assertions on gradients.

mod alive;
mod compared;
mod correct;
mod flow;
mod flow_findings;
mod idle;
mod judged;
mod precision;
mod size;
mod slopes_table;
mod table;
mod wrong;

pub use alive::{LayerActivity, UnitsAlive, UnitsAliveReport};
pub use correct::{Differentiated, GradientsCorrect, GradientsCorrectReport};
pub use flow::{GradientsFlow, GradientsFlowReport};
pub use table::{GradientVerdict, VariableGradient};
