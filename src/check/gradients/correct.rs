use std::panic::Location;

use candle_core::{DType, Tensor};

use super::compared::{Judgement, judge_function, judge_learner};
use crate::{Batch, Cause, Failure, Input, Learner, Result, check::call, measure::slope::Fineness};

/// The backward pass gives the slope of the function, as central differences measure it.
///
/// For a function (`check(f, &x)`) every float input is judged: as a leaf of the graph, as the result of another operation,
/// used once more before and after, and as a transposed view, since some of candle's backward passes are wrong in one of
/// these only. For a learner (`check(&learner, (&x, &y))`) every variable that may train is judged.
///
/// # How
///
/// Each tensor is moved along two directions, uphill in every entry and at random, and the slope `(L(x + hd) - L(x - hd))
/// / 2h` is compared with `<gradient, d>`. All entries take part at once, so a check of thousands costs four evaluations a
/// tensor. Where the two differ, shorter steps tell a wrong gradient (the slopes agree with each other) from a kink (they
/// do not, or the gradient lies between the slopes on both sides, as at the zero of a ReLU), and halving the direction
/// names the entry. A function's output is projected on fixed random weights; a plain sum would cancel behind a softmax.
///
/// # Precision
///
/// Slopes are measured in f64: a function is called with f64 inputs where it takes them, a learner from
/// [`Learner::build`] is built again in f64 with the same values. There a gradient must agree to 1e-6 of its size, beyond
/// the rounding measured on the function itself. What cannot run in f64 is judged in f32, to 2e-2; half precision is
/// refused, since no step is both short enough for the slope and long enough to be seen.
///
/// A learner is evaluated in training mode, or in evaluation mode where training is random; running statistics are set
/// back before every evaluation, and every variable gets its value back.
///
/// # Errors
///
/// [`Violated`](crate::FailureKind::Violated) with every wrong tensor, one entry of each, and, where an operation of candle
/// itself is to blame, its name ([`Cause::GradientEngine`]); `Vacuous` for a function that does not depend on its input;
/// `NotRun` where a closure returns an error or two calls differ.
///
/// # Examples
///
/// ```
/// use candling::{check::GradientsCorrect, prelude::*};
///
/// let x = Seed::new(1).normal("x", (1, 2, 4, 4), DType::F64, &Device::Cpu)?;
/// GradientsCorrect::new().check(|x: &Tensor| x.avg_pool2d(2), &x)?;
///
/// // candle's max_pool2d divides its gradient by the size of the window:
/// let failure = GradientsCorrect::new().check(|x: &Tensor| x.max_pool2d(2), &x).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::GradientEngine));
/// # candling::Result::Ok(())
/// ```
///
/// *Source:* central differences with a random projection, as in
/// [`torch.autograd.gradcheck`](https://pytorch.org/docs/stable/autograd.html#numerical-gradient-checking)'s fast mode.
#[derive(Clone, Debug, Default)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct GradientsCorrect {
    tolerance: Option<f64>,
    allowed: Vec<Cause>,
}

/// What a passed [`GradientsCorrect`] measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GradientsCorrectReport {
    /// The tensors that were judged, by name.
    pub judged: Vec<String>,
    /// Those with a kink at the very point, where any slope between its two sides is a right one.
    pub kinks: Vec<String>,
    /// Those whose slope could not be told from rounding and kinks.
    pub unclear: Vec<String>,
    /// The format in which slopes were measured.
    pub dtype: DType,
    /// The largest error of a gradient, as a share of its size.
    pub largest_error: f64,
    /// How often the function was evaluated for slopes.
    pub evaluations: usize,
}

/// What [`GradientsCorrect`] is asked about: a learner with its batch, or a function with its input.
pub trait Differentiated<At>: sealed::Sealed<At> {}

mod sealed {
    use super::{Judgement, Result};

    pub trait Sealed<At> {
        fn judge(self, at: At, tolerance: Option<f64>) -> Result<Judgement>;
    }
}

impl<B: Into<Batch>> Differentiated<B> for &Learner<'_> {}

impl<B: Into<Batch>> sealed::Sealed<B> for &Learner<'_> {
    fn judge(self, at: B, tolerance: Option<f64>) -> Result<Judgement> {
        judge_learner(self, &at.into(), tolerance)
    }
}

/// The macro borrows what it is given, which may be a reference already.
impl<B: Into<Batch>> Differentiated<B> for &&Learner<'_> {}

impl<B: Into<Batch>> sealed::Sealed<B> for &&Learner<'_> {
    fn judge(self, at: B, tolerance: Option<f64>) -> Result<Judgement> {
        judge_learner(self, &at.into(), tolerance)
    }
}

impl<F, I> Differentiated<&I> for F
where
    I: Input,
    F: FnMut(&I) -> candle_core::Result<Tensor>,
{
}

impl<F, I> sealed::Sealed<&I> for F
where
    I: Input,
    F: FnMut(&I) -> candle_core::Result<Tensor>,
{
    fn judge(mut self, at: &I, tolerance: Option<f64>) -> Result<Judgement> {
        let mut function = |members: &[Tensor]| -> Result<Tensor> {
            let input = I::from_members(members)
                .ok_or_else(|| Failure::not_run("the input lost one of its tensors"))?;
            self(&input).map_err(|e| Failure::from_candle("the function", e))
        };
        judge_function(&mut function, at.members(), tolerance)
    }
}

impl GradientsCorrect {
    /// A tolerance of 1e-6 in f64 and 2e-2 in f32.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a gradient may be off by, as a share of its own size, beyond rounding. Default: 1e-6 where slopes are measured
    /// in f64, 2e-2 in f32.
    pub fn tolerance(mut self, share: f64) -> Self {
        self.tolerance = Some(share);
        self
    }

    /// Does not fail for this cause: it is intended here (a straight-through estimator is a wrong gradient on purpose).
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Compares gradients with slopes: of a function at `&x`, or of a learner at a batch.
    ///
    /// # Errors
    ///
    /// See [`GradientsCorrect`].
    #[track_caller]
    pub fn check<S, At>(&self, subject: S, at: At) -> Result<GradientsCorrectReport>
    where
        S: Differentiated<At>,
    {
        call::run("gradients_correct", Location::caller(), || {
            if let Some(share) = self.tolerance.filter(|share| !(*share > 0.0 && *share < 1.0)) {
                return Err(Failure::bad_argument("tolerance", share, "a share in (0, 1)"));
            }
            subject.judge(at, self.tolerance)?.concluded(&self.allowed)
        })
    }
}

/// The fineness of a format with the caller's tolerance.
pub(super) fn fineness(dtype: DType, tolerance: Option<f64>) -> Result<Fineness> {
    let Some(fineness) = Fineness::of(dtype) else {
        return Err(Failure::not_run(format!(
            "slopes cannot be measured in {}: no step is short enough for a slope and long enough to be seen",
            dtype.as_str(),
        ))
        .help("check the model in f32 or f64; a learner from `Learner::build` is built again in f64 by itself"));
    };
    Ok(Fineness { tolerance: tolerance.unwrap_or(fineness.tolerance), ..fineness })
}
