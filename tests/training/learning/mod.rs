//! Assertions on what a training learns.

mod accumulation;
mod capacity;
mod from_input;
mod reproducible;
