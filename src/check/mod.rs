//! Judgement: one property a file. An options type is an assertion's settings and its `check`; the macro of the same
//! name calls it and panics.

mod call;
mod healthy;
mod training;

pub use crate::diagnose::Trajectory;
pub use healthy::{Healthy, HealthyReport};
pub use training::{OverfitsBatch, OverfitsBatchReport};
