//! Group K: what a data pipeline delivers. And A4 and A10, which show there.

mod loader;
mod pairs;
mod preparation;
mod samples;
mod sets;

use super::entry::Entry;

pub(super) fn entries() -> Vec<Entry> {
    [pairs::ENTRIES, samples::ENTRIES, preparation::ENTRIES, sets::ENTRIES].concat()
}
