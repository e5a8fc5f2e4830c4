//! Not public API: what the exported macros expand to, so that they work whatever the caller has in scope.

use std::fmt;

pub use std::{
    format_args,
    option::Option::{None, Some},
    result::Result::{Err, Ok},
};

use crate::{Failure, env, verdict::Palette};

/// Panics at the caller's line with the whole message.
#[cold]
#[track_caller]
pub fn fail(failure: Failure, context: Option<fmt::Arguments<'_>>) -> ! {
    let failure = match context {
        Some(context) => failure.context(context),
        None => failure,
    };
    let palette = if env::colour() { Palette::Colour } else { Palette::Plain };
    panic!("{}", failure.text_in(palette))
}
