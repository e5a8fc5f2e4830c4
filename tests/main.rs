//! One binary for all integration tests: candle links once.

mod corpus;
mod hygiene;
mod support;
mod tensors;
mod training;
