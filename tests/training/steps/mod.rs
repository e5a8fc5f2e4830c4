//! Assertions on steps.

mod decreases;
mod refused;
mod rules;
mod updates;
