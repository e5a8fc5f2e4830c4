//! Assertions before training.

mod initialized;
mod loss;
mod published;
