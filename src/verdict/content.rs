//! What a failure holds.

use std::{panic::Location, sync::Arc};

use super::{Cause, Finding};

/// Whether a property was broken, could not have been broken, or was never tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The property does not hold.
    Violated,
    /// Everything ran, but nothing was proved: the check could not have failed.
    Vacuous,
    /// The check did not run: an argument cannot be used, or a closure returned an error.
    NotRun,
}

#[derive(Clone)]
pub(super) struct Content {
    pub(super) assertion: Option<&'static str>,
    pub(super) kind: FailureKind,
    pub(super) context: Option<String>,
    pub(super) headline: String,
    pub(super) facts: Vec<(String, String)>,
    pub(super) findings: Vec<Finding>,
    pub(super) ruled_out: Vec<(Cause, String)>,
    pub(super) help: Option<String>,
    pub(super) rerun: Option<String>,
    pub(super) location: Option<&'static Location<'static>>,
    pub(super) source: Option<Arc<candle_core::Error>>,
}
