//! Assertions on a loss function.

mod contract;

pub use contract::{LossContract, LossContractReport};
