//! What normalised means, and how far from it a batch may lie.

use std::ops::RangeInclusive;

use candle_core::DType;

use crate::{
    measure::{
        moments::{Channel, LARGE},
        student,
    },
    verdict::number,
};

/// How the input is scaled.
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub enum Scheme {
    /// To a mean of 0 and a standard deviation of 1.
    #[default]
    Standard,
    /// Into a range, which its values fill: `0.0..=1.0`, `-1.0..=1.0`. A range makes one: `scheme = 0.0..=1.0`.
    MinMax(RangeInclusive<f64>),
}

impl From<RangeInclusive<f64>> for Scheme {
    fn from(range: RangeInclusive<f64>) -> Self {
        Self::MinMax(range)
    }
}

/// The chance that a batch of normalised data lies outside by luck: all channels together, both moments.
const CHANCE: f64 = 1e-6;

/// A range is filled where the values span more than this share of it. A dark photo does; bytes divided by 255 twice, which
/// span 0.4 % of it, do not.
const FILLED: f64 = 0.05;

/// Figures that were fitted on these very values, in f32, and perhaps printed with three digits.
const FITTED: f64 = 2e-3;

/// What is allowed to a channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge<'a> {
    pub(super) scheme: &'a Scheme,
    pub(super) slack: f64,
    pub(super) fitted: bool,
    pub(super) rows: usize,
    pub(super) channels: usize,
    pub(super) dtype: DType,
}

/// The bands of the mean and of the standard deviation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bands {
    pub(super) mean: f64,
    pub(super) deviation: (f64, f64),
}

impl Judge<'_> {
    /// The bands of a standardised channel: the slack, and what the sampling of this many rows adds.
    pub(super) fn bands(&self, channel: &Channel) -> Bands {
        if self.fitted {
            // The divisor may be n or n - 1.
            let divisor = 1.0 / channel.elements as f64;
            return Bands {
                mean: FITTED,
                deviation: (1.0 - FITTED - divisor, 1.0 + FITTED + divisor),
            };
        }
        let t = student::quantile(CHANCE / (2 * self.channels) as f64, self.rows - 1);
        // Where the tail is long, the variance sits in rows that a batch may lack: of a lognormal of sigma 1, 8 rows show a
        // deviation down to 0.1, 64 rows down to 0.4 (measured). Too small is told in full from 1024 rows on.
        let seen = (self.rows as f64 / 1024.0).min(1.0);
        let (low, high) = (seen * (1.0 + self.slack).powi(-2), (1.0 + self.slack).powi(2));
        let sampling = t * channel.variance_error;
        Bands {
            mean: self.slack + t * channel.mean_error,
            deviation: ((low - sampling).max(0.0).sqrt(), (high + sampling).sqrt()),
        }
    }

    /// Why the channel is not normalised, in a phrase; `None` where it is.
    pub(super) fn complaint(&self, channel: &Channel) -> Option<String> {
        match self.scheme {
            Scheme::Standard => self.standard(channel),
            Scheme::MinMax(range) => self.within(channel, *range.start(), *range.end()),
        }
    }

    fn standard(&self, channel: &Channel) -> Option<String> {
        let deviation = channel.variance.sqrt();
        let bands = self.bands(channel);
        let mean = channel.mean.abs() > bands.mean;
        let spread = !(bands.deviation.0..=bands.deviation.1).contains(&deviation);
        let of_mean = format!("mean {}", number(channel.mean));
        let of_deviation = format!("standard deviation {}", number(deviation));
        match (mean, spread) {
            (false, false) => self.large_rows(channel),
            (true, false) => Some(format!("{of_mean}, not 0")),
            (false, true) => Some(format!("{of_deviation}, not 1")),
            (true, true) => Some(format!("{of_mean} and {of_deviation}, not 0 and 1")),
        }
    }

    /// More large rows than data of mean square 1 can have, whatever its distribution: of a size above s are at most 1 in s²
    /// (Markov), and k of n of them come with a chance of at most (n over k) / s^2k. For batches whose rows differ so much that
    /// the errors above allow anything.
    fn large_rows(&self, channel: &Channel) -> Option<String> {
        let n = self.rows;
        let tries = (self.channels * LARGE.len()) as f64;
        LARGE.iter().zip(channel.large).find_map(|(size, k)| {
            let share = ((1.0 + self.slack) / size).powi(2);
            let ln_ways: f64 = (0..k).map(|i| ((n - i) as f64 / (i + 1) as f64).ln()).sum();
            let rare = ln_ways + k as f64 * share.ln() < (CHANCE / tries).ln();
            (!self.fitted && rare && k > 0).then(|| {
                let (rare, size) = (number(1.0 / share), number(*size));
                let deviation = number(channel.variance.sqrt());
                format!(
                    "{k} of {n} rows have a root mean square above {size}, of data of mean square 1 at most one in {rare} has; standard deviation {deviation}"
                )
            })
        })
    }

    /// What is allowed to the channel, for people.
    pub(super) fn allowed(&self, channel: &Channel) -> String {
        match self.scheme {
            Scheme::MinMax(range) => format!("{:?}..={:?}", range.start(), range.end()),
            Scheme::Standard => {
                let Bands { mean, deviation: (low, high) } = self.bands(channel);
                format!("mean 0 ± {}, deviation {} to {}", number(mean), number(low), number(high))
            }
        }
    }

    fn within(&self, channel: &Channel, low: f64, high: f64) -> Option<String> {
        let span = high - low;
        // A few roundings of the scaling in the tensor's own format.
        let unit = match self.dtype {
            DType::F64 => 2f64.powi(-52),
            DType::F16 => 2f64.powi(-10),
            DType::BF16 => 2f64.powi(-7),
            DType::F8E4M3 => 2f64.powi(-3),
            _ => 2f64.powi(-23),
        };
        let rounding = 4.0 * unit * low.abs().max(high.abs()).max(span);
        let range = format!("{low:?}..={high:?}");
        let ends = format!("{} to {}", number(channel.least), number(channel.greatest));
        if channel.least < low - rounding || channel.greatest > high + rounding {
            return Some(format!("values from {ends}, allowed {range}"));
        }
        if self.fitted && (channel.least > low + rounding || channel.greatest < high - rounding) {
            return Some(format!("values from {ends}, which do not touch both ends of {range}"));
        }
        let filled = (channel.greatest - channel.least) / span;
        (filled < FILLED).then(|| {
            let percent = number(100.0 * filled);
            format!("values from {ends}, which fill {percent}% of {range}")
        })
    }
}
