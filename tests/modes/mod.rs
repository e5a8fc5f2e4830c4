//! Assertions on modes.
