use std::panic::Location;

use candle_core::Tensor;

use super::{
    symmetry::{Options, Symmetry},
    transform::{Transforms, listed},
};
use crate::{
    Cause, Input, Result, Seed, Tolerance,
    check::{call, function},
};

/// The output stays as it is when the input is transformed: `f(T(x)) = f(x)`.
///
/// A metamorphic relation: no one has to know the right output to see that two outputs contradict each other. The order of
/// the points of a set, the place of an object in a picture, a constant added to all logits must not matter where the
/// architecture says so.
///
/// # How
///
/// Outputs that are equal bit for bit pass. Others may differ by rounding, as far as it was measured on this very function:
/// every input value is moved by up to one unit in its last place, at `x` and at `T(x)`, and the output's largest change,
/// or its own last place, is one rounding. Eight of them are allowed, or `sqrt(n)` where an output may sum over more than 64
/// inputs: the random walk of a sum in another order. Integer inputs have no last place, and the depth of the network is
/// not measured: 64 roundings of the output are allowed (16 of bf16). Outputs of integers are exact.
///
/// # Errors
///
/// - [`Violated`](crate::FailureKind::Violated): [`Cause::NotInvariant`] with the worst elements; [`Cause::ShapeMismatch`]
///   for an output of other dimensions;
/// - [`Vacuous`](crate::FailureKind::Vacuous): the transformation leaves `x` as it is; the output is the same for other
///   random inputs as well, or moves within the tolerance only;
/// - [`NotRun`](crate::FailureKind::NotRun): a closure returns an error, two calls differ, NaN.
///
/// # Examples
///
/// ```
/// use candling::{check::Invariant, prelude::*};
///
/// let points = Seed::new(1).normal("points", (2, 50, 3), DType::F32, &Device::Cpu)?;
/// let reversed = |x: &Tensor| x.flip(&[1]);
/// Invariant::new().check(|x: &Tensor| x.exp()?.sum(1), &points, reversed)?;
///
/// let failure = Invariant::new().check(|x: &Tensor| x.flatten_from(1), &points, reversed).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::NotInvariant));
/// # candling::Result::Ok(())
/// ```
///
/// *Source:* metamorphic testing, [T. Y. Chen, S. C. Cheung and S. M. Yiu, 1998](https://arxiv.org/abs/2002.12543);
/// rounding by nudged inputs, J. Vignes, 1993, and D. S. Parker, 1997.
#[derive(Clone, Debug, Default)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct Invariant {
    options: Options,
}

/// What a passed [`Invariant`] measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InvariantReport {
    /// How many transformations were applied.
    pub transformations: usize,
    /// How many of them left the output as it was bit for bit.
    pub exact: usize,
    /// The greatest difference of the others.
    pub max_absolute_difference: f64,
    /// The largest relative and absolute bound that was applied; zeros where all outputs were equal bit for bit.
    pub bounds: (f64, f64),
}

impl Invariant {
    /// Within the rounding measured on the function itself.
    pub fn new() -> Self {
        Self::default()
    }

    /// How close the outputs must be: a [`Tolerance`], or a number as absolute bound. Default: the measured rounding.
    pub fn tolerance(mut self, tolerance: impl Into<Tolerance>) -> Self {
        self.options.tolerance = Some(tolerance.into());
        self
    }

    /// From what the other inputs are drawn that show that the output depends on its input. Default: 0.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.options.seed = seed;
        self
    }

    /// Does not fail for this cause: it is intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.options.allowed.push(cause);
        self
    }

    /// Compares `f(T(x))` with `f(x)`, for each transformation.
    ///
    /// `transform` is a closure of the input, a [`Transform`](super::Transform), or an array or `Vec` of those.
    ///
    /// # Errors
    ///
    /// See [`Invariant`].
    #[track_caller]
    pub fn check<'t, I: Input>(
        &self,
        f: impl FnMut(&I) -> candle_core::Result<Tensor>,
        x: &I,
        transform: impl Transforms<'t, I>,
    ) -> Result<InvariantReport> {
        call::run("invariant", Location::caller(), || {
            let mut f = function::erased("the function", f);
            let transforms = listed(transform, "the transformation")?;
            let seen = Symmetry::Invariant.judge(&mut f, x.members(), transforms, &self.options)?;
            Ok(InvariantReport {
                transformations: seen.transformations,
                exact: seen.exact,
                max_absolute_difference: seen.difference,
                bounds: seen.bounds(),
            })
        })
    }
}
