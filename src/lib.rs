//! Testing assertions for neural networks written with candle.

mod approx;
mod diagnose;
mod env;
mod input;
mod learner;
mod macros;
mod measure;
mod seed;
mod tolerance;
mod variables;
mod verdict;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
pub mod check;
pub mod prelude;
pub mod synthetic;

pub use candle_core;
pub use candle_nn;

pub use approx::Approx;
pub use env::{Env, Update, device};
pub use input::{Batch, Input};
pub use learner::Learner;
pub use seed::Seed;
pub use tolerance::Tolerance;
pub use variables::{Snapshot, Variables, set_constant, set_with};
pub use verdict::{Cause, Failure, FailureKind, Finding};

/// What every fallible function of candling returns.
pub type Result<T> = std::result::Result<T, Failure>;
