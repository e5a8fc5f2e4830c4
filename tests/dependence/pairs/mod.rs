//! Positions and features: which output depends on which input.

mod bad_input;
mod causal;
mod clean;
mod dependence;
mod leaks;
mod models;
mod uses_input;
