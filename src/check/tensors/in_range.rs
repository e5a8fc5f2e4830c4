use std::{
    fmt,
    ops::{Bound, RangeBounds},
    panic::Location,
};

use candle_core::Tensor;

use super::{kind_of, readable, share_with_percentage};
use crate::{
    Cause, Failure, Finding, Result,
    check::call,
    measure::{
        scan::{End, Extent, extent_about},
        values::is_floating,
    },
    verdict::number,
};

/// Every value of a tensor lies in a range.
///
/// Tensors of any shape, layout and device, of dtype u8, u32, i16, i32, i64, f16, bf16, f32, f64 and f8e4m3; every
/// range of f64 (`0.0..=1.0`, `0.0..1.0`, `0.0..`, `..=1.0`, `..`). The ends are rounded to the tensor's dtype, so that
/// an f32 of `0.1` is in `0.0..=0.1`. NaN is in no range.
///
/// # Failures
///
/// - a value outside: [`Cause::OutOfRange`], or [`Cause::NotFinite`] where all that are outside are NaN;
/// - with [`reaches`](InRange::reaches), an end that no value touches: [`Cause::OutOfRange`];
/// - an empty tensor, or `..` for integers, is [`Vacuous`](crate::FailureKind::Vacuous);
/// - a range that is empty or has a NaN end, or one that `reaches` cannot hold for: the check does not run.
///
/// ```
/// use candling::{check::InRange, prelude::*};
///
/// let x = Tensor::new(&[0f32, 0.5, 1.], &Device::Cpu)?;
/// let report = InRange::new().reaches(true).check(&x, 0.0..=1.0)?;
/// assert_eq!((report.least, report.greatest), (0.0, 1.0));
///
/// let failure = InRange::new().strictly_inside(true).check(&x, 0.0..=1.0).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::OutOfRange));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct InRange {
    strictly_inside: bool,
    reaches: bool,
}

/// What a passed [`InRange`] measured.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct InRangeReport {
    /// How many values were looked at.
    pub elements: usize,
    /// The least of them.
    pub least: f64,
    /// The greatest of them.
    pub greatest: f64,
}

#[derive(Clone, Copy)]
struct Range {
    low: Option<End>,
    high: Option<End>,
}

impl InRange {
    /// The range as it is written: neither [`strictly_inside`](Self::strictly_inside) nor [`reaches`](Self::reaches).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the ends are outside, however the range is written: what a sigmoid promises of `0.0..=1.0`.
    /// Default: false.
    #[must_use]
    pub fn strictly_inside(mut self, strictly_inside: bool) -> Self {
        self.strictly_inside = strictly_inside;
        self
    }

    /// Whether both ends must also be touched: what min-max scaling promises of `0.0..=1.0`. Default: false.
    #[must_use]
    pub fn reaches(mut self, reaches: bool) -> Self {
        self.reaches = reaches;
        self
    }

    /// Looks at every value of `tensor`.
    ///
    /// # Errors
    ///
    /// A [`Failure`] as the type's documentation lists them.
    #[track_caller]
    pub fn check(&self, tensor: &Tensor, range: impl RangeBounds<f64>) -> Result<InRangeReport> {
        let location = Location::caller();
        let range = Range::new(
            range.start_bound().cloned(),
            range.end_bound().cloned(),
            self.strictly_inside,
        );
        call::signed("in_range", location, self.judge(tensor, range))
    }

    fn judge(&self, tensor: &Tensor, range: Range) -> Result<InRangeReport> {
        range.validate(self.reaches)?;
        readable(tensor)?;
        if tensor.elem_count() == 0 {
            return Err(Failure::vacuous("the tensor is empty: no value was looked at")
                .fact("tensor", kind_of(tensor)));
        }
        if range.low.is_none() && range.high.is_none() && !is_floating(tensor.dtype()) {
            return Err(
                Failure::vacuous("every integer is in `..`").fact("tensor", kind_of(tensor))
            );
        }
        let found = extent_about(tensor, range.low, range.high)?;
        if found.outside > 0 {
            return Err(outside(tensor, range, &found));
        }
        if self.reaches && !(found.reaches_low && found.reaches_high) {
            return Err(not_reached(tensor, range, &found));
        }
        let value = |place: &Option<(Vec<usize>, crate::measure::compare::Number)>| {
            place.as_ref().map_or(f64::NAN, |(_, value)| value.to_f64())
        };
        Ok(InRangeReport {
            elements: found.elements,
            least: value(&found.least),
            greatest: value(&found.greatest),
        })
    }
}

impl Range {
    fn new(low: Bound<f64>, high: Bound<f64>, strict: bool) -> Self {
        let end = |bound| match bound {
            Bound::Included(value) => Some(End { value, excluded: strict }),
            Bound::Excluded(value) => Some(End { value, excluded: true }),
            Bound::Unbounded => None,
        };
        Self { low: end(low), high: end(high) }
    }

    fn validate(&self, reaches: bool) -> Result<()> {
        let bad = |allowed: &str| Err(Failure::bad_argument("range", self, allowed));
        let ends = [self.low, self.high];
        if ends.iter().flatten().any(|end| end.value.is_nan()) {
            return bad("ends that are numbers");
        }
        if let [Some(low), Some(high)] = ends {
            let open = low.excluded || high.excluded;
            if low.value > high.value || (low.value == high.value && open) {
                return bad("a range that holds a value");
            }
        }
        let can_be_touched = |end: &Option<End>| end.is_some_and(|end| !end.excluded);
        if reaches && !ends.iter().all(can_be_touched) {
            return bad("with `reaches`, two ends that belong to the range, as in `0.0..=1.0`");
        }
        Ok(())
    }
}

impl fmt::Display for Range {
    /// As Rust writes it, but for an excluded low end, which Rust has no syntax for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let excluded = |end: Option<End>| end.is_some_and(|end| end.excluded);
        if excluded(self.low) {
            let closing = if excluded(self.high) || self.high.is_none() { ')' } else { ']' };
            let high = self.high.map_or(f64::INFINITY, |end| end.value);
            let low = self.low.map_or(f64::NEG_INFINITY, |end| end.value);
            return write!(f, "({low:?}, {high:?}{closing}");
        }
        if let Some(low) = self.low {
            write!(f, "{:?}", low.value)?;
        }
        f.write_str("..")?;
        match self.high {
            Some(End { value, excluded }) if excluded => write!(f, "{value:?}"),
            Some(End { value, .. }) => write!(f, "={value:?}"),
            None => Ok(()),
        }
    }
}

fn facts(tensor: &Tensor, found: &Extent, headline: String) -> Failure {
    let mut failure = Failure::violated(headline).fact("tensor", kind_of(tensor));
    for (label, place) in [("least", &found.least), ("greatest", &found.greatest)] {
        if let Some((index, value)) = place {
            failure = failure.fact(label, format!("{value} at {index:?}"));
        }
    }
    if let Some(index) = &found.first_nan {
        failure = failure.fact("NaN", format!("{}, the first at {index:?}", found.nan));
    }
    failure
}

fn outside(tensor: &Tensor, range: Range, found: &Extent) -> Failure {
    let (singular, plural) = if found.nan == found.outside {
        ("is NaN".to_owned(), "are NaN".to_owned())
    } else {
        (format!("is outside {range}"), format!("are outside {range}"))
    };
    let headline = share_with_percentage(found.outside, found.elements, &singular, &plural);
    let mut failure = facts(tensor, found, headline);
    // An end that is excluded is outside itself, by nothing.
    let excess = |value: f64, end: Option<End>, sign: f64| {
        let end = end?;
        let beyond = sign * (value - end.value);
        (beyond > 0.0 || (beyond == 0.0 && end.excluded)).then_some((beyond, end.value))
    };
    let below = found.least.as_ref().and_then(|(index, value)| {
        Some((excess(value.to_f64(), range.low, -1.0)?, index, value, "below"))
    });
    let above = found.greatest.as_ref().and_then(|(index, value)| {
        Some((excess(value.to_f64(), range.high, 1.0)?, index, value, "above"))
    });
    let worst = [below, above].into_iter().flatten().max_by(|a, b| a.0.0.total_cmp(&b.0.0));
    if let Some(((beyond, end), index, value, side)) = worst {
        let evidence = if beyond == 0.0 {
            format!("{value} is the end {end:?} itself, which is excluded")
        } else {
            format!("{value} is {side} {end:?} by {}", number(beyond))
        };
        failure = failure
            .finding(Finding::confirmed(Cause::OutOfRange, evidence).at(format!("{index:?}")));
    }
    if let Some(index) = &found.first_nan {
        failure = failure.finding(
            Finding::confirmed(Cause::NotFinite, "NaN is in no range").at(format!("{index:?}")),
        );
    }
    failure
}

fn not_reached(tensor: &Tensor, range: Range, found: &Extent) -> Failure {
    let ends = [(found.reaches_low, "low", range.low), (found.reaches_high, "high", range.high)];
    let missed: Vec<String> = ends
        .into_iter()
        .filter(|(reached, ..)| !reached)
        .filter_map(|(_, name, end)| Some(format!("the {name} end {:?}", end?.value)))
        .collect();
    let missed = missed.join(" nor ");
    facts(tensor, found, format!("no value of the tensor reaches {missed}")).finding(
        Finding::confirmed(Cause::OutOfRange, format!("{range} is not filled"))
            .advice_is("check the scaling: the extremes were taken from other data, or clipped"),
    )
}
