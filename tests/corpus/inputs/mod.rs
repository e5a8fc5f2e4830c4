//! Group A: what is done to the input before the model sees it.

use super::entry::Entry;

pub(crate) const ENTRIES: &[Entry] = &[];
