//! Group A: what is done to the input before the model sees it.

mod pixels;
mod tables;

use super::entry::Entry;

pub(super) fn entries() -> Vec<Entry> {
    [pixels::ENTRIES, tables::ENTRIES].concat()
}
