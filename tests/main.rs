//! One binary for all integration tests: candle links once.

mod audit;
mod checklist;
mod corpus;
mod data;
mod dependence;
mod gradients;
mod gradients_power;
mod hygiene;
mod initial;
mod loss;
mod models;
mod modes;
mod properties;
#[cfg(feature = "proptest")]
mod property;
#[cfg(feature = "seed-candle")]
mod seed_candle;
#[cfg(feature = "proptest")]
mod strategies;
mod support;
mod tensors;
mod training;
