//! The only source of randomness.

mod backend;
#[cfg(feature = "seed-candle")]
mod candle;
mod draw;

use std::{cell::Cell, ops::Range};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::{VarBuilder, VarMap};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

#[cfg(feature = "seed-candle")]
pub use candle::SeededCandle;

use crate::{Env, Failure};

/// A seed: every draw is a pure function of the seed and a label, and of nothing else.
///
/// Two draws with one label are equal; the order of draws, the number of threads, the platform and the device do not
/// matter. The stream is ChaCha8 (D. J. Bernstein, 2008) keyed by SplitMix64 of the seed and FNV-1a of the label;
/// normal values are Box and Muller's (1958) with the elementary functions of `libm`, in f64, cast to the dtype asked
/// for: an f32 and an f64 model of one seed hold the same weights up to rounding.
///
/// ```
/// use candling::{Seed, prelude::*};
///
/// let seed = Seed::new(42);
/// let x = seed.normal("x", (2, 3), DType::F32, &Device::Cpu)?;
/// assert_close!(x, seed.normal("x", (2, 3), DType::F32, &Device::Cpu)?);
///
/// let other = Close::new().check(&x, &Seed::new(43).normal("x", (2, 3), DType::F32, &Device::Cpu)?);
/// assert!(other.is_err());
/// # use candling::check::Close;
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seed(u64);

thread_local! {
    /// The seed last taken from `from_env_or` on this thread: a failure's line to run again names it.
    static OVERRIDABLE: Cell<Option<Seed>> = const { Cell::new(None) };
}

impl Seed {
    /// The seed with that number.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// `CANDLING_SEED` where the environment sets it, else `default`.
    ///
    /// Failures of the same test then print the line that runs it again with this seed.
    ///
    /// # Panics
    ///
    /// When an environment variable of candling has an unknown value; the text lists the allowed ones.
    #[track_caller]
    pub fn from_env_or(default: u64) -> Self {
        let seed = match Env::read() {
            Ok(env) => Self(env.seed().unwrap_or(default)),
            Err(failure) => panic!("{}", failure.text()),
        };
        OVERRIDABLE.set(Some(seed));
        seed
    }

    /// The seed of this thread's test that `CANDLING_SEED` would replace, if it asked for one.
    pub(crate) fn overridable() -> Option<Self> {
        OVERRIDABLE.get()
    }

    /// The number.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// A seed of its own for the part of a test called `label`.
    pub fn split(self, label: &str) -> Self {
        Self(draw::key(self.0, label))
    }

    /// A generator of the `rand` crate's traits (0.9, candle's) for whatever has no method here.
    pub fn rng(self, label: &str) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(draw::stream(draw::key(self.0, label)))
    }

    /// Standard normal values, mean 0 and standard deviation 1.
    ///
    /// # Errors
    ///
    /// candle's, where `dtype` cannot hold real numbers on `device`.
    pub fn normal<S: Into<Shape>>(
        self,
        label: &str,
        shape: S,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let shape = shape.into();
        let values = draw::normal(&mut self.rng(label), shape.elem_count());
        tensor(values, shape, dtype, device)
    }

    /// Uniform values in `range`, drawn in f64 and then rounded to `dtype`.
    ///
    /// # Errors
    ///
    /// An empty range or one that is not finite; candle's, where `dtype` cannot hold real numbers on `device`.
    pub fn uniform<S: Into<Shape>>(
        self,
        label: &str,
        range: Range<f64>,
        shape: S,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let Range { start, end } = range;
        if !(start < end && (end - start).is_finite()) {
            let failure = Failure::bad_argument(
                "range",
                format_args!("{start}..{end}"),
                "finite bounds, the first below the second",
            );
            return Err(candle_core::Error::Msg(failure.headline().to_owned()));
        }
        let shape = shape.into();
        let values = draw::uniform(&mut self.rng(label), start, end, shape.elem_count());
        tensor(values, shape, dtype, device)
    }

    /// The draws of [`uniform`](Self::uniform) from 0 to 1, without a tensor around them.
    pub(crate) fn units(self, label: &str, n: usize) -> Vec<f64> {
        draw::uniform(&mut self.rng(label), 0.0, 1.0, n)
    }

    /// Token ids `0..vocab`, each as likely, as a u32 tensor.
    ///
    /// # Errors
    ///
    /// A `vocab` of 0 or above 2^32.
    pub fn tokens<S: Into<Shape>>(
        self,
        label: &str,
        vocab: usize,
        shape: S,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        if vocab == 0 || vocab > 1 << 32 {
            let failure = Failure::bad_argument("vocab", vocab, "1 to 4294967296");
            return Err(candle_core::Error::Msg(failure.headline().to_owned()));
        }
        let shape = shape.into();
        let ids = draw::below(&mut self.rng(label), vocab as u64, shape.elem_count());
        Tensor::from_vec(ids, shape, device)
    }

    /// An empty `VarMap` and the builder that fills it: what `VarBuilder::from_varmap` is without a seed.
    ///
    /// A variable's initial value depends on the seed and on its *name* alone, so adding a layer changes no other
    /// layer, and the order of construction does not matter. Every [`candle_nn::Init`] is honoured. As in candle, a
    /// plain `vb.get(shape, name)` without a hint is zeros: see [`var_builder_unhinted`](Seed::var_builder_unhinted).
    ///
    /// ```
    /// use candling::{Seed, prelude::*};
    ///
    /// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
    /// let layer = candle_nn::linear(4, 2, vb.pp("head"))?;
    /// assert_eq!(vars.all_vars().len(), 2);
    /// # candling::Result::Ok(())
    /// ```
    pub fn var_builder(self, dtype: DType, device: &Device) -> (VarMap, VarBuilder<'static>) {
        backend::var_builder(self, None, dtype, device)
    }

    /// As [`var_builder`](Seed::var_builder), but a variable of rank 2 or more whose init is the constant 0 is drawn
    /// from a normal distribution with standard deviation `std` instead.
    ///
    /// Models written for pretrained weights ask for them without a hint, and candle then makes zeros (T5 and Whisper
    /// of candle-transformers output zeros for every input). With a small normal (0.02 is usual) such a model can be
    /// tested without its weights. A zero asked for on purpose cannot be told from none asked for.
    pub fn var_builder_unhinted(
        self,
        std: f64,
        dtype: DType,
        device: &Device,
    ) -> (VarMap, VarBuilder<'static>) {
        backend::var_builder(self, Some(std), dtype, device)
    }
}

fn tensor(
    values: Vec<f64>,
    shape: Shape,
    dtype: DType,
    device: &Device,
) -> candle_core::Result<Tensor> {
    // Cast on the CPU: the same bits on every device.
    Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: &Device = &Device::Cpu;

    #[test]
    fn draws_depend_on_the_seed_and_the_label_alone() -> candle_core::Result<()> {
        let draw = |seed: u64, label: &str| -> candle_core::Result<Vec<f64>> {
            Seed::new(seed).normal(label, 5, DType::F64, CPU)?.to_vec1()
        };
        let first = draw(1, "x")?;
        draw(1, "y")?;
        assert_eq!(draw(1, "x")?, first);
        assert_ne!(draw(2, "x")?, first);
        assert_ne!(draw(1, "y")?, first);
        Ok(())
    }

    /// The stream is part of the promise: a release that changes these numbers breaks every user's goldens.
    #[test]
    fn the_stream_never_changes() -> candle_core::Result<()> {
        let seed = Seed::new(42);
        let normal: Vec<f64> = seed.normal("x", 3, DType::F64, CPU)?.to_vec1()?;
        let uniform: Vec<f64> = seed.uniform("x", 0.0..1.0, 2, DType::F64, CPU)?.to_vec1()?;
        let tokens: Vec<u32> = seed.tokens("x", 100, 4, CPU)?.to_vec1()?;
        let bits: Vec<u64> = normal.iter().chain(&uniform).map(|v| v.to_bits()).collect();
        insta::assert_snapshot!(format!("{bits:x?} {tokens:?} {}", seed.split("a").value()), @"[bfe754949145eb77, 3ff3ee5e1c1744f8, bfca7b1d917cd421, 3fe4b54849b1f46a, 3fd564c77dceae04] [64, 33, 2, 45] 16084195357857250752");
        Ok(())
    }

    #[test]
    fn moments_are_those_of_the_distributions() -> candle_core::Result<()> {
        let n = 100_000;
        let moments = |values: Vec<f64>| {
            let mean = values.iter().sum::<f64>() / n as f64;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
            (mean, variance)
        };
        // Five standard errors: of the mean, sigma / sqrt(n); of a normal's variance, sigma^2 sqrt(2 / n).
        let bound = 5.0 / (n as f64).sqrt();
        let (mean, variance) = moments(Seed::new(3).normal("n", n, DType::F64, CPU)?.to_vec1()?);
        assert!(mean.abs() < bound && (variance - 1.0).abs() < bound * 1.5, "{mean} {variance}");
        let uniform = Seed::new(3).uniform("u", -1.0..3.0, n, DType::F64, CPU)?.to_vec1()?;
        assert!(uniform.iter().all(|v| (-1.0..3.0).contains(v)));
        let (mean, variance) = moments(uniform);
        assert!((mean - 1.0).abs() < bound * 2.0 && (variance - 16.0 / 12.0).abs() < bound * 2.0);
        Ok(())
    }

    #[test]
    fn every_token_is_in_the_vocabulary_and_all_come_up() -> candle_core::Result<()> {
        let tokens: Vec<u32> = Seed::new(5).tokens("t", 7, 1000, CPU)?.to_vec1()?;
        let seen: std::collections::BTreeSet<u32> = tokens.into_iter().collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
        Ok(())
    }

    #[test]
    fn bad_arguments_name_themselves() {
        let seed = Seed::new(1);
        let text = |r: candle_core::Result<Tensor>| Failure::from(r.unwrap_err()).text();
        assert!(text(seed.tokens("t", 0, 3, CPU)).contains("`vocab` is 0"));
        let empty = Range { start: 2.0, end: 1.0 };
        assert!(text(seed.uniform("u", empty, 3, DType::F32, CPU)).contains("`range` is 2..1"));
        assert!(seed.uniform("u", 0.0..f64::INFINITY, 3, DType::F32, CPU).is_err());
    }

    #[test]
    fn low_precision_is_the_rounded_draw() -> candle_core::Result<()> {
        let exact: Vec<f64> = Seed::new(9).normal("x", 50, DType::F64, CPU)?.to_vec1()?;
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let cast = Seed::new(9).normal("x", 50, dtype, CPU)?.to_dtype(DType::F64)?;
            for (a, b) in cast.to_vec1::<f64>()?.into_iter().zip(&exact) {
                assert!((a - b).abs() <= b.abs() / 128.0, "{dtype:?}: {a} for {b}");
            }
        }
        Ok(())
    }
}
