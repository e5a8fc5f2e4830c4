//! Assertions on properties of functions.
