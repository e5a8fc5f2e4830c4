mod bad_input;
mod models;
mod overfits_batch;
