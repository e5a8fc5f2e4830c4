//! One binary: candle links once.

mod training;
