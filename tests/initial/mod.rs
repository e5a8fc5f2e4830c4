//! Assertions before training.

mod initialized;
mod published;
