//! Assertions on steps.
