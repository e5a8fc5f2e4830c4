//! How close is close.

use candle_core::DType;

use crate::{Failure, Result};

/// How close two values must be: `|actual - expected| <= absolute + relative * |expected|`.
///
/// The default is one pair of bounds per dtype, those of `torch.testing.assert_close`, so that numbers known from
/// PyTorch mean the same here:
///
/// | dtype | relative | absolute |
/// |---|---|---|
/// | f64 | 1e-7 | 1e-7 |
/// | f32 | 1.3e-6 | 1e-5 |
/// | f16 | 1e-3 | 1e-5 |
/// | bf16 | 1.6e-2 | 1e-5 |
/// | f8e4m3 | 0.125 | 0.0675 |
/// | integers | 0 | 0 |
///
/// A plain number is an absolute bound: `tolerance = 1e-3` means `|actual - expected| <= 1e-3`.
///
/// ```
/// use candling::prelude::*;
///
/// let tolerance = Tolerance::new(1e-3, 1e-6);
/// assert_eq!(tolerance.bounds(DType::F32), (1e-3, 1e-6));
/// assert_eq!(Tolerance::per_dtype().bounds(DType::F32), (1.3e-6, 1e-5));
/// assert_eq!(Tolerance::from(0.5).bounds(DType::F32), (0.0, 0.5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Tolerance(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Default)]
enum Kind {
    #[default]
    PerDtype,
    Fixed {
        relative: f64,
        absolute: f64,
    },
}

impl Tolerance {
    /// `|actual - expected| <= absolute + relative * |expected|`.
    ///
    /// Neither may be negative or NaN: the check that is given such a tolerance does not run, and says so.
    pub const fn new(relative: f64, absolute: f64) -> Self {
        Self(Kind::Fixed { relative, absolute })
    }

    /// The bounds of the table above: the default.
    pub const fn per_dtype() -> Self {
        Self(Kind::PerDtype)
    }

    /// Equal values only. `0.0` equals `-0.0`, and NaN equals nothing.
    pub const fn exact() -> Self {
        Self::new(0.0, 0.0)
    }

    /// `|actual - expected| <= relative * |expected|`.
    pub const fn relative(relative: f64) -> Self {
        Self::new(relative, 0.0)
    }

    /// `|actual - expected| <= absolute`.
    pub const fn absolute(absolute: f64) -> Self {
        Self::new(0.0, absolute)
    }

    /// The relative and the absolute bound for values of `dtype`.
    pub fn bounds(&self, dtype: DType) -> (f64, f64) {
        match self.0 {
            Kind::Fixed { relative, absolute } => (relative, absolute),
            // PyTorch's torch/testing/_comparison.py; f8 from TransformerEngine's tests/pytorch/utils.py.
            Kind::PerDtype => match dtype {
                DType::F64 => (1e-7, 1e-7),
                DType::F32 => (1.3e-6, 1e-5),
                DType::F16 => (1e-3, 1e-5),
                DType::BF16 => (1.6e-2, 1e-5),
                DType::F8E4M3 => (0.125, 0.0675),
                _ => (0.0, 0.0),
            },
        }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        match self.0 {
            Kind::Fixed { relative, .. } if relative.is_nan() || relative < 0.0 => {
                Err(Failure::bad_argument(
                    "tolerance",
                    format_args!("relative {relative}"),
                    "0 or more",
                ))
            }
            Kind::Fixed { absolute, .. } if absolute.is_nan() || absolute < 0.0 => {
                Err(Failure::bad_argument(
                    "tolerance",
                    format_args!("absolute {absolute}"),
                    "0 or more",
                ))
            }
            _ => Ok(()),
        }
    }
}

impl From<f64> for Tolerance {
    fn from(absolute: f64) -> Self {
        Self::absolute(absolute)
    }
}
