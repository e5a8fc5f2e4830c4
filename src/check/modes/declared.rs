//! The rates of dropout that a model declares.

use crate::{Failure, Result};

/// The shares that a model's dropout layers drop, as the model's configuration has them: one number, or several.
///
/// One rate stands for any number of layers, at least one. Of several, each must be found in as many places as it is
/// listed: `[0.1, 0.1]` wants two. A rate of 0 declares nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DropoutRates(Vec<f64>);

impl DropoutRates {
    /// Those that drop something.
    pub(super) fn active(&self) -> Vec<f64> {
        self.0.iter().copied().filter(|rate| *rate != 0.0).collect()
    }

    pub(super) fn validate(&self) -> Result<()> {
        match self.0.iter().find(|rate| !(0.0..1.0).contains(*rate)) {
            Some(rate) => Err(Failure::bad_argument(
                "dropout",
                rate,
                "the share that is dropped, at least 0 and below 1",
            )),
            None => Ok(()),
        }
    }
}

impl From<f64> for DropoutRates {
    fn from(rate: f64) -> Self {
        Self(vec![rate])
    }
}

/// As the decimal number it was written as: 0.1, not 0.10000000149.
impl From<f32> for DropoutRates {
    fn from(rate: f32) -> Self {
        Self(vec![rate.to_string().parse().unwrap_or(f64::from(rate))])
    }
}

impl From<Vec<f64>> for DropoutRates {
    fn from(rates: Vec<f64>) -> Self {
        Self(rates)
    }
}

impl From<&[f64]> for DropoutRates {
    fn from(rates: &[f64]) -> Self {
        Self(rates.to_vec())
    }
}

impl<const N: usize> From<[f64; N]> for DropoutRates {
    fn from(rates: [f64; N]) -> Self {
        Self(rates.to_vec())
    }
}

impl<const N: usize> From<&[f64; N]> for DropoutRates {
    fn from(rates: &[f64; N]) -> Self {
        Self(rates.to_vec())
    }
}
