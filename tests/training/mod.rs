mod bad_input;
mod diagnosis;
mod models;
mod overfits_batch;
