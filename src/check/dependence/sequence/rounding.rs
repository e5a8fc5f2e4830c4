//! How far two ways to compute the same may be apart.

use candle_core::{DType, Result, Tensor};

use super::grid::Grid;
use crate::{
    Seed, Tolerance,
    check::{function::Function, rounding::places},
    measure::noise::{epsilon, nudged, short_format, size},
};

/// What was measured is a sample of the noise: one width of a batch, a few prefixes. Sixteen times that is its bound.
const OF_MEASURED: f64 = 16.0;

/// In half precision one rounding is most of the noise, and every measure of it sees many: four times that.
const OF_MEASURED_IN_HALF: f64 = 4.0;

/// `|actual - expected| <= absolute + relative * |expected|`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) relative: f64,
    pub(super) absolute: f64,
}

impl Bound {
    /// What the user asked for, or what rounding explains.
    pub(super) fn new(tolerance: Option<Tolerance>, rounding: &Rounding, dtype: DType) -> Self {
        match tolerance {
            Some(tolerance) => {
                let (relative, absolute) = tolerance.bounds(dtype);
                Self { relative, absolute }
            }
            None => rounding.bound(),
        }
    }

    /// NaN where NaN was expected is no difference.
    pub(super) fn allows(&self, actual: f64, expected: f64) -> bool {
        actual == expected
            || (actual.is_nan() && expected.is_nan())
            || (actual - expected).abs() <= self.absolute + self.relative * expected.abs()
    }

    pub(super) fn allows_all(&self, actual: &[f64], expected: &[f64]) -> bool {
        actual.len() == expected.len()
            && actual.iter().zip(expected).all(|(a, b)| self.allows(*a, *b))
    }
}

/// What is known of the rounding in an output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounding {
    /// The distance from 1 to the next number of the format that the model computes in.
    pub(super) epsilon: f64,
    /// The largest output, as far as it is no mask.
    pub(super) size: f64,
    /// The largest difference between two ways to compute the same.
    pub(super) noise: f64,
}

impl Rounding {
    pub(super) fn of(output: &Grid, dtype: DType, input: DType) -> Self {
        let own = epsilon(dtype).unwrap_or(0.0).max(epsilon(input).unwrap_or(0.0));
        let epsilon = short_format(output.values(), own);
        Self { epsilon, size: size(output.values()), noise: 0.0 }
    }

    /// Half precision, whose rounding hides small effects.
    pub(super) fn is_coarse(&self) -> bool {
        self.epsilon > 1e-6
    }

    /// A difference as large as this is none of rounding, so that it tells nothing of it: half of the digits are lost.
    pub(super) fn most(&self) -> f64 {
        self.epsilon.sqrt() * self.size
    }

    /// Two ways to compute the same were so far apart.
    pub(super) fn saw(&mut self, difference: f64) {
        if difference <= self.most() {
            self.noise = self.noise.max(difference);
        }
    }

    pub(super) fn bound(&self) -> Bound {
        let of_measured = if self.is_coarse() { OF_MEASURED_IN_HALF } else { OF_MEASURED };
        let relative = places(self.epsilon) * self.epsilon;
        Bound { relative, absolute: (relative * self.size).max(of_measured * self.noise) }
    }

    /// Calls `f` with twice the rows, and with floats moved by up to one unit in their last place, and notes how far the
    /// outputs move. A function for one number of rows is not called again.
    pub(super) fn measure(
        &mut self,
        f: &mut Function<'_>,
        x: &[Tensor],
        output: &Tensor,
        seed: Seed,
    ) -> Result<()> {
        let rows = output.dim(0)?;
        let own = Grid::of_rows(output)?;
        let twice = x.iter().map(|t| Tensor::cat(&[t, t], 0)).collect::<Result<Vec<_>>>()?;
        if let Ok(wide) = f(&twice)
            && wide.dims().first() == Some(&(2 * rows))
            && wide.dims()[1..] == output.dims()[1..]
        {
            self.saw(Grid::of_rows(&wide.narrow(0, 0, rows)?)?.distance(&own));
        }
        if x.iter().any(|t| epsilon(t.dtype()).is_some()) {
            for draw in 0..2 {
                let moved = x.iter().map(|t| nudged(t, seed, &format!("rounding {draw}")));
                if let Ok(moved) = f(&moved.collect::<Result<Vec<_>>>()?)
                    && moved.dims() == output.dims()
                {
                    self.saw(Grid::of_rows(&moved)?.distance(&own));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_short_number_is_no_f32() -> Result<()> {
        let x = Seed::new(1).normal("x", (8, 4), DType::F32, &Device::Cpu)?;
        let epsilon_of = |x: &Tensor| -> Result<f64> {
            Ok(Rounding::of(&Grid::of_rows(x)?, x.dtype(), DType::U32).epsilon)
        };
        assert_eq!(epsilon_of(&x)?, f64::from(f32::EPSILON));
        for (dtype, epsilon) in [(DType::BF16, 2f64.powi(-7)), (DType::F16, 2f64.powi(-10))] {
            assert_eq!(epsilon_of(&x.to_dtype(dtype)?.to_dtype(DType::F32)?)?, epsilon);
        }
        assert_eq!(epsilon_of(&x.to_dtype(DType::F64)?)?, f64::from(f32::EPSILON));
        Ok(())
    }

    #[test]
    fn the_bound_is_what_rounding_explains_and_no_more() {
        let mut rounding = Rounding { epsilon: f64::from(f32::EPSILON), size: 4.0, noise: 0.0 };
        assert!(rounding.bound().allows(4.0, 4.00002) && !rounding.bound().allows(4.0, 4.0001));
        rounding.saw(1e-4);
        assert!(rounding.bound().allows(4.0, 4.001));
        // A difference of half the digits is a defect.
        rounding.saw(1.0);
        assert!(!rounding.bound().allows(4.0, 4.1));
    }
}
