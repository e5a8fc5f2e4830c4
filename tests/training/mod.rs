mod bad_input;
mod diagnosis;
mod healthy;
pub(crate) mod models;
mod overfits_batch;
