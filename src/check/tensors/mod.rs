//! Properties of tensors as they are, whatever made them.

mod bracket;
mod close;
pub(super) mod difference;
mod dims;
mod finite;
mod in_range;
mod shape;

use candle_core::Tensor;

use crate::{Failure, Result, measure::values::is_readable};

pub use close::{Close, CloseReport};
pub use dims::{Dim, Dims, DimsReport};
pub use finite::{Finite, FiniteReport};
pub use in_range::{InRange, InRangeReport};
pub use shape::{Shape, ShapePattern, ShapeReport};

/// `f32 [2, 3]`.
pub(crate) fn kind_of(tensor: &Tensor) -> String {
    format!("{} {:?}", tensor.dtype().as_str(), tensor.dims())
}

/// A share of a whole that is never rounded to nothing or to everything.
pub(super) fn percentage(part: usize, whole: usize) -> String {
    let percent = 100.0 * part as f64 / whole as f64;
    if part > 0 && percent < 0.01 {
        "less than 0.01%".to_owned()
    } else if part < whole && percent > 99.9 {
        "more than 99.9%".to_owned()
    } else {
        format!("{}%", crate::verdict::number(percent))
    }
}

/// `1 of 6 elements is`, `2 of 6 elements are`, `the only element is`, `all 6 elements are`, with the verb given.
fn share(part: usize, whole: usize, singular: &str, plural: &str) -> String {
    match (part, whole) {
        (1, 1) => format!("the only element {singular}"),
        _ if part == whole => format!("all {whole} elements {plural}"),
        (1, _) => format!("1 of {whole} elements {singular}"),
        _ => format!("{part} of {whole} elements {plural}"),
    }
}

/// `2 of 6 elements are not finite (33.3%)`.
fn share_with_percentage(part: usize, whole: usize, singular: &str, plural: &str) -> String {
    let text = share(part, whole, singular, plural);
    if part == whole {
        return text;
    }
    format!("{text} ({})", percentage(part, whole))
}

fn readable(tensor: &Tensor) -> Result<()> {
    if is_readable(tensor.dtype()) {
        return Ok(());
    }
    let dtype = tensor.dtype().as_str();
    Err(Failure::not_run(format!("values of dtype {dtype} cannot be read"))
        .fact("tensor", kind_of(tensor))
        .help(
            "candle stores this dtype but cannot convert it; check the tensor before it is packed",
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_shown_as_nothing_or_everything() {
        assert_eq!(percentage(1, 16_000_000), "less than 0.01%");
        assert_eq!(percentage(999_999, 1_000_000), "more than 99.9%");
        assert_eq!(percentage(3, 1024), "0.293%");
        assert_eq!(percentage(1, 3), "33.3%");
        assert_eq!(share(1, 1, "is", "are"), "the only element is");
        assert_eq!(share(6, 6, "is", "are"), "all 6 elements are");
        assert_eq!(share(1, 6, "is", "are"), "1 of 6 elements is");
    }
}
