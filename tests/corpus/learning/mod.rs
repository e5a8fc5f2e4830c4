//! Groups E, G and N: what a training learns, and whether it can be repeated.

use super::entry::Entry;

pub(crate) const ENTRIES: &[Entry] = &[];
