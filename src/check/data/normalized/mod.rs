mod kind;
mod scheme;

use std::panic::Location;

use candle_core::Tensor;

use crate::{
    Cause, Failure, Finding, Result,
    check::{
        call,
        tensors::{kind_of, percentage},
    },
    measure::{
        moments::{Channel, channels},
        scan::non_finite_values,
        values::{is_floating, is_readable},
    },
    verdict::{count, number},
};

use scheme::Judge;
pub use scheme::Scheme;

/// An input is scaled as networks are initialised for: to mean 0 and standard deviation 1, or into a range.
///
/// `x` is a batch, or a whole data set, with the rows as its first dimension, of a float dtype. The more rows, the more
/// exact: a batch of normalised data is not normalised itself.
///
/// # What is allowed
///
/// - [`Scheme::Standard`], the default: a mean within [`tolerance`](Normalized::tolerance) of 0 (0.25) and a standard
///   deviation of 1 within a factor of 1 + tolerance, both widened by what sampling explains: Student's t for a chance of
///   1e-6 over all channels, times the standard error that the spread between rows shows. Pixels of one image are no
///   samples of their own. No more rows may be large than data of mean square 1 has, whatever its tails. Below 1024 rows the deviation may be smaller (0.2 with 64 rows): a long tail is not in every
///   batch.
/// - `scheme = 0.0..=1.0`, or another range: every value inside, to rounding, and more than 5 % of the range used.
///
/// By default all values are judged together. [`per_channel`](Normalized::per_channel) judges each channel of an image, or
/// each column of a table, by itself. [`fitted`](Normalized::fitted) is for the very set that the figures were taken from: then mean
/// and deviation must be right to 0.002, and a range must be touched at both ends. A training set that fails it was scaled with the
/// figures of another set: of the validation set, or of both.
///
/// # Failures
///
/// - another scale: [`Cause::InputNotScaled`], with what the values say of it (raw bytes, divided by 255 twice, a mark of
///   missing values such as -999, one channel off), also of integers;
/// - one value everywhere, or in all rows of a channel: [`Cause::InputConstant`];
/// - NaN or infinite: [`Cause::NotFinite`];
/// - an empty tensor, and fewer than 8 rows that do not fail, are [`Vacuous`](crate::FailureKind::Vacuous): the errors of
///   so few are too large to tell.
///
/// Token ids and one-hot rows need no scaling: this is not for them.
///
/// ```
/// use candling::{check::Normalized, prelude::*};
///
/// let x = Seed::new(1).normal("x", (64, 3, 8, 8), DType::F32, &Device::Cpu)?;
/// let report = Normalized::new().per_channel(1).check(&x)?;
/// assert_eq!(report.channels.len(), 3);
///
/// let bytes = Seed::new(1).tokens("bytes", 256, (64, 784), &Device::Cpu)?.to_dtype(DType::F32)?;
/// Normalized::new().scheme(0.0..=1.0).check(&(&bytes / 255.)?)?;
/// let failure = Normalized::new().check(&bytes).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::InputNotScaled));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct Normalized {
    scheme: Scheme,
    per_channel: Option<usize>,
    tolerance: f64,
    fitted: bool,
    allowed: Vec<Cause>,
}

/// What a passed [`Normalized`] measured.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct NormalizedReport {
    /// How many rows were looked at.
    pub rows: usize,
    /// Each channel of the dimension that `per_channel` names; else one, of all values.
    pub channels: Vec<ChannelMoments>,
}

/// The values of one channel.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelMoments {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, with the number of values as the divisor.
    pub deviation: f64,
    /// The least of them.
    pub least: f64,
    /// The greatest of them.
    pub greatest: f64,
}

/// Below this many rows Student's t for the chance we take is 13 and more: nothing but the grossest scale would fail.
const ROWS: usize = 8;

impl Default for Normalized {
    fn default() -> Self {
        Self {
            scheme: Scheme::Standard,
            per_channel: None,
            tolerance: 0.25,
            fitted: false,
            allowed: Vec::new(),
        }
    }
}

impl Normalized {
    /// Mean 0 and standard deviation 1 over all values, to a quarter and to what sampling explains.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What normalised means: [`Scheme::Standard`], or a range, `0.0..=1.0`. Default: `Standard`.
    #[must_use]
    pub fn scheme(mut self, scheme: impl Into<Scheme>) -> Self {
        self.scheme = scheme.into();
        self
    }

    /// The dimension whose indices are judged each by itself: 1 for images `[rows, channels, height, width]` and for tables
    /// `[rows, features]`. Default: none, all values together.
    #[must_use]
    pub fn per_channel(mut self, dim: usize) -> Self {
        self.per_channel = Some(dim);
        self
    }

    /// How far beyond sampling the mean may be from 0, and by what factor, less 1, the standard deviation from 1. For
    /// [`Scheme::Standard`]. Default: 0.25.
    #[must_use]
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Whether the figures were taken from this very tensor: the whole training set. Default: false.
    #[must_use]
    pub fn fitted(mut self, fitted: bool) -> Self {
        self.fitted = fitted;
        self
    }

    /// A cause that is no failure here: [`Cause::InputConstant`] for blank pixels and rare features. May be called several
    /// times.
    #[must_use]
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Looks at every value of `x`.
    ///
    /// # Errors
    ///
    /// A [`Failure`] as the type's documentation lists them.
    #[track_caller]
    pub fn check(&self, x: &Tensor) -> Result<NormalizedReport> {
        let location = Location::caller();
        call::signed("normalized", location, self.judge(x))
    }

    fn judge(&self, x: &Tensor) -> Result<NormalizedReport> {
        self.arguments(x)?;
        if x.elem_count() == 0 {
            return Err(Failure::vacuous("the input is empty: no value was looked at")
                .fact("input", kind_of(x)));
        }
        let integers = !is_floating(x.dtype());
        finite(x)?;
        let rows = x.dims()[0];
        let found = channels(x, self.per_channel)?;
        let judge = Judge {
            scheme: &self.scheme,
            slack: self.tolerance,
            fitted: self.fitted,
            rows: rows.max(2),
            channels: found.len(),
            dtype: x.dtype(),
        };
        if let Some(failure) = whole_input_constant(x, &found)
            && !self.allowed.contains(&Cause::InputConstant)
        {
            return Err(described(failure, x, &found));
        }
        if integers && !self.allowed.contains(&Cause::InputNotScaled) {
            return Err(described(unscaled_integers(x), x, &found));
        }
        let few = rows < ROWS && self.scheme == Scheme::Standard && !self.fitted;
        // A channel's deviation over a few rows says next to nothing: two normal draws are near one another in every third
        // channel.
        if few && self.per_channel.is_some() {
            return Err(too_few(x, rows));
        }
        let told = kind::constant(&found, rows, self.fitted).filter(|_| found.len() > 1);
        // A constant channel has no deviation: it is told as constant, or it is a rare feature.
        let complaints: kind::Complaints = (found.iter().enumerate())
            .filter(|(_, channel)| found.len() == 1 || channel.least < channel.greatest)
            .filter_map(|(i, channel)| Some((i, judge.complaint(channel)?)))
            .collect();
        let mut findings = match complaints.is_empty() {
            true => kind::sentinel(x, &judge)?.into_iter().collect(),
            false => kind::findings(x, &judge, &found, &complaints)?,
        };
        findings.extend(told);
        let findings = call::not_allowed(findings, &self.allowed);
        if !findings.is_empty() {
            let failure = Failure::violated(headline(&findings, &complaints, &found));
            let mut failure = described(failure, x, &found);
            if let Some((channel, _)) = complaints.first() {
                if found.len() > 1 {
                    failure = failure.fact("off", table(&complaints));
                }
                failure = failure.fact("allowed", judge.allowed(&found[*channel]));
            }
            return Err(failure.with_findings(findings));
        }
        if few {
            return Err(too_few(x, rows));
        }
        Ok(NormalizedReport { rows, channels: found.iter().map(ChannelMoments::of).collect() })
    }

    fn arguments(&self, x: &Tensor) -> Result<()> {
        if !(self.tolerance >= 0.0 && self.tolerance.is_finite()) {
            let allowed = "a finite number, 0 or above";
            return Err(Failure::bad_argument("tolerance", self.tolerance, allowed));
        }
        if let Scheme::MinMax(range) = &self.scheme {
            let (low, high) = (*range.start(), *range.end());
            if !(low < high && (high - low).is_finite()) {
                let was = format!("{low:?}..={high:?}");
                return Err(Failure::bad_argument("scheme", was, "a range with a finite length"));
            }
        }
        if x.rank() == 0 {
            let was = format!("{}, a scalar", kind_of(x));
            return Err(Failure::bad_argument("x", was, "rows as the first dimension"));
        }
        if !is_readable(x.dtype()) {
            return Err(Failure::bad_argument(
                "x",
                kind_of(x),
                "a dtype whose values candle can read",
            ));
        }
        match self.per_channel {
            Some(dim) if dim == 0 || dim >= x.rank() => Err(Failure::bad_argument(
                "per_channel",
                format_args!("{dim}, for an input of dims {:?}", x.dims()),
                match x.rank() {
                    1 => "a dimension behind the rows, of which there is none".to_owned(),
                    2 => "1: dimension 0 holds the rows".to_owned(),
                    rank => format!("1 to {}: dimension 0 holds the rows", rank - 1),
                },
            )),
            _ => Ok(()),
        }
    }
}

fn too_few(x: &Tensor, rows: usize) -> Failure {
    let rows = count(rows, "row");
    Failure::vacuous(format!("{rows} cannot tell whether the data is normalised"))
        .fact("input", kind_of(x))
        .help(format!("give {ROWS} rows or more, as different as the data is"))
}

impl ChannelMoments {
    fn of(channel: &Channel) -> Self {
        Self {
            mean: channel.mean,
            deviation: channel.variance.sqrt(),
            least: channel.least,
            greatest: channel.greatest,
        }
    }
}

fn finite(x: &Tensor) -> Result<()> {
    let found = non_finite_values(x)?;
    let Some((index, value)) = &found.first else { return Ok(()) };
    let n = found.count();
    let headline = format!(
        "{n} of {} not finite ({})",
        match found.elements {
            1 => "1 value is".to_owned(),
            elements => format!("{elements} values {}", if n == 1 { "is" } else { "are" }),
        },
        percentage(n, found.elements)
    );
    let finding = Finding::confirmed(Cause::NotFinite, format!("{value}, the first"))
        .at(format!("{index:?}"))
        .advice_is("a missing value was read as NaN, or a column was divided by its deviation of 0: drop the rows, or fill them in before scaling");
    Err(Failure::violated(headline).fact("input", kind_of(x)).finding(finding))
}

/// The same value everywhere.
fn whole_input_constant(x: &Tensor, channels: &[Channel]) -> Option<Failure> {
    let first = channels[0].least;
    if x.elem_count() < 2 || !channels.iter().all(|c| c.least == first && c.greatest == first) {
        return None;
    }
    if is_floating(x.dtype()) && kind::may_be_rare(first, x.dims()[0]) {
        let headline = format!("all values are {}: there is no spread to judge", number(first));
        return Some(Failure::vacuous(headline).help("give more rows"));
    }
    let (value, advice) = match !is_floating(x.dtype()) && first == 0.0 {
        true => (
            format!("0 in {}: 1/255 as a {} is 0", kind_of(x), x.dtype().as_str()),
            "convert before scaling: `(x.to_dtype(DType::F32)? / 255.)?`",
        ),
        false if first == 0.0 => (
            "0 everywhere".to_owned(),
            "look for a scaling that was done on integers, before `to_dtype`: `(bytes / 255.)?` of u8 is 0",
        ),
        false => (
            format!("{} everywhere", number(first)),
            "look at the preprocessing: a wrong index or an integer division leaves a constant behind",
        ),
    };
    let headline = format!("all {} are {}", count(x.elem_count(), "value"), number(first));
    let finding = Finding::confirmed(Cause::InputConstant, value).advice_is(advice);
    Some(Failure::violated(headline).finding(finding))
}

fn unscaled_integers(x: &Tensor) -> Failure {
    let dtype = x.dtype().as_str();
    Failure::violated(format!("the input is of dtype {dtype}: integers are not scaled")).finding(
        Finding::confirmed(Cause::InputNotScaled, format!("values of dtype {dtype}")).advice_is(
            "convert and divide: `(x.to_dtype(DType::F32)? / 255.)?`; token ids need no scaling, and no such assertion",
        ),
    )
}

fn headline(findings: &[Finding], complaints: &kind::Complaints, channels: &[Channel]) -> String {
    let scaled = findings.iter().all(|finding| finding.cause() != Cause::InputNotScaled);
    match (complaints.as_slice(), channels.len()) {
        ([], _) if !scaled => "a mark of missing values is in the input".to_owned(),
        _ if scaled => "a channel of the input is constant".to_owned(),
        ([(_, complaint), ..], 1) => format!("the input is not normalised: {complaint}"),
        (more, n) if more.len() == n => format!("none of {n} channels is normalised"),
        ([_], n) => format!("1 of {n} channels is not normalised"),
        (more, n) => format!("{} of {n} channels are not normalised", more.len()),
    }
}

fn described(failure: Failure, x: &Tensor, channels: &[Channel]) -> Failure {
    let failure = failure.fact("input", kind_of(x));
    let [channel] = channels else { return failure };
    failure
        .fact("mean", number(channel.mean))
        .fact("deviation", number(channel.variance.sqrt()))
        .fact("values", format!("{} to {}", number(channel.least), number(channel.greatest)))
}

/// `channel 1: mean 3, allowed 0 ± 0.3`, a line each.
fn table(complaints: &kind::Complaints) -> String {
    const SHOWN: usize = 4;
    let mut lines: Vec<String> = (complaints.iter().take(SHOWN))
        .map(|(channel, complaint)| format!("channel {channel}: {complaint}"))
        .collect();
    if complaints.len() > SHOWN {
        lines.push(format!("and {} more", complaints.len() - SHOWN));
    }
    lines.join("\n")
}
