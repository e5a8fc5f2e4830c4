//! Rows of a batch: none depends on another.

mod bad_input;
mod clean;
mod forms;
mod leaks;
mod models;
mod precision;
