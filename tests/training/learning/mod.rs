//! Assertions on what a training learns.

mod reproducible;
