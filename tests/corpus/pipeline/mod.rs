//! Group K: what a data pipeline delivers.

use super::entry::Entry;

pub(crate) const ENTRIES: &[Entry] = &[];
