//! Replacing chosen parts of an input by other values, and seeing which parts of the output notice.

mod alternative;
mod cells;
mod codes;
mod noticed;

pub(crate) use alternative::alternative;
pub(crate) use cells::Mix;
pub(crate) use codes::{code_words, code_words_and_halves};
pub(crate) use noticed::{cells_that_differ, differences, largest_difference};
