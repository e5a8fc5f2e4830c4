//! Assertions on a loss function.
