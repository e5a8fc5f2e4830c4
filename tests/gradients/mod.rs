//! The assertions on gradients and on what layers do, and traces.

mod agreement;
mod alive;
mod bad_input;
mod correct;
mod cut;
mod engine;
mod flow;
mod forms;
mod idle;
mod learners;
pub(crate) mod models;
mod trace;
mod unused;
