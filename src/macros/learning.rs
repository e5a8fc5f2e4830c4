//! Assertions on what a training learns.

/// Asserts that a run can be repeated: the same seed gives the same bits, another seed gives others.
///
/// `assert_reproducible!(closure)`, the closure a `FnMut(Seed) -> candling::Result<Vec<(name, Tensor)>>`, with the options
/// of [`check::Reproducible`](crate::check::Reproducible): `seed` (default 0), `seeds` (default 2), `seed_matters`
/// (default `true`), `allow`. Evaluates to [`ReproducibleReport`](crate::check::ReproducibleReport).
///
/// ```
/// use candling::prelude::*;
///
/// assert_reproducible!(|seed| {
///     let (vars, vb) = seed.var_builder(DType::F32, &Device::Cpu);
///     let layer = candle_nn::linear(4, 2, vb)?;
///     let x = seed.normal("x", (8, 4), DType::F32, &Device::Cpu)?;
///     let y = seed.tokens("y", 2, 8, &Device::Cpu)?;
///     let mut opt = candle_nn::SGD::new(vars.all_vars(), 0.1)?;
///     let mut losses = Vec::new();
///     for step in 0..3 {
///         let loss = loss::cross_entropy(&layer.forward(&x)?, &y)?;
///         opt.backward_step(&loss)?;
///         losses.push((format!("loss of step {step}"), loss));
///     }
///     Ok(losses)
/// });
/// ```
///
/// Noise that candle draws, which no seed reaches on a CPU:
///
/// ```should_panic
/// # use candling::prelude::*;
/// assert_reproducible!(|seed| {
///     let x = seed.normal("x", (8, 4), DType::F32, &Device::Cpu)?;
///     Ok(vec![("noisy", (&x + x.randn_like(0.0, 0.1)?)?)])
/// });
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::Reproducible`](crate::check::Reproducible).
#[macro_export]
macro_rules! assert_reproducible {
    ($($args:tt)*) => {
        $crate::__assert!(Reproducible [value]; $($args)*)
    };
}

/// Asserts that the gradients of micro-batches add up to the gradient of the batch.
///
/// `assert_accumulation_equivalent!(learner, (&x, &y))`, with the options of
/// [`check::AccumulationEquivalent`](crate::check::AccumulationEquivalent): `parts` (default: several ways to cut),
/// `weighting` (default: the one the loss asks for is found), `accumulate` (the training loop's own code), `training`
/// (default `false`: evaluation mode), `allow`. Evaluates to
/// [`AccumulationEquivalentReport`](crate::check::AccumulationEquivalentReport); the learner's variables keep their values.
///
/// ```
/// use candling::{check::Weighting, prelude::*};
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let layer = candle_nn::linear(4, 3, vb)?;
/// let x = Seed::new(1).normal("x", (8, 4), DType::F32, &Device::Cpu)?;
/// let y = Seed::new(1).tokens("y", 3, 8, &Device::Cpu)?;
/// let learner = Learner::new(&vars, |x| layer.forward(x), loss::cross_entropy);
///
/// assert_accumulation_equivalent!(learner, (&x, &y));
/// assert_accumulation_equivalent!(learner, (&x, &y), parts = [4, 4], weighting = Weighting::Equal);
/// # candling::Result::Ok(())
/// ```
///
/// A mean of means, with a last micro-batch that is smaller:
///
/// ```should_panic
/// # use candling::{check::Weighting, prelude::*};
/// # let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// # let layer = candle_nn::linear(4, 3, vb)?;
/// # let x = Seed::new(1).normal("x", (8, 4), DType::F32, &Device::Cpu)?;
/// # let y = Seed::new(1).tokens("y", 3, 8, &Device::Cpu)?;
/// let learner = Learner::new(&vars, |x| layer.forward(x), loss::cross_entropy);
/// assert_accumulation_equivalent!(learner, (&x, &y), parts = [3, 3, 2], weighting = Weighting::Equal);
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::AccumulationEquivalent`](crate::check::AccumulationEquivalent).
#[macro_export]
macro_rules! assert_accumulation_equivalent {
    ($learner:expr, $x:expr, &$y:expr $(, $($rest:tt)*)?) => {
        $crate::__private::compile_error!("input and targets are one argument, a batch: `(&x, &y)`")
    };
    ($($args:tt)*) => {
        $crate::__assert!(AccumulationEquivalent [reference, value]; $($args)*)
    };
}
