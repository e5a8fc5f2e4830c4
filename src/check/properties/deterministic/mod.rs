mod between;
mod calls;
mod pattern;

use std::panic::Location;

use candle_core::Tensor;

use self::{between::Other, calls::Calls};
use crate::{
    Cause, Failure, Finding, Inputs, Result, Seed,
    check::{
        call,
        function::{self, Function},
    },
    inputs::judged,
    measure::values::{is_readable, same_bits, to_f64_vec},
    verdict::all,
};

/// The same input gives the same output, bit for bit: when it is asked again, and when another input was asked in between.
///
/// The function is called with `x` a few times, then with other inputs (other values, larger values, the first row alone,
/// twice as many rows), each followed by `x` again. All outputs for `x` must be the same bits; on a CPU there is no reason for anything
/// else, since candle's products do not depend on the number of threads. NaN is compared by its bits, too. `x` itself must
/// not be changed by the call. The function is given a copy of `x` that lies in memory as `x` does, so that the caller's
/// own is safe.
///
/// `x` has the batch as its first dimension and may be several tensors, of any rank above 0 and any dtype. The output may
/// have any dims and any dtype. A constant output is deterministic, and passes.
///
/// # Failures
///
/// - [`Cause::StateKept`]: the calls settle after the first, alternate, move on in one direction, grow in size, or depend
///   on the input before; or an error comes back where there was none. Told by experiments of a few more calls. Also where
///   the call writes into its input.
/// - [`Cause::DropoutInEval`]: no two calls are equal and nothing connects them; confirmed where the output is zeroed in
///   other places each time and equal elsewhere, else possible.
/// - [`Cause::NotReproducible`], as a possible one: the calls differ by roundings alone, as a sum in changing order does.
/// - `Vacuous`: an empty output, or one of nothing but NaN, in which no difference could show.
/// - `NotRun`: an input without rows or with NaN; a first call that returns an error.
///
/// A closure may refuse the other inputs with an error (a model made for one batch size): that is no failure, and the
/// report names them. If such an error leaves the function in another state, the check ends there.
///
/// ```
/// use std::cell::RefCell;
///
/// use candling::{check::Deterministic, prelude::*};
///
/// let x = Seed::new(1).normal("x", (4, 3), DType::F32, &Device::Cpu)?;
/// let report = Deterministic::new().check(|x: &Tensor| x.tanh(), &x)?;
/// assert_eq!(report.calls, 7); // three in a row, and one after each of four other inputs
///
/// let mean = RefCell::new(x.zeros_like()?);
/// let smoothed = |x: &Tensor| {
///     let new = ((x * 0.5)? + (&*mean.borrow() * 0.5)?)?;
///     Ok(mean.replace(new.clone()).add(&new)?)
/// };
/// let failure = Deterministic::new().check(smoothed, &x).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::StateKept));
/// # candling::Result::Ok(())
/// ```
///
/// *Source:* repeated calls in evaluation mode are the first item of A. Karpathy's [recipe][recipe] ("fix random seed",
/// "turn off data augmentation") and what `torch.use_deterministic_algorithms` is for; state carried between calls is the
/// classic failure of stateful RNN cells and KV caches.
///
/// [recipe]: https://karpathy.github.io/2019/04/25/recipe/
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct Deterministic {
    repeats: usize,
    seed: Seed,
    allowed: Vec<Cause>,
}

/// What a passed [`Deterministic`] saw.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeterministicReport {
    /// The calls with `x` whose outputs were compared with the first, that one included.
    pub calls: usize,
    /// The other inputs that came between two of them: `other values`, `larger values`, `the first row alone`, `twice as many
    /// rows`.
    pub between: Vec<String>,
    /// The other inputs on which the function returned an error, with the error.
    pub refused: Vec<(String, String)>,
    /// What was found and is allowed. Where this is not empty, the rest was not compared.
    pub allowed: Vec<Finding>,
}

impl Default for Deterministic {
    fn default() -> Self {
        Self { repeats: 3, seed: Seed::new(0), allowed: Vec::new() }
    }
}

impl Deterministic {
    /// Three calls in a row.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many calls in a row are compared. Default: 3; at least 2.
    pub fn repeats(mut self, calls: usize) -> Self {
        self.repeats = calls;
        self
    }

    /// Which other values are drawn. Default: `Seed::new(0)`.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// Does not fail for this cause: it is intended here (Monte Carlo dropout, a streaming model).
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Compares the calls of `f` with `x`.
    ///
    /// # Errors
    ///
    /// See [`Deterministic`].
    #[track_caller]
    pub fn check<X: Inputs>(
        &self,
        f: impl FnMut(&X::Input) -> candle_core::Result<Tensor>,
        x: &X,
    ) -> Result<DeterministicReport> {
        call::run("deterministic", Location::caller(), || {
            let mut f = function::erased("the function", f);
            judged(x, &mut |x| self.judge(&mut f, x))
        })
    }

    pub(in crate::check) fn judge(
        &self,
        f: &mut Function<'_>,
        x: &[Tensor],
    ) -> Result<DeterministicReport> {
        if self.repeats < 2 {
            let allowed = "2 or more: a single call has nothing to be compared with";
            return Err(Failure::bad_argument("repeats", self.repeats, allowed));
        }
        function::input(x)?;
        let mut calls = Calls::new(f, x)?;
        let first = calls.call()??;
        judgeable(&first)?;
        let mut report = DeterministicReport {
            calls: 1,
            between: Vec::new(),
            refused: Vec::new(),
            allowed: Vec::new(),
        };
        let mut outputs = vec![first];
        while outputs.len() < self.repeats {
            outputs.push(match calls.call()? {
                Ok(output) => output,
                Err(error) => {
                    return self.unless_allowed(calls::fails(outputs.len() + 1, &error), report);
                }
            });
        }
        for later in &outputs[1..] {
            if !same_bits(&outputs[0], later)? {
                let mut failure = pattern::told(&mut calls, outputs.clone())?;
                let guessed = failure.findings().first().is_some_and(|f| !f.is_confirmed());
                if guessed
                    && let Some(other) = between::others(x, self.seed)?.first()
                    && let Some(kept) = between::far_off(&mut calls, other, outputs)?
                {
                    failure = kept;
                }
                return self.unless_allowed(failure, report);
            }
        }
        report.calls = outputs.len();
        for other in between::others(x, self.seed)? {
            match between::after(&mut calls, &other, &outputs[0])? {
                Other::Same => {
                    report.calls += 1;
                    report.between.push(other.name.to_owned());
                }
                Other::Refused { error, spoiled } => {
                    report.refused.push((other.name.to_owned(), error));
                    if spoiled {
                        break;
                    }
                    report.calls += 1;
                }
                Other::Differs(failure) => return self.unless_allowed(*failure, report),
            }
        }
        Ok(report)
    }

    /// What the first finding says decides: the others are further guesses at the same thing.
    fn unless_allowed(
        &self,
        failure: Failure,
        mut report: DeterministicReport,
    ) -> Result<DeterministicReport> {
        match failure.cause() {
            Some(cause) if self.allowed.contains(&cause) => {
                report.allowed = failure.findings().to_vec();
                Ok(report)
            }
            _ => Err(failure),
        }
    }
}

/// An output in which a difference could show.
fn judgeable(output: &Tensor) -> Result<()> {
    if !is_readable(output.dtype()) {
        return Err(Failure::not_run(format!(
            "the function returned a tensor of dtype {}; allowed: a dtype whose values candle can read",
            output.dtype().as_str(),
        )));
    }
    let elements = output.elem_count();
    if elements == 0 {
        return Err(Failure::vacuous(format!(
            "the function returned an empty tensor, of dims {:?}: nothing can differ in it",
            output.dims(),
        )));
    }
    // NaN hides what it stands for, but only where it stands.
    if to_f64_vec(output)?.iter().all(|value| value.is_nan()) {
        let verb = if elements == 1 { "is" } else { "are" };
        let evidence = format!("{} {verb} NaN", all(elements, "output value"));
        return Err(Failure::vacuous(
            "the output is nothing but NaN: no difference could show in it",
        )
        .finding(Finding::confirmed(Cause::NotFinite, evidence)));
    }
    Ok(())
}
