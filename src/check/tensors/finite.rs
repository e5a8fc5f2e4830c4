use std::panic::Location;

use candle_core::Tensor;

use super::{kind_of, readable, share_with_percentage};
use crate::{
    Cause, Failure, Finding, Result,
    check::call,
    measure::{
        compare::{Bounds, pattern},
        scan::{NonFinite, non_finite_values},
        values::is_floating,
    },
};

/// No value of a tensor is NaN or infinite.
///
/// Tensors of any shape, layout and device, of dtype f16, bf16, f32, f64 and f8e4m3.
///
/// # Failures
///
/// - a value that is not finite: [`Cause::NotFinite`], with how many there are of each kind and where the first is;
/// - an empty tensor, or one of integers, which are always finite, is [`Vacuous`](crate::FailureKind::Vacuous).
///
/// ```
/// use candling::{check::Finite, prelude::*};
///
/// let x = Tensor::new(&[[1f32, 0.], [2., 4.]], &Device::Cpu)?;
/// assert_eq!(Finite::new().check(&x)?.elements, 4);
///
/// let failure = Finite::new().check(&x.log()?).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::NotFinite));
/// assert!(failure.text().contains("[0, 1]"));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Finite {}

/// What a passed [`Finite`] looked at.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct FiniteReport {
    /// How many values were looked at.
    pub elements: usize,
}

impl Finite {
    /// There is nothing to set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at every value of `tensor`.
    ///
    /// # Errors
    ///
    /// A [`Failure`] as the type's documentation lists them.
    #[track_caller]
    pub fn check(&self, tensor: &Tensor) -> Result<FiniteReport> {
        let location = Location::caller();
        call::signed("finite", location, judge(tensor))
    }
}

fn judge(tensor: &Tensor) -> Result<FiniteReport> {
    readable(tensor)?;
    if !is_floating(tensor.dtype()) {
        return Err(Failure::vacuous("integers are always finite")
            .fact("tensor", kind_of(tensor))
            .help("check the tensor before it is converted, where NaN becomes 0"));
    }
    if tensor.elem_count() == 0 {
        return Err(Failure::vacuous("the tensor is empty: no value was looked at")
            .fact("tensor", kind_of(tensor)));
    }
    let found = non_finite_values(tensor)?;
    match &found.first {
        None => Ok(FiniteReport { elements: found.elements }),
        Some((index, value)) => Err(tell(tensor, &found, index, *value)),
    }
}

fn tell(tensor: &Tensor, found: &NonFinite, index: &[usize], value: f64) -> Failure {
    let headline =
        share_with_percentage(found.count(), found.elements, "is not finite", "are not finite");
    let mut failure = Failure::violated(headline).fact("tensor", kind_of(tensor));
    for (kind, count) in
        [("NaN", found.nan), ("inf", found.positive_infinity), ("-inf", found.negative_infinity)]
    {
        if count > 0 {
            failure = failure.fact(kind, count.to_string());
        }
    }
    // NaN differs from itself, so a comparison of the tensor with itself places every NaN.
    let exact = Bounds { relative: 0.0, absolute: 0.0 };
    let all_nan = found.nan == found.count() && found.nan > 1;
    if all_nan && let Ok(Some(confined)) = pattern::confined(tensor, tensor, exact) {
        failure = failure.fact(
            "where",
            format!("all have index {} in dimension {}", confined.index, confined.dim),
        );
    }
    let first = if found.count() == 1 { "" } else { ", the first" };
    failure.finding(
        Finding::confirmed(Cause::NotFinite, format!("{value}{first}"))
            .at(format!("{index:?}"))
            .advice_is("follow it back: check what this tensor was made from, the same way"),
    )
}
