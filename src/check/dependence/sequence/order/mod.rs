//! The order of the positions matters.

mod trial;

use std::panic::Location;

use candle_core::{DType, Tensor};

use self::trial::{Noticed, Order, Trial, spread};
use super::{
    grid::Grid,
    rounding::{Bound, Rounding},
};
use crate::{
    Cause, Failure, Finding, Inputs, Result, Seed, Tolerance,
    check::{
        call,
        function::{self, Function, dims_of},
    },
    inputs::judged,
    measure::values::same_bits,
    verdict::{count, number},
};

/// The order of the positions matters: other orders of the input change more than the order of the output.
///
/// `f` takes the batch first and its positions along [`dim`](Self::dim), by default 1: ids `[batch, time]`, floats `[batch,
/// time, features]`, or several inputs, of which those with as many positions are reordered together.
///
/// # What must hold
///
/// - Some other order is noticed: the reversed one, one rotated by a position, or one with two positions exchanged. An
///   output with the positions along the same dimension must become something else than the same outputs in the other
///   order; an output without them must change.
/// - Where the output has the positions, for every distance some exchange of two positions that far apart is noticed. A
///   table of positions that begins anew, `position % length`, makes two of them the same.
///
/// A change is noticed where it is more than rounding explains: a sum in another order rounds otherwise, and that is not
/// sensitivity. The bound is that of [`CacheConsistent`](super::CacheConsistent). In half precision a change within the
/// bound may be either, and the check says that it cannot tell.
///
/// A decoder without positional encoding passes: its mask tells the order.
///
/// # Errors
///
/// - [`Violated`](crate::FailureKind::Violated), [`PositionIgnored`](Cause::PositionIgnored): no order is noticed, or not
///   the exchange of two positions at one distance.
/// - [`Vacuous`](crate::FailureKind::Vacuous): one position; rows that hold the same at every position; a function that
///   ignores its input.
/// - [`NotRun`](crate::FailureKind::NotRun): an input without the dimension; a function that is not steady; half precision
///   that hides what is asked; integers (a class, an argmax) that no order changes: most changes of the logits leave them.
///
/// # Examples
///
/// ```
/// use candling::{check::PositionSensitive, prelude::*};
///
/// let x = Seed::new(1).normal("x", (2, 5, 3), DType::F32, &Device::Cpu)?;
/// PositionSensitive::new().check(|x: &Tensor| x.cumsum(1), &x)?;
///
/// let failure = PositionSensitive::new().check(|x: &Tensor| x.mean(1), &x).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::PositionIgnored));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct PositionSensitive {
    dim: usize,
    tolerance: Option<Tolerance>,
    seed: Seed,
    allowed: Vec<Cause>,
}

/// What a passed [`PositionSensitive`] measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PositionSensitiveReport {
    /// How many positions were reordered.
    pub positions: usize,
    /// Whether the output has the positions, too.
    pub per_position: bool,
    /// How many orders were tried.
    pub orders: usize,
    /// The largest change that an order makes, beyond the order of the output.
    pub change: f64,
    /// What rounding explains.
    pub noise: f64,
}

impl Default for PositionSensitive {
    fn default() -> Self {
        Self::new()
    }
}

impl PositionSensitive {
    /// Positions along dimension 1, beyond the rounding measured on the model.
    pub fn new() -> Self {
        Self { dim: 1, tolerance: None, seed: Seed::new(0), allowed: Vec::new() }
    }

    /// The dimension of the positions, in the input and, where it has them, in the output. Default 1.
    pub fn dim(mut self, dim: usize) -> Self {
        self.dim = dim;
        self
    }

    /// What counts as no change. By default what rounding explains, see [`PositionSensitive`].
    pub fn tolerance(mut self, tolerance: impl Into<Tolerance>) -> Self {
        self.tolerance = Some(tolerance.into());
        self
    }

    /// How the floats are moved for the measure of the rounding. Default `Seed::new(0)`.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// Does not fail for this cause: it is intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Runs `f` on `x` and on other orders of it.
    ///
    /// # Errors
    ///
    /// See [`PositionSensitive`].
    #[track_caller]
    pub fn check<X: Inputs>(
        &self,
        f: impl FnMut(&X::Input) -> candle_core::Result<Tensor>,
        x: &X,
    ) -> Result<PositionSensitiveReport> {
        let location = Location::caller();
        let mut f = function::erased("the function", f);
        call::run("position_sensitive", location, || judged(x, &mut |x| self.run(&mut f, x)))
    }

    fn run(&self, f: &mut Function<'_>, x: &[Tensor]) -> Result<PositionSensitiveReport> {
        if let Some(tolerance) = &self.tolerance {
            tolerance.validate()?;
        }
        function::input(x)?;
        let x = x.iter().map(Tensor::contiguous).collect::<candle_core::Result<Vec<_>>>()?;
        let Some(len) = x.iter().find_map(|t| t.dims().get(self.dim).copied()) else {
            let was = format!("{} for an input of {}", self.dim, dims_of(&x));
            return Err(Failure::bad_argument("dim", was, "a dimension of the input"));
        };
        if self.dim == 0 {
            return Err(Failure::bad_argument("dim", 0, "another dimension: 0 is the batch"));
        }
        if len == 1 {
            return Err(Failure::vacuous("the input has one position: there is one order of it"));
        }
        let own = function::steady_rows(f, &x, 1)?;
        let others = function::alternatives(&x, self.seed)?;
        let changed: Vec<Tensor> =
            x.iter().zip(others).map(|(own, other)| other.unwrap_or_else(|| own.clone())).collect();
        if same_bits(&f(&changed)?, &own)? {
            return Err(Failure::vacuous(
                "the output is the same, bit for bit, for another input: it has no order to notice",
            )
            .finding(Finding::confirmed(
                Cause::InputIgnored,
                "every value of the input replaced",
            )));
        }
        let mut rounding = Rounding::of(&Grid::of_rows(&own)?, own.dtype(), coarsest_input(&x));
        rounding.measure(f, &x, &own, self.seed)?;
        let bound = Bound::new(self.tolerance, &rounding, own.dtype());
        let mut trial =
            Trial { f, x: &x, own, dim: self.dim, len, bound, rounding, per_position: false };
        trial.find_positions()?;
        self.judge(&mut trial)
    }

    fn judge(&self, trial: &mut Trial<'_, '_>) -> Result<PositionSensitiveReport> {
        let whole: Vec<Order> = [Order::Reversed, Order::Rotated]
            .into_iter()
            .map(|order| Ok(trial.changes_input(order)?.then_some(order)))
            .filter_map(Result::transpose)
            .collect::<Result<_>>()?;
        let mut seen =
            whole.into_iter().map(|order| trial.notice(order)).collect::<Result<Vec<_>>>()?;
        for distance in spread(trial.len - 1) {
            seen.extend(trial.exchanged(distance)?);
        }
        if seen.is_empty() {
            return Err(Failure::vacuous(
                "every row of the input holds the same at all positions: no order of them is another input",
            ));
        }
        let per_position = trial.per_position;
        let unnoticed = |seen: &&Noticed| !seen.noticed;
        if seen.iter().all(|seen| !seen.noticed) {
            let most = seen.iter().map(|seen| seen.change).fold(0.0, f64::max);
            return self.conclude(trial, all_ignored(trial, &seen), most, &seen);
        }
        // In half precision a small change may be the exchange or rounding: only none at all is judged.
        let coarse = trial.rounding.is_coarse();
        // A class may stay the class.
        let per_position = per_position && !trial.is_decided();
        let exchanged = |seen: &&Noticed| {
            matches!(seen.order, Order::Exchanged(..)) && (!coarse || seen.change == 0.0)
        };
        if per_position && let Some(same) = seen.iter().filter(exchanged).find(unnoticed) {
            return self.conclude(trial, two_the_same(same, &seen), same.change, &seen);
        }
        Ok(report(trial, &seen))
    }

    fn conclude(
        &self,
        trial: &Trial<'_, '_>,
        failure: Failure,
        most: f64,
        seen: &[Noticed],
    ) -> Result<PositionSensitiveReport> {
        if self.allowed.contains(&Cause::PositionIgnored) {
            return Ok(report(trial, seen));
        }
        if trial.is_decided() {
            return Err(Failure::not_run(format!(
                "the function returned a tensor of dtype {}: a decision that no other order changes tells nothing of the order",
                trial.own.dtype().as_str(),
            ))
            .help("return the logits, in place of their argmax"));
        }
        // In half precision the bound is as large as an encoding of small values.
        if trial.rounding.is_coarse() && self.tolerance.is_none() && most > 0.0 {
            return Err(Failure::not_run(format!(
                "other orders change the output by up to {}, which in this precision may be rounding (up to {}) or may be order",
                number(most),
                number(trial.bound.absolute),
            ))
            .help("check the model in f32"));
        }
        Err(failure.fact("rounding explains", number(trial.bound.absolute)))
    }
}

fn all_ignored(trial: &Trial<'_, '_>, seen: &[Noticed]) -> Failure {
    let most = seen.iter().map(|seen| seen.change).fold(0.0, f64::max);
    let follows = seen.iter().all(|seen| seen.follows);
    let headline = match follows {
        true => format!(
            "in another order of the {} the outputs are the same, in that order: nothing knows where a position is",
            count(trial.len, "position"),
        ),
        false => format!(
            "in another order of the {} the output is the same",
            count(trial.len, "position"),
        ),
    };
    let names: Vec<String> = seen.iter().map(|seen| seen.order.name()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let evidence = format!(
        "of {}, none moves the output by more than {}{}",
        count(seen.len(), "order"),
        number(most),
        if follows { ", beyond its order" } else { "" },
    );
    let finding = Finding::confirmed(Cause::PositionIgnored, evidence);
    Failure::violated(headline).fact("orders", crate::verdict::listed(&names)).finding(finding)
}

fn two_the_same(same: &Noticed, seen: &[Noticed]) -> Failure {
    let Order::Exchanged(i, k) = same.order else {
        return Failure::violated("the exchange of two positions is not noticed");
    };
    let noticed = seen.iter().filter(|seen| seen.noticed).count();
    let evidence = format!(
        "exchanged, they move the output by no more than {} beyond its order; {} of {} are noticed",
        number(same.change),
        noticed,
        count(seen.len(), "order"),
    );
    Failure::violated(format!("positions {i} and {k} are the same to the function")).finding(
        Finding::confirmed(Cause::PositionIgnored, evidence)
            .at(format!("distance {}", k - i))
            .advice_is("look for positions that begin anew (`position % length`), or a table shorter than the input"),
    )
}

fn report(trial: &Trial<'_, '_>, seen: &[Noticed]) -> PositionSensitiveReport {
    PositionSensitiveReport {
        positions: trial.len,
        per_position: trial.per_position,
        orders: seen.len(),
        change: seen.iter().map(|seen| seen.change).fold(0.0, f64::max),
        noise: trial.bound.absolute,
    }
}

/// The coarsest float among the inputs, whose rounding the function starts from.
fn coarsest_input(x: &[Tensor]) -> DType {
    use crate::measure::noise::epsilon;
    let floats = x.iter().map(Tensor::dtype).filter(|dtype| epsilon(*dtype).is_some());
    floats
        .max_by(|a, b| epsilon(*a).partial_cmp(&epsilon(*b)).unwrap_or(std::cmp::Ordering::Equal))
        .unwrap_or(DType::U32)
}
