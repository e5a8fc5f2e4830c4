//! Not public API: what the exported macros expand to, so that they work whatever the caller has in scope.

use std::fmt;

pub use std::{
    compile_error, format_args,
    option::Option::{None, Some},
    result::Result::{Err, Ok},
    stringify,
};

use crate::{Failure, check::ShapePattern, env, verdict::Palette};

/// Gives the dimensions of `assert_shape!` their type, which an empty list does not have by itself.
pub fn shape_pattern(dims: &[Option<usize>]) -> ShapePattern {
    ShapePattern::from(dims)
}

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
