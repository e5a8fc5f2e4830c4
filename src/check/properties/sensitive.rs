use std::panic::Location;

use candle_core::Tensor;

use super::{
    moved::{Change, Seen},
    rounding::{self, Allowed, coarser},
    transform::{Transform, Transforms, listed},
};
use crate::{
    Cause, Failure, Finding, Input, Result,
    check::{
        call::{self, not_allowed},
        function::{self, Function, dims_of},
        tensors::kind_of,
    },
    measure::{compare::Bounds, noise::Noise, values::same_bits},
    verdict::{all, count, listed as names_listed, number},
};

/// One change of the output is noise until it is more than a few roundings together can be: those of both outputs that are
/// compared, and of the operation that each ends with.
const ROUNDINGS: f64 = 4.0;

/// A change of the input changes the output; where wanted, in a stated direction.
///
/// The opposite of [`Invariant`](super::Invariant): what should matter does. Give a change that should be plain to see (a
/// channel replaced, a word swapped, a price doubled), not a tiny one: ReLU, max-pooling and argmax ignore those.
///
/// # How
///
/// An output value has moved if it differs by more than four times the rounding noise measured on this function, at `x` and at
/// the changed input; by any bit for outputs of integers; by `at_least` where that is given. One moved value is enough, or
/// one in every row with `every_row`. With a `direction` no value may move the other way by more than rounding, either.
///
/// # Errors
///
/// - [`Violated`](crate::FailureKind::Violated): [`Cause::NotSensitive`], bit for bit equal or within the noise;
///   [`Cause::WrongDirection`] with the value that moved furthest the wrong way;
/// - [`Vacuous`](crate::FailureKind::Vacuous): the perturbation leaves `x` as it is;
/// - [`NotRun`](crate::FailureKind::NotRun): a closure returns an error, two calls differ, NaN, a perturbation that changes
///   the output's shape.
///
/// # Examples
///
/// ```
/// use candling::{check::{Direction, Sensitive}, prelude::*};
///
/// let image = Seed::new(1).normal("image", (2, 3, 4, 4), DType::F32, &Device::Cpu)?;
/// let green = |x: &Tensor| Tensor::cat(&[x.narrow(1, 0, 1)?, x.narrow(1, 1, 1)?.neg()?, x.narrow(1, 2, 1)?], 1);
/// let report = Sensitive::new().check(|x: &Tensor| x.mean(1), &image, green)?;
/// assert_eq!((report.rows_moved, report.rows), (2, 2));
///
/// let failure = Sensitive::new().check(|x: &Tensor| x.narrow(1, 0, 1), &image, green).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::NotSensitive));
/// # candling::Result::Ok(())
/// ```
///
/// *Source:* directional expectation tests,
/// [M. T. Ribeiro, T. Wu, C. Guestrin and S. Singh, Beyond accuracy, 2020](https://arxiv.org/abs/2005.04118).
#[derive(Clone, Debug, Default)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct Sensitive {
    direction: Option<Direction>,
    at_least: Option<f64>,
    every_row: bool,
    allowed: Vec<Cause>,
}

/// Where an output must move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To greater values.
    Up,
    /// To smaller values.
    Down,
}

/// What a passed [`Sensitive`] measured, of the perturbation that moved the fewest values.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SensitiveReport {
    /// How many perturbations were applied.
    pub perturbations: usize,
    /// How many output values there are.
    pub elements: usize,
    /// How many of them moved.
    pub elements_moved: usize,
    /// The size of the output's first dimension; 1 for a scalar.
    pub rows: usize,
    /// In how many rows a value moved.
    pub rows_moved: usize,
    /// The greatest change.
    pub max_absolute_difference: f64,
    /// What a change had to reach: a few times the measured noise, or `at_least`; 0 where nothing was rounded.
    pub threshold: f64,
}

impl Sensitive {
    /// Any direction, by more than rounding, of any value.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the output must move: at least one value does, and none the other way. Default: anywhere.
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = Some(direction);
        self
    }

    /// The smallest change of an output value that counts. Default: what rounding does not explain.
    pub fn at_least(mut self, change: f64) -> Self {
        self.at_least = Some(change);
        self
    }

    /// Every row of the output must move, not just one. Default: false.
    pub fn every_row(mut self, every: bool) -> Self {
        self.every_row = every;
        self
    }

    /// Does not fail for this cause: it is intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Compares `f(perturbation(x))` with `f(x)`, for each perturbation.
    ///
    /// `perturbation` is a closure of the input, a [`Transform`](super::Transform), or an array or `Vec` of those.
    ///
    /// # Errors
    ///
    /// See [`Sensitive`].
    #[track_caller]
    pub fn check<'t, I: Input>(
        &self,
        f: impl FnMut(&I) -> candle_core::Result<Tensor>,
        x: &I,
        perturbation: impl Transforms<'t, I>,
    ) -> Result<SensitiveReport> {
        call::run("sensitive", Location::caller(), || {
            if let Some(change) = self.at_least.filter(|change| change.is_nan() || *change < 0.0) {
                return Err(Failure::bad_argument("at_least", change, "0 or more"));
            }
            self.judge(
                &mut function::erased("the function", f),
                x.members(),
                listed(perturbation, "the perturbation")?,
            )
        })
    }

    fn judge(
        &self,
        f: &mut Function<'_>,
        x: &[Tensor],
        perturbations: Vec<Transform<'_>>,
    ) -> Result<SensitiveReport> {
        function::values(x)?;
        let base = function::steady(f, x)?;
        let mut noise = None;
        let mut least: Option<SensitiveReport> = None;
        let all = perturbations.len();
        for mut perturbation in perturbations {
            if perturbation.has_output() {
                return Err(Failure::bad_argument(
                    "perturbation",
                    "a pair with a transformation of the output",
                    "one of the input",
                ));
            }
            let report = self.judge_one(f, x, &base, &mut perturbation, &mut noise)?;
            if least.as_ref().is_none_or(|least| report.elements_moved < least.elements_moved) {
                least = Some(report);
            }
        }
        let report = least.ok_or_else(|| Failure::not_run("no perturbation was given"))?;
        Ok(SensitiveReport { perturbations: all, ..report })
    }

    fn judge_one(
        &self,
        f: &mut Function<'_>,
        x: &[Tensor],
        base: &Tensor,
        perturbation: &mut Transform<'_>,
        noise: &mut Option<Noise>,
    ) -> Result<SensitiveReport> {
        let moved = perturbation.apply(x)?;
        let called = perturbation.called();
        let after = f(&moved).map_err(|failure| {
            failure.fact("input", format!("{} after {called}", dims_of(&moved)))
        })?;
        if after.dims() != base.dims() {
            return Err(Failure::not_run(format!(
                "the output's shape is another after {called}: {:?}, before {:?}; values cannot be compared",
                after.dims(),
                base.dims(),
            ))
            .help("perturb values, and leave the input's shape as it is; or reduce the output to one shape in the function"));
        }
        let change = Change::new(base, &after)?;
        if let Some(at) = change.after.iter().position(|value| value.is_nan()) {
            let evidence = format!("{} before, NaN after", number(change.before[at]));
            return Err(Failure::not_run(format!(
                "the output holds NaN after {called}, which is no direction and no size"
            ))
            .finding(Finding::confirmed(Cause::NotFinite, evidence).at(change.place(at))));
        }
        let equal = same_bits(base, &after)?;
        let (threshold, against) = match (self.at_least, equal) {
            (Some(absolute), _) => [Bounds { relative: 0.0, absolute }; 2].into(),
            (None, true) => [Bounds { relative: 0.0, absolute: 0.0 }; 2].into(),
            (None, false) => {
                let coarsest = coarser(base, &after);
                let own = match noise {
                    Some(noise) => *noise,
                    None => *noise.insert(rounding::of(f, x, base, coarsest)?),
                };
                let sides = [own, rounding::of(f, &moved, &after, coarsest)?];
                let few = Allowed::times(ROUNDINGS, &sides);
                (few.bounds, Allowed::measured(&sides, x, base.elem_count()).bounds)
            }
        };
        let seen = change.judged(threshold, against, self.direction);
        let failure = match &seen.wrong {
            Some(at) => self.wrong_direction(&change, *at, &seen, &called),
            None if seen.rows_moved == 0 || (self.every_row && seen.rows_moved < change.rows) => {
                self.not_sensitive(&change, &seen, &called, equal)
            }
            None => return Ok(seen.report(&change)),
        };
        if not_allowed(failure.findings().to_vec(), &self.allowed).is_empty() {
            return Ok(seen.report(&change));
        }
        let moved_label = match self.direction {
            Some(Direction::Up) => "moved up",
            Some(Direction::Down) => "moved down",
            None => "moved",
        };
        let noise = match self.at_least {
            Some(least) => format!("changes of {} and more count, as given", number(least)),
            None if equal => "equal bit for bit: no rounding is involved".to_owned(),
            None => format!(
                "rounding explains changes up to {}, {} times the noise measured on the function",
                number(seen.threshold),
                number(ROUNDINGS),
            ),
        };
        Err(failure
            .fact("input", dims_of(x))
            .fact("output", kind_of(base))
            .fact(moved_label, seen.shares(&change))
            .fact("noise", noise))
    }

    fn not_sensitive(&self, change: &Change, seen: &Seen, called: &str, equal: bool) -> Failure {
        let n = change.before.len();
        let (headline, evidence) = match seen.rows_moved {
            0 if equal => (
                format!("the output does not notice {called}"),
                format!("{} equal bit for bit before and after", is_or_are(n)),
            ),
            0 => (
                format!(
                    "the output hardly notices {called}: no value moves by more than {}",
                    number(seen.largest)
                ),
                format!(
                    "the largest change is {}, and {} is needed",
                    number(seen.largest),
                    number(seen.threshold)
                ),
            ),
            moved => {
                let still: Vec<String> = seen.still.iter().map(|row| row.to_string()).collect();
                let still: Vec<&str> = still.iter().map(String::as_str).collect();
                let row = if still.len() == 1 { "row" } else { "rows" };
                (
                    format!(
                        "{moved} of {} notice {called}, and every row should",
                        count(change.rows, "row")
                    ),
                    format!("no value moves in {row} {}", names_listed(&still)),
                )
            }
        };
        Failure::violated(headline).finding(Finding::confirmed(Cause::NotSensitive, evidence))
    }

    fn wrong_direction(&self, change: &Change, at: usize, seen: &Seen, called: &str) -> Failure {
        let (wanted, other) = match self.direction {
            Some(Direction::Down) => ("down", "up"),
            _ => ("up", "down"),
        };
        let n = change.before.len();
        let headline = match seen.against {
            against if against == n => {
                format!("{} under {called}, and should move {wanted}", moves(n, other))
            }
            against => format!(
                "{against} of {} {other} under {called}, and should move {wanted}",
                format_args!(
                    "{} {}",
                    count(n, "output value"),
                    if against == 1 { "moves" } else { "move" }
                ),
            ),
        };
        let evidence =
            format!("{} before, {} after", number(change.before[at]), number(change.after[at]));
        Failure::violated(headline)
            .finding(Finding::confirmed(Cause::WrongDirection, evidence).at(change.place(at)))
    }
}

fn is_or_are(n: usize) -> String {
    format!("{} {}", all(n, "output value"), if n == 1 { "is" } else { "are" })
}

fn moves(n: usize, direction: &str) -> String {
    format!("{} {} {direction}", all(n, "output value"), if n == 1 { "moves" } else { "move" })
}
