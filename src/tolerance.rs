//! How close is close.

use candle_core::{DType, Tensor};

use crate::{
    Failure, Input, Learner, Result, Seed, Snapshot,
    measure::{
        noise::{DRAWS, epsilon, nudged, spread},
        stack,
    },
};

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

    /// The rounding noise of this very model on this input, as an absolute bound.
    ///
    /// Every variable and every floating-point input is moved by up to one unit in its last place, four times, and
    /// the output's largest change is taken: the method of stochastic arithmetic (J. Vignes, 1993; D. S. Parker, 1997).
    /// Eight times that is the bound. The variables keep their values.
    ///
    /// ```
    /// use candling::prelude::*;
    ///
    /// let (vars, vb) = Seed::new(1).var_builder(DType::F32, &Device::Cpu);
    /// let model = candle_nn::linear(64, 8, vb)?;
    /// let learner = Learner::new(&vars, |x| model.forward(x), loss::mse);
    /// let x = Seed::new(2).normal("x", (4, 64), DType::F32, &Device::Cpu)?;
    ///
    /// let tolerance = Tolerance::measured(&learner, &x)?;
    /// let one_by_one: Vec<_> = (0..4).map(|i| model.forward(&x.narrow(0, i, 1)?)).collect::<Result<_, _>>()?;
    /// assert_close!(model.forward(&x)?, Tensor::cat(&one_by_one, 0)?, tolerance = tolerance);
    /// # candling::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// A learner without a forward closure; an output that is not finite; a model with neither variables nor inputs of
    /// a floating-point dtype, which leave nothing to move.
    pub fn measured<I: Input>(learner: &Learner<'_>, input: &I) -> Result<Self> {
        stack::deep(|| measured(learner, input.members()))
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

/// One unit in the last place of inputs and variables stands for one rounding; a network rounds at each of its
/// operations. Independent roundings add as a random walk, and 64 of them in a row reach 8 times one.
const ROUNDINGS: f64 = 8.0;

fn measured(learner: &Learner<'_>, input: &[Tensor]) -> Result<Tolerance> {
    let can_move = |dtype: DType| epsilon(dtype).is_some();
    let variables = learner.variables();
    if !input.iter().any(|t| can_move(t.dtype()))
        && !variables.iter().any(|(_, v)| can_move(v.dtype()))
    {
        return Err(Failure::bad_argument(
            "learner",
            "one without variables, for inputs of integers",
            "variables or inputs of a floating-point dtype, whose last places can be moved",
        ));
    }
    let guard = Snapshot::take(variables)?.guard();
    let base = learner.output(input, false)?;
    let mut noise = 0.0f64;
    for draw in 0..DRAWS {
        let seed = Seed::new(draw).split("noise");
        for (name, var, before) in guard.snapshot().values() {
            var.set(&nudged(before, seed, name)?)?;
        }
        let moved = (input.iter().enumerate())
            .map(|(i, t)| nudged(t, seed, &format!("input {i}")))
            .collect::<candle_core::Result<Vec<_>>>()?;
        let (difference, size) = spread(&base, &learner.output(&moved, false)?)?;
        // An output is rounded itself, whatever came before.
        noise = noise.max(difference).max(size * epsilon(base.dtype()).unwrap_or(0.0));
    }
    match noise.is_finite() {
        true => Ok(Tolerance::absolute(ROUNDINGS * noise)),
        false => Err(Failure::not_run("the output is not finite, so its noise cannot be measured")),
    }
}

impl From<f64> for Tolerance {
    fn from(absolute: f64) -> Self {
        Self::absolute(absolute)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Module};
    use candle_nn::loss;

    use super::*;

    #[test]
    fn bounds_that_are_none_name_themselves() {
        let text = Tolerance::new(-1.0, 0.0).validate().unwrap_err().text();
        assert_eq!(text, "`tolerance` is relative -1; allowed: 0 or more");
        assert!(Tolerance::absolute(f64::NAN).validate().is_err());
        assert!(Tolerance::exact().validate().is_ok());
    }

    #[test]
    fn the_measured_noise_follows_the_format() -> Result<()> {
        let noise = |dtype: DType| -> Result<f64> {
            let (vars, vb) = Seed::new(1).var_builder(dtype, &Device::Cpu);
            let model = candle_nn::linear(32, 8, vb)?;
            let learner = Learner::new(&vars, |x| model.forward(x), loss::mse);
            let x = Seed::new(2).normal("x", (4, 32), dtype, &Device::Cpu)?;
            Ok(Tolerance::measured(&learner, &x)?.bounds(dtype).1)
        };
        let (f64s, f32s, bf16s) = (noise(DType::F64)?, noise(DType::F32)?, noise(DType::BF16)?);
        assert!(f64s < 1e-13 && f64s > 1e-16, "{f64s}");
        assert!(f32s < 1e-4 && f32s > 1e-7, "{f32s}");
        assert!(bf16s < 1.0 && bf16s > 1e-3, "{bf16s}");
        Ok(())
    }

    #[test]
    fn tokens_are_measured_through_the_variables() -> Result<()> {
        let (vars, vb) = Seed::new(1).var_builder(DType::F32, &Device::Cpu);
        let embedding = candle_nn::embedding(5, 4, vb)?;
        let ids = Tensor::new(&[0u32, 3], &Device::Cpu)?;
        let learner = Learner::new(&vars, |x| embedding.forward(x), loss::mse);
        assert!(Tolerance::measured(&learner, &ids)?.bounds(DType::F32).1 > 0.0);
        let nothing = Learner::forward_only(|x: &Tensor| x + 1.0);
        assert!(Tolerance::measured(&nothing, &ids).is_err());
        Ok(())
    }
}
