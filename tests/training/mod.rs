mod bad_input;
mod diagnosis;
mod healthy;
mod learning;
pub(crate) mod models;
mod overfits_batch;
mod steps;
