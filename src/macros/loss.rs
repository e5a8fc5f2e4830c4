//! Assertions on loss functions.
