//! Assertions on what a training learns.
