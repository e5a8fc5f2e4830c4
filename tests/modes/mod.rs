//! Assertions on training and evaluation mode.

mod bad_input;
mod clean;
mod dropout;
mod evaluation;
mod models;
mod norms;
mod restored;
