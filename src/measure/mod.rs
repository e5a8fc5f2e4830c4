//! Facts: what is so, in numbers. No threshold, no message, no macro lives here.

pub(crate) mod compare;
pub(crate) mod scan;
pub(crate) mod values;
