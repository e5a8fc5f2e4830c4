//! Assertions on what a training learns.

mod accumulation;
mod reproducible;
