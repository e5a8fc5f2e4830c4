//! A value for showing.

use std::fmt;

/// One value as its dtype knows it, so that it is shown with the digits it has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Single(f32),
    Double(f64),
    Integer(i64),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Single(value) => write!(f, "{value:?}"),
            Number::Double(value) => write!(f, "{value:?}"),
            Number::Integer(value) => write!(f, "{value}"),
        }
    }
}

impl Number {
    pub(crate) fn to_f64(self) -> f64 {
        match self {
            Number::Single(value) => f64::from(value),
            Number::Double(value) => value,
            Number::Integer(value) => value as f64,
        }
    }
}
