//! What is under test.

mod net;
mod reader;

pub(crate) use net::Net;
pub(crate) use reader::{Reader, lines};
