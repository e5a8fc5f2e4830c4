//! Assertions on loss functions.

mod bad_input;
mod clean;
mod custom;
mod losses;
mod mistakes;
mod texts;
