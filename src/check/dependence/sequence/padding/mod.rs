//! Padding changes no real position.

mod mask;
mod padded;
mod pattern;
mod trials;
mod tried;

use std::panic::Location;

use candle_core::{DType, Tensor};

use self::{mask::Padded, trials::Trial, tried::Tried};
use crate::{
    Cause, Failure, Finding, Result, Seed, Tolerance,
    check::{
        call,
        function::{self, dims_of},
    },
    verdict::number,
};

/// Padding changes no real position: neither how much of it there is, nor what it holds, nor whose.
///
/// `f(x, mask)` is given ids `[batch, time]` or floats `[batch, time, features]`, all of them real, and a mask `[batch,
/// time]` with 1 for a real position and 0 for padding. It returns an output for every position, `[batch, time, ..]`, of
/// which the real ones are compared, or one for every row, `[batch, ..]`.
///
/// # What must hold
///
/// - *Length*: padded by one position, and by several, the outputs are those of `x` without padding.
/// - *Content*: with other values in the padding they are the same bit for bit.
/// - *One row*: each row alone, padded, is the row alone without padding. A shortcut for one row that drops the mask is a
///   classic.
/// - *Mixed lengths*: rows cut to different lengths and padded to one are what each is alone.
///
/// Padding stands on the right unless [`side`](Self::side) says otherwise: on the left it shifts every real position,
/// which a model with absolute positions must be told of. With [`Side::Both`] a model with relative positions is tried on
/// both, and one that turns queries and not keys is found.
///
/// Lengths are compared within the noise measured on this model, as [`CacheConsistent`](super::CacheConsistent) does, since
/// another width takes other kernels. The value of the padding is [`pad`](Self::pad), 0 by default; other content is drawn
/// from the values of `x`. NaN in the outputs of padding is nobody's business; NaN at a real position is a finding.
///
/// The mask comes as floats of the input's dtype (f32 for ids) or, where `f` returns an error for those, as u8, u32, i64
/// and the other floats; [`mask_dtype`](Self::mask_dtype) fixes it. Floats come first because `1 - mask` of u8 is silently
/// wrong in candle: -1 becomes 0.
///
/// # Errors
///
/// - [`Violated`](crate::FailureKind::Violated), [`PaddingLeak`](Cause::PaddingLeak), with the first row and position, and
///   what the experiments say: the mask is never read, an average counts the padding, a single row goes another way.
///   [`NotFinite`](Cause::NotFinite): NaN at a real position, as a fully masked row of minus infinity makes it.
/// - [`Vacuous`](crate::FailureKind::Vacuous): a function that ignores `x`.
/// - [`NotRun`](crate::FailureKind::NotRun): a function that fails for every mask, or for padded inputs; outputs of other
///   dims.
///
/// A model that takes the padding from its ids and not from the mask passes if it does so for [`pad`](Self::pad); other
/// content is then no padding to it, and [`PaddingInvariantReport::reads_pad`] is true.
///
/// # Examples
///
/// ```
/// use candling::{check::PaddingInvariant, prelude::*};
///
/// let x = Seed::new(1).normal("x", (2, 5, 3), DType::F32, &Device::Cpu)?;
/// let masked_mean = |x: &Tensor, mask: &Tensor| {
///     let sum = x.broadcast_mul(&mask.unsqueeze(2)?)?.sum(1)?;
///     sum.broadcast_div(&mask.sum_keepdim(1)?)
/// };
/// PaddingInvariant::new().check(masked_mean, &x)?;
///
/// let failure = PaddingInvariant::new().check(|x, _| x.mean(1), &x).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::PaddingLeak));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct PaddingInvariant {
    pad: f64,
    side: Side,
    mask_dtype: Option<DType>,
    tolerance: Option<Tolerance>,
    seed: Seed,
    allowed: Vec<Cause>,
}

/// Where padding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Side {
    /// After the real positions.
    #[default]
    Right,
    /// Before the real positions.
    Left,
    /// Both are tried.
    Both,
}

/// What a passed [`PaddingInvariant`] measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PaddingInvariantReport {
    /// The dtype of the mask that the function took.
    pub mask_dtype: DType,
    /// Whether the output has the positions; else it has one value, or vector, for each row.
    pub per_position: bool,
    /// How many padded inputs were tried.
    pub tried: usize,
    /// Whether the function takes the padding from the ids, and never reads the mask.
    pub reads_pad: bool,
    /// The largest difference to the outputs without padding.
    pub difference: f64,
    /// The absolute part of what was allowed.
    pub allowed: f64,
}

impl Default for PaddingInvariant {
    fn default() -> Self {
        Self::new()
    }
}

impl PaddingInvariant {
    /// Padding with 0 on the right, within the rounding measured on the model.
    pub fn new() -> Self {
        Self {
            pad: 0.0,
            side: Side::Right,
            mask_dtype: None,
            tolerance: None,
            seed: Seed::new(0),
            allowed: Vec::new(),
        }
    }

    /// The id, or the value, of padding. Default 0.
    pub fn pad(mut self, value: impl Into<f64>) -> Self {
        self.pad = value.into();
        self
    }

    /// Where padding stands. Default [`Side::Right`].
    pub fn side(mut self, side: Side) -> Self {
        self.side = side;
        self
    }

    /// The dtype of the mask. By default the first that the function takes, see [`PaddingInvariant`].
    pub fn mask_dtype(mut self, dtype: DType) -> Self {
        self.mask_dtype = Some(dtype);
        self
    }

    /// How far another length may move an output. By default what rounding explains, see [`PaddingInvariant`].
    pub fn tolerance(mut self, tolerance: impl Into<Tolerance>) -> Self {
        self.tolerance = Some(tolerance.into());
        self
    }

    /// Which other content is drawn. Default `Seed::new(0)`.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// Does not fail for this cause: it is intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Runs `f` on `x` with and without padding.
    ///
    /// # Errors
    ///
    /// See [`PaddingInvariant`].
    #[track_caller]
    pub fn check(
        &self,
        mut f: impl FnMut(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
        x: &Tensor,
    ) -> Result<PaddingInvariantReport> {
        let location = Location::caller();
        let mut f = move |x: &Tensor, mask: &Tensor| {
            Ok(f(x, mask).map_err(|e| Failure::from_candle("the function", e))?.detach())
        };
        call::run("padding_invariant", location, || self.run(&mut f, x))
    }

    fn run(&self, f: &mut Padded<'_>, x: &Tensor) -> Result<PaddingInvariantReport> {
        if let Some(tolerance) = &self.tolerance {
            tolerance.validate()?;
        }
        let x = self.usable(x)?;
        let dtype = mask::dtype(f, &x, self.mask_dtype)?;
        let mut trial = Trial::new(f, &x, self, dtype)?;
        let tried = trial.all()?;
        let findings = pattern::findings(&mut trial, &tried)?;
        // Nothing else of the report is of use to whoever allows what was found.
        let failing = tried.iter().find(|tried| tried.is_bad());
        let reads_pad = failing.is_some() && findings.is_empty();
        let findings = call::not_allowed(findings, &self.allowed);
        if let (Some(first), false) = (failing, findings.is_empty()) {
            return Err(violated(first, &tried, &trial, findings));
        }
        Ok(PaddingInvariantReport {
            mask_dtype: dtype,
            per_position: trial.everywhere,
            tried: tried.len(),
            reads_pad,
            difference: tried.iter().map(|tried| tried.difference).fold(0.0, f64::max),
            allowed: trial.bound.absolute,
        })
    }

    fn usable(&self, x: &Tensor) -> Result<Tensor> {
        if x.rank() < 2 {
            let was = format!("of {}", dims_of(std::slice::from_ref(x)));
            let allowed = "ids of dims [batch, time], or floats of dims [batch, time, features]";
            return Err(Failure::bad_argument("x", was, allowed));
        }
        function::input(std::slice::from_ref(x))?;
        let whole = self.pad.fract() == 0.0 && self.pad >= 0.0;
        if !self.pad.is_finite() || (!x.dtype().is_float() && !whole) {
            let allowed = match x.dtype().is_float() {
                true => "a finite number",
                false => "an id: a whole number, 0 or more",
            };
            return Err(Failure::bad_argument("pad", self.pad, allowed));
        }
        Ok(x.detach().contiguous()?)
    }
}

fn violated(
    first: &Tried,
    tried: &[Tried],
    trial: &Trial<'_, '_>,
    findings: Vec<Finding>,
) -> Failure {
    let headline = match &first.apart {
        Some(at) if at.was.is_nan() => {
            format!("{}, a real position is NaN: {}", first.name, trial.place(at))
        }
        Some(at) => format!("{}, {} is {}", first.name, trial.place(at), at.values()),
        None => format!("{}, the outputs change", first.name),
    };
    let width = tried.iter().map(|tried| tried.name.len()).max().unwrap_or(0);
    let table: Vec<String> =
        tried.iter().map(|tried| format!("{:width$}   {}", tried.name, tried.line())).collect();
    Failure::violated(headline)
        .fact("tried", table.join("\n"))
        .fact("rounding explains", number(trial.bound.absolute))
        .fact("mask", format!("1 for real, 0 for padding, of {}", trial.mask_dtype.as_str()))
        .with_findings(findings)
}
