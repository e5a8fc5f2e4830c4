//! Testing assertions for neural networks written with candle.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod approx;
mod env;
mod input;
mod macros;
mod measure;
mod tolerance;
mod verdict;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
pub mod check;
pub mod prelude;

pub use candle_core;
pub use candle_nn;

pub use approx::Approx;
pub use env::{Env, Update, device};
pub use input::{Batch, Input};
pub use tolerance::Tolerance;
pub use verdict::{Cause, Failure, FailureKind, Finding};

/// What every fallible function of candling returns.
pub type Result<T> = std::result::Result<T, Failure>;
