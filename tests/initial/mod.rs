//! Assertions before training.
