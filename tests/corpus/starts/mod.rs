//! Group D: how a model starts.

use super::entry::Entry;

pub(crate) const ENTRIES: &[Entry] = &[];
