mod layouts;
mod told;

use std::panic::Location;

use candle_core::Tensor;

use self::layouts::{Layouts, Tried};
use crate::{
    Cause, Failure, Inputs, Result, Seed,
    check::{
        call,
        function::{self, Function},
    },
    inputs::judged,
};

/// The same values give the same result however they lie in memory.
///
/// The function is called with contiguous copies of `x` and with views of equal values: every two dimensions changed in
/// memory, the orders that no two make, a part of a larger storage with other values around it, every second value of one,
/// `x` as it was given where that is not contiguous, and, compared among themselves, one row (or position) repeated in place
/// and as a broadcast view of stride 0. The members of an input take each layout together.
///
/// *Why it is worth a test:* candle 0.11's `Linear` returns wrong numbers, without an error, for an input of three or four
/// dimensions that is a transposed view (`x.transpose(1, 2)?.apply(&linear)`, as in an MLP-Mixer), and so does `conv1d` for
/// a transposed kernel. A model that is given contiguous tensors in its tests and views in its application is right in the
/// one and wrong in the other.
///
/// # How close
///
/// Other layouts run other kernels, which add up in another order: equal bits cannot be asked. A difference counts where it
/// is beyond
///
/// - 32 times what moving the input by one unit in its last place does to this output (a network rounds at each of its
///   operations, and 64 roundings in a row reach 8 times one; the rest is for what four draws miss), and
/// - 32 roundings of the output's largest value (masked logits, of -1e9 or so, are none), times the square root of the number of values in a row of the input: what
///   adding that many numbers in another order may do. At most an eighth of that value, for half precision.
///
/// A view that is read wrongly gives other numbers altogether. Where the output is integers (an `argmax`), more than one in
/// a hundred must differ, and more than 32 times as many as under such moves.
///
/// # Failures
///
/// - [`Cause::LayoutDependent`], with the layout, the worst element, and whether it is candle's own product;
/// - `Vacuous`: a function whose output does not depend on its input, an empty input or output;
/// - `NotRun`: every layout is refused; a function that differs from call to call, whose output holds NaN, or which returns
///   an error for a contiguous input; an input without rows.
///
/// An *error* for a layout is no failure, since nothing silent comes of it (`index_select`, `gather` and others ask for
/// contiguous tensors): the report names what was refused.
///
/// ```
/// use candling::{check::LayoutInvariant, prelude::*};
///
/// let (_vars, vb) = Seed::new(7).var_builder(DType::F32, &Device::Cpu);
/// let linear = candle_nn::linear(4, 3, vb)?;
/// let x = Seed::new(1).normal("x", (2, 5, 4), DType::F32, &Device::Cpu)?;
///
/// let report = LayoutInvariant::new().check(|x: &Tensor| linear.forward(&x.contiguous()?), &x)?;
/// assert!(report.agreed.contains(&"a transposed view of dimensions 1 and 2".to_owned()));
///
/// let failure = LayoutInvariant::new().check(|x: &Tensor| linear.forward(x), &x).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::LayoutDependent));
/// # candling::Result::Ok(())
/// ```
///
/// *Source:* NumPy and PyTorch test their operators on transposed and strided inputs as a matter of course (PyTorch's
/// [`noncontiguous_samples`][opinfo]); the noise by stochastic arithmetic (J. Vignes, 1993; D. S. Parker, 1997).
///
/// [opinfo]: https://github.com/pytorch/pytorch/blob/main/test/test_ops.py
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct LayoutInvariant {
    seed: Seed,
    allowed: Vec<Cause>,
}

/// What a passed [`LayoutInvariant`] saw.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LayoutInvariantReport {
    /// The layouts that gave the result of a contiguous input.
    pub agreed: Vec<String>,
    /// The layouts for which the function returned an error, with the error.
    pub refused: Vec<(String, String)>,
    /// The layouts that gave another result, where [`Cause::LayoutDependent`] is allowed.
    pub differed: Vec<String>,
    /// The greatest difference among those that agreed: rounding.
    pub largest_difference: f64,
    /// The difference that would have counted.
    pub bound: f64,
}

impl Default for LayoutInvariant {
    fn default() -> Self {
        Self { seed: Seed::new(0), allowed: Vec::new() }
    }
}

impl LayoutInvariant {
    /// All layouts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Which values lie around those of the input, and how rounding is drawn. Default: `Seed::new(0)`.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// Does not fail for this cause: it is known and intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Compares what `f` makes of views with what it makes of contiguous copies of `x`.
    ///
    /// # Errors
    ///
    /// See [`LayoutInvariant`].
    #[track_caller]
    pub fn check<X: Inputs>(
        &self,
        f: impl FnMut(&X::Input) -> candle_core::Result<Tensor>,
        x: &X,
    ) -> Result<LayoutInvariantReport> {
        call::run("layout_invariant", Location::caller(), || {
            let mut traced = function::with_graph("the function", f);
            judged(x, &mut |x| self.judge(&mut traced, x))
        })
    }

    /// `traced` keeps the graph of its output, for a look at what went wrong.
    fn judge(&self, traced: &mut Function<'_>, x: &[Tensor]) -> Result<LayoutInvariantReport> {
        function::input(x)?;
        let mut layouts = Layouts::new(traced, x, self.seed)?;
        let Tried { agreed, refused, differing } = layouts.try_all()?;
        // Of equals the first.
        if let Some(worst) = differing.iter().rev().max_by(|a, b| a.severity(b))
            && !self.allowed.contains(&Cause::LayoutDependent)
        {
            return Err(layouts.told(worst, &agreed, &refused, &differing)?);
        }
        if let (true, true, Some((layout, error))) =
            (agreed.is_empty(), differing.is_empty(), refused.first())
        {
            return Err(Failure::not_run(
                "the function returns an error for every layout but a contiguous one",
            )
            .fact("layout", layout)
            .fact("error", error)
            .help("nothing silent can come of it; call `.contiguous()?` first where views should work"));
        }
        Ok(LayoutInvariantReport {
            agreed: agreed.iter().map(|(layout, _)| layout.clone()).collect(),
            refused,
            differed: differing.into_iter().map(|differing| differing.layout).collect(),
            largest_difference: agreed.iter().map(|(_, by)| *by).fold(0.0, f64::max),
            bound: layouts.bound,
        })
    }
}
