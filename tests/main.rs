//! One binary for all integration tests: candle links once.

mod hygiene;
mod tensors;
mod training;
