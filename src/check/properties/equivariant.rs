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

/// The output follows a transformation of the input: `f(T(x)) = T'(f(x))`, where `T'` is `T` if nothing else is said.
///
/// A shifted picture gives a shifted map, reordered points give reordered features. A pair of closures says what happens to
/// the input and what happens to the output: a shift by two pixels before a stride of two is one by one pixel after it.
///
/// # How
///
/// As in [`Invariant`](super::Invariant): equal bits pass, and else the rounding measured on both sides is allowed.
/// Padding with zeros breaks shifts at the border: shift a picture that is empty there, pad circularly, or compare the
/// inner part only (`narrow` in the function).
///
/// # Errors
///
/// - [`Violated`](crate::FailureKind::Violated): [`Cause::NotEquivariant`] with the worst elements;
///   [`Cause::ShapeMismatch`] where the two sides have other dimensions;
/// - [`Vacuous`](crate::FailureKind::Vacuous): the transformation leaves `x` as it is; the output is the same for other
///   random inputs as well, or moves within the tolerance only;
/// - [`NotRun`](crate::FailureKind::NotRun): a closure returns an error, the function or the transformation gives two
///   results for one input, NaN.
///
/// # Examples
///
/// ```
/// use candling::{check::Equivariant, prelude::*};
///
/// let x = Seed::new(1).normal("x", (2, 8, 3), DType::F32, &Device::Cpu)?;
/// let shifted = |x: &Tensor| x.roll(1, 1);
/// // the difference to the left neighbour, in a circle
/// Equivariant::new().check(|x: &Tensor| x - x.roll(1, 1)?, &x, shifted)?;
///
/// // a running sum knows where the sequence begins
/// let failure = Equivariant::new().check(|x: &Tensor| x.cumsum(1), &x, shifted).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::NotEquivariant));
///
/// // averages of two follow a shift by two with a shift by one
/// let pairs = |x: &Tensor| x.reshape((2, 4, 2, 3))?.mean(2);
/// Equivariant::new().check(pairs, &x, (|x: &Tensor| x.roll(2, 1), |y: &Tensor| y.roll(1, 1)))?;
/// # candling::Result::Ok(())
/// ```
///
/// *Source:* [T. Cohen and M. Welling, Group equivariant convolutional networks, 2016](https://arxiv.org/abs/1602.07576);
/// metamorphic testing, [T. Y. Chen, S. C. Cheung and S. M. Yiu, 1998](https://arxiv.org/abs/2002.12543).
#[derive(Clone, Debug, Default)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct Equivariant {
    options: Options,
}

/// What a passed [`Equivariant`] measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EquivariantReport {
    /// How many transformations were applied.
    pub transformations: usize,
    /// How many of them were followed bit for bit.
    pub exact: usize,
    /// The greatest difference of the others.
    pub max_absolute_difference: f64,
    /// The largest relative and absolute bound that was applied; zeros where all were followed bit for bit.
    pub bounds: (f64, f64),
}

impl Equivariant {
    /// Within the rounding measured on the function itself.
    pub fn new() -> Self {
        Self::default()
    }

    /// How close the two sides must be: a [`Tolerance`], or a number as absolute bound. Default: the measured rounding.
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

    /// Compares `f(T(x))` with `T'(f(x))`, for each transformation.
    ///
    /// `transform` is a closure of the input, applied to the output as well; a pair of one of the input and one of the
    /// output; a [`Transform`](super::Transform); or an array or `Vec` of those.
    ///
    /// # Errors
    ///
    /// See [`Equivariant`].
    #[track_caller]
    pub fn check<'t, I: Input>(
        &self,
        f: impl FnMut(&I) -> candle_core::Result<Tensor>,
        x: &I,
        transform: impl Transforms<'t, I>,
    ) -> Result<EquivariantReport> {
        call::run("equivariant", Location::caller(), || {
            let mut f = function::erased("the function", f);
            let transforms = listed(transform, "the transformation")?;
            let seen =
                Symmetry::Equivariant.judge(&mut f, x.members(), transforms, &self.options)?;
            Ok(EquivariantReport {
                transformations: seen.transformations,
                exact: seen.exact,
                max_absolute_difference: seen.difference,
                bounds: seen.bounds(),
            })
        })
    }
}
