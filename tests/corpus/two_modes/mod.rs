//! Group H: training and evaluation mode.

use super::entry::Entry;

pub(crate) const ENTRIES: &[Entry] = &[];
