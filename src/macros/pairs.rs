//! Assertions on positions and features.
