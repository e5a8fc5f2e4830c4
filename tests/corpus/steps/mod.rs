//! Groups G and L: what a step does.

use super::entry::Entry;

pub(crate) const ENTRIES: &[Entry] = &[];
