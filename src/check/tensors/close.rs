use std::panic::Location;

use candle_core::Tensor;

use super::{difference, kind_of, readable};
use crate::{
    Cause, Failure, Finding, Result, Tolerance,
    check::call,
    measure::compare::{self, Bounds, pattern},
};

/// Two tensors agree: same shape, same dtype, every element within the tolerance.
///
/// An element is within the tolerance if `|actual - expected| <= absolute + relative * |expected|`. Tensors of any
/// shape, layout and device, of dtype u8, u32, i16, i32, i64, f16, bf16, f32, f64 and f8e4m3. Floats are compared in
/// their own precision (half precision in f32), integers exactly. NaN matches nothing, not even NaN; equal infinities
/// match; `0.0` and `-0.0` match.
///
/// The rule and the default bounds are those of [`torch.testing.assert_close`][torch]: see [`Tolerance`].
///
/// # Failures
///
/// - a shape or dtype that differs: [`Cause::ShapeMismatch`], [`Cause::ValuesDiffer`];
/// - elements that differ: [`Cause::ValuesDiffer`], with how the whole difference looks (scaled, shifted, negated,
///   transposed, permuted, confined to one index) where that was verified on every element;
/// - two empty tensors are [`Vacuous`](crate::FailureKind::Vacuous): nothing was compared;
/// - a negative or NaN tolerance: the check does not run.
///
/// ```
/// use candling::{check::Close, prelude::*};
///
/// let expected = Tensor::new(&[1f32, 2., 4., 8.], &Device::Cpu)?;
/// let report = Close::new().check(&(&expected + 1e-6)?, &expected)?;
/// assert_eq!(report.elements, 4);
///
/// let failure = Close::new().tolerance(0.1).check(&(&expected * 2.)?, &expected).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::ValuesDiffer));
/// assert!(failure.text().contains("actual is expected times 2"));
/// # candling::Result::Ok(())
/// ```
///
/// [torch]: https://docs.pytorch.org/docs/stable/testing.html#torch.testing.assert_close
#[derive(Clone, Debug, Default)]
pub struct Close {
    tolerance: Tolerance,
}

/// What a passed [`Close`] measured.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct CloseReport {
    /// How many pairs of elements were compared.
    pub elements: usize,
    /// The greatest `|actual - expected|`; `0.0` where all values are equal.
    pub max_absolute_difference: f64,
    /// The relative and the absolute bound that were applied.
    pub bounds: (f64, f64),
}

impl Close {
    /// The bounds of the tensors' dtype: [`Tolerance::per_dtype`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How close is close: a [`Tolerance`], or a number as absolute bound. Default: the bounds of the dtype.
    #[must_use]
    pub fn tolerance(mut self, tolerance: impl Into<Tolerance>) -> Self {
        self.tolerance = tolerance.into();
        self
    }

    /// Compares `actual` with `expected`.
    ///
    /// # Errors
    ///
    /// A [`Failure`] as the type's documentation lists them.
    #[track_caller]
    pub fn check(&self, actual: &Tensor, expected: &Tensor) -> Result<CloseReport> {
        let location = Location::caller();
        call::signed("close", location, self.judge(actual, expected))
    }

    fn judge(&self, actual: &Tensor, expected: &Tensor) -> Result<CloseReport> {
        self.tolerance.validate()?;
        let (relative, absolute) = self.tolerance.bounds(expected.dtype());
        let bounds = Bounds { relative, absolute };
        if actual.dims() != expected.dims() {
            return Err(shapes_differ(actual, expected, bounds));
        }
        if actual.dtype() != expected.dtype() {
            return Err(dtypes_differ(actual, expected));
        }
        readable(actual)?;
        if actual.elem_count() == 0 {
            return Err(Failure::vacuous("no element was compared: both tensors are empty")
                .fact("tensors", kind_of(actual))
                .help("compare tensors that hold something, or assert the shape"));
        }
        let found = compare::compare(actual, expected, bounds)?;
        match &found.mismatches {
            None => Ok(CloseReport {
                elements: found.elements,
                max_absolute_difference: found.max_absolute,
                bounds: (relative, absolute),
            }),
            Some(mismatches) => {
                Err(difference::tell(actual, expected, bounds, found.elements, mismatches))
            }
        }
    }
}

fn shapes_differ(actual: &Tensor, expected: &Tensor, bounds: Bounds) -> Failure {
    let (left, right) = (actual.dims(), expected.dims());
    let readable = readable(actual).is_ok();
    let transposed = || pattern::transposed(actual, expected, bounds).ok().flatten();
    let squeezed = || pattern::squeezed(actual, expected, bounds).unwrap_or(false);
    let (evidence, advice) = if actual.elem_count() != expected.elem_count() {
        (format!("{left:?} is not {right:?}"), None)
    } else if let Some(pattern::Pattern::Transposed(a, b)) = readable.then(transposed).flatten() {
        (
            format!("the values agree with dimensions {a} and {b} swapped"),
            Some(format!("swap them on one side: `.transpose({a}, {b})?`")),
        )
    } else if readable && squeezed() {
        (
            "the values agree once dimensions of size 1 are left out".to_owned(),
            Some("bring both to one shape, with `squeeze` or `unsqueeze`".to_owned()),
        )
    } else {
        (
            "as many elements, in another shape".to_owned(),
            Some("look for a missing `reshape`, `transpose` or `unsqueeze`".to_owned()),
        )
    };
    let finding = Finding::confirmed(Cause::ShapeMismatch, evidence);
    Failure::violated(format!("the shapes differ: {left:?}, expected {right:?}"))
        .fact("actual", kind_of(actual))
        .fact("expected", kind_of(expected))
        .finding(match advice {
            Some(advice) => finding.advice_is(advice),
            None => finding,
        })
}

fn dtypes_differ(actual: &Tensor, expected: &Tensor) -> Failure {
    let (left, right) = (actual.dtype(), expected.dtype());
    Failure::violated(format!("the dtypes differ: {}, expected {}", left.as_str(), right.as_str()))
        .fact("actual", kind_of(actual))
        .fact("expected", kind_of(expected))
        .finding(
            Finding::confirmed(Cause::ValuesDiffer, "values of two dtypes are not compared")
                .advice_is(format!(
                    "convert one of the two, say with `.to_dtype(DType::{right:?})?`"
                )),
        )
}
