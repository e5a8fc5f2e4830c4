//! Assertions on a model before its first step.
