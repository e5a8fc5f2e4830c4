mod bad_input;
mod diagnosis;
pub(crate) mod models;
mod overfits_batch;
