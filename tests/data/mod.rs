//! Assertions on data.
