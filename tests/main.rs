//! One binary: candle links once.

mod corpus;
mod training;
