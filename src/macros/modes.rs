//! Assertions on training and evaluation mode.
