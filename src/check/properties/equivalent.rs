use std::panic::Location;

use candle_core::{DType, Tensor};

use super::{
    blind::refuse_blind,
    narrow::computed_in,
    rounding::{self, Allowed, coarser, in_one_dtype},
};
use crate::{
    Cause, Failure, Finding, Inputs, Result, Seed, Tolerance,
    check::{
        call::{self, not_allowed},
        function::{self, Function, dims_of},
        tensors::{difference, kind_of},
    },
    measure::{compare, noise::epsilon, values::same_bits},
};

/// Two functions agree: looped and vectorised, batched and one by one, f32 and bf16, on the CPU and on another device.
///
/// Both get the same input. What differs between them belongs into the closures: a cast, a device, a loop over the rows.
/// Outputs are compared on the CPU, those of two dtypes as f64 with the tolerance of the coarser one.
///
/// # How
///
/// Outputs that are equal bit for bit pass. Others may differ by rounding, as far as it was measured on both functions:
/// every input value is moved by up to one unit in the last place of the coarser format, and the output's largest change, or
/// its own last place, is one rounding. Eight of them are allowed, or `sqrt(n)` where an output may sum over more than 64
/// inputs, and 64 where the input holds integers (see [`Invariant`](super::Invariant)). No size is built in: outputs of
/// 10,000 are not held to 1e-5, and at size 1 the two GELUs, 4.7e-4 apart, are told from each other in f32. Outputs of
/// integers are exact.
///
/// A model of ids that computes in bf16 and returns f32 shows its rounding nowhere: let it return what it computes in. Where
/// every value of one output fits a narrower format, the failure says so.
///
/// # Errors
///
/// - [`Violated`](crate::FailureKind::Violated): [`Cause::ValuesDiffer`] with the worst elements, and what the whole
///   difference looks like (scaled, shifted, transposed, permuted, in one row) where that was verified on every element;
///   [`Cause::ShapeMismatch`];
/// - [`Vacuous`](crate::FailureKind::Vacuous): a function gives the same for other random inputs as well, or moves within
///   the tolerance only;
/// - [`NotRun`](crate::FailureKind::NotRun): a closure returns an error (the failure says which), two calls differ, NaN.
///
/// # Examples
///
/// ```
/// use candling::{check::Equivalent, prelude::*};
///
/// let x = Seed::new(1).normal("x", (4, 16), DType::F32, &Device::Cpu)?;
/// let variance = |x: &Tensor| x.broadcast_sub(&x.mean_keepdim(1)?)?.sqr()?.mean(1);
/// let by_moments = |x: &Tensor| x.sqr()?.mean(1)? - x.mean(1)?.sqr()?;
/// Equivalent::new().check(variance, by_moments, &x)?;
///
/// // candle's `var` divides by n - 1
/// let failure = Equivalent::new().check(|x: &Tensor| x.var(1), variance, &x).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::ValuesDiffer));
/// # candling::Result::Ok(())
/// ```
///
/// *Source:* differential testing, W. M. McKeeman, 1998; rounding by nudged inputs, J. Vignes, 1993, and D. S. Parker, 1997.
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct Equivalent {
    tolerance: Option<Tolerance>,
    seed: Seed,
    allowed: Vec<Cause>,
}

/// What a passed [`Equivalent`] measured.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EquivalentReport {
    /// On how many inputs the functions were compared.
    pub cases: usize,
    /// How many of the outputs were equal bit for bit.
    pub exact: usize,
    /// The greatest difference of the others.
    pub max_absolute_difference: f64,
    /// The largest relative and absolute bound that was applied; zeros where all outputs were equal bit for bit.
    pub bounds: (f64, f64),
}

impl Default for Equivalent {
    fn default() -> Self {
        Self { tolerance: None, seed: Seed::new(0), allowed: Vec::new() }
    }
}

impl Equivalent {
    /// Within the rounding measured on both functions.
    pub fn new() -> Self {
        Self::default()
    }

    /// How close the outputs must be: a [`Tolerance`], or a number as absolute bound. Default: the measured rounding.
    pub fn tolerance(mut self, tolerance: impl Into<Tolerance>) -> Self {
        self.tolerance = Some(tolerance.into());
        self
    }

    /// From what the other inputs are drawn that show that the outputs depend on their input. Default: 0.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// Does not fail for this cause: it is intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Compares `f` with `g`, which is the one expected to be right, on the inputs.
    ///
    /// # Errors
    ///
    /// See [`Equivalent`].
    #[track_caller]
    pub fn check<X: Inputs>(
        &self,
        f: impl FnMut(&X::Input) -> candle_core::Result<Tensor>,
        g: impl FnMut(&X::Input) -> candle_core::Result<Tensor>,
        inputs: &X,
    ) -> Result<EquivalentReport> {
        call::run("equivalent", Location::caller(), || {
            if let Some(tolerance) = &self.tolerance {
                tolerance.validate()?;
            }
            let mut f = function::erased("the first function", f);
            let mut g = function::erased("the second function", g);
            let mut report = EquivalentReport::default();
            let cases = inputs.judge_each(&mut |x| self.judge(&mut f, &mut g, x, &mut report))?;
            Ok(EquivalentReport { cases, ..report })
        })
    }

    fn judge(
        &self,
        f: &mut Function<'_>,
        g: &mut Function<'_>,
        x: &[Tensor],
        report: &mut EquivalentReport,
    ) -> Result<()> {
        function::values(x)?;
        let named = |which: &'static str| {
            move |failure: Failure| match failure.headline().starts_with(which) {
                true => failure,
                false => failure.fact("function", which),
            }
        };
        let first = function::steady(f, x).map_err(named("the first function"))?;
        let second = function::steady(g, x).map_err(named("the second function"))?;
        if first.dims() != second.dims() {
            return self.not_of_one_shape(x, &first, &second);
        }
        let exact = first.dtype() == second.dtype() && same_bits(&first, &second)?;
        let allowed = match exact {
            true => Allowed::nothing(),
            false => self.compare(f, g, x, (&first, &second), report)?,
        };
        report.exact += usize::from(exact);
        refuse_blind("the first function", f, x, &first, &allowed, self.seed)?;
        refuse_blind("the second function", g, x, &second, &allowed, self.seed)
    }

    fn compare(
        &self,
        f: &mut Function<'_>,
        g: &mut Function<'_>,
        x: &[Tensor],
        (first, second): (&Tensor, &Tensor),
        report: &mut EquivalentReport,
    ) -> Result<Allowed> {
        let allowed = match self.tolerance {
            Some(tolerance) => Allowed::given(tolerance, coarser_dtype(first, second)),
            None => {
                let coarsest = coarser(first, second);
                let noise =
                    [rounding::of(f, x, first, coarsest)?, rounding::of(g, x, second, coarsest)?];
                Allowed::measured(&noise, x, first.elem_count())
            }
        };
        let (actual, expected) = in_one_dtype(first, second)?;
        let found = compare::compare(&actual, &expected, allowed.bounds)?;
        report.max_absolute_difference = report.max_absolute_difference.max(found.max_absolute);
        report.bounds = (
            report.bounds.0.max(allowed.bounds.relative),
            report.bounds.1.max(allowed.bounds.absolute),
        );
        let Some(mismatches) = &found.mismatches else { return Ok(allowed) };
        let told = difference::tell(&actual, &expected, allowed.bounds, found.elements, mismatches);
        let findings = not_allowed(told.findings().to_vec(), &self.allowed);
        if findings.is_empty() {
            return Ok(allowed);
        }
        let failure = Failure::violated(format!("the two functions disagree: {}", told.headline()))
            .fact("input", dims_of(x))
            .fact("actual", format!("the first function, {}", kind_of(first)))
            .fact("expected", format!("the second function, {}", kind_of(second)))
            .facts_of(&told)
            .fact("noise", allowed.reason)
            .with_findings(findings);
        Err(match narrow_side(first, second)? {
            Some(words) => failure.fact("format", words),
            None => failure,
        })
    }

    fn not_of_one_shape(&self, x: &[Tensor], first: &Tensor, second: &Tensor) -> Result<()> {
        if self.allowed.contains(&Cause::ShapeMismatch) {
            return Ok(());
        }
        let (left, right) = (first.dims(), second.dims());
        let finding =
            Finding::confirmed(Cause::ShapeMismatch, format!("{left:?} is not {right:?}"));
        let finding = match first.elem_count() == second.elem_count() {
            true => finding.advice_is(
                "as many elements: look for a missing `reshape`, `transpose` or `unsqueeze`",
            ),
            false => finding,
        };
        Err(Failure::violated(format!(
            "the two functions return different shapes: {left:?} and {right:?}"
        ))
        .fact("input", dims_of(x))
        .fact("actual", format!("the first function, {}", kind_of(first)))
        .fact("expected", format!("the second function, {}", kind_of(second)))
        .finding(finding))
    }
}

/// What to do about one output that was computed in a narrower format, where the other was not.
fn narrow_side(first: &Tensor, second: &Tensor) -> Result<Option<String>> {
    let formats = (computed_in(first)?, computed_in(second)?);
    let (which, output, format) = match formats {
        (Some(format), None) => ("first", first, format),
        (None, Some(format)) => ("second", second, format),
        _ => return Ok(None),
    };
    let (own, format) = (output.dtype().as_str(), format.as_str());
    Ok(Some(format!(
        "every value of the {which} function is exact in {format}: if it computes in {format} and converts to {own}, let it \
         return {format}, and what {format} rounds is allowed"
    )))
}

fn coarser_dtype(a: &Tensor, b: &Tensor) -> DType {
    let coarseness = |t: &Tensor| epsilon(t.dtype()).unwrap_or(0.0);
    if coarseness(a) > coarseness(b) { a.dtype() } else { b.dtype() }
}
