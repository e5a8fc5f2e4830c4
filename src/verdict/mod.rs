//! What a check says when it does not pass: data, and its rendering as plain text.

mod cause;
mod columns;
mod content;
mod curve;
mod failure;
mod finding;
mod number;
mod render;

pub use cause::Cause;
pub(crate) use columns::columns;
pub use content::FailureKind;
pub(crate) use curve::sparkline;
pub use failure::Failure;
pub use finding::Finding;
pub(crate) use number::{all, count, listed, number, told_apart};
pub(crate) use render::Palette;
