//! What is under test.

mod loader;
mod net;
mod reader;

pub(crate) use loader::batches;
pub(crate) use net::{DROPOUT, Net};
pub(crate) use reader::{Reader, lines};
