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

/// Asserts that a learner learns from its input: trained on the batch it beats itself, trained without what the input says.
///
/// `assert_learns_from_input!(learner, (&x, &y))`, with the options of
/// [`check::LearnsFromInput`](crate::check::LearnsFromInput): `steps` (default 300), `margin` (default 0.1), `allow`.
/// Evaluates to [`LearnsFromInputReport`](crate::check::LearnsFromInputReport); the learner's variables keep their values.
///
/// ```
/// use candling::{prelude::*, synthetic};
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let l1 = candle_nn::linear(2, 32, vb.pp("l1"))?;
/// let l2 = candle_nn::linear(32, 2, vb.pp("l2"))?;
/// let (x, y) = synthetic::spirals(Seed::new(1), 2, 4)?;
/// let learner = Learner::new(&vars, |x| l2.forward(&l1.forward(x)?.relu()?), loss::cross_entropy);
///
/// let report = assert_learns_from_input!(learner, (&x, &y), steps = 200);
/// assert!(report.loss < report.loss_without);
/// # candling::Result::Ok(())
/// ```
///
/// An input that is divided by 255 twice, and drowns in the biases:
///
/// ```should_panic
/// # use candling::{prelude::*, synthetic};
/// # let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// # let l1 = candle_nn::linear(2, 32, vb.pp("l1"))?;
/// # let l2 = candle_nn::linear(32, 2, vb.pp("l2"))?;
/// # let (x, y) = synthetic::spirals(Seed::new(1), 2, 4)?;
/// let scaled = |x: &Tensor| (x / 255.)? / 255.;
/// let learner = Learner::new(&vars, |x| l2.forward(&l1.forward(&scaled(x)?)?.relu()?), loss::cross_entropy);
/// assert_learns_from_input!(learner, (&x, &y));
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::LearnsFromInput`](crate::check::LearnsFromInput).
#[macro_export]
macro_rules! assert_learns_from_input {
    ($learner:expr, $x:expr, &$y:expr $(, $($rest:tt)*)?) => {
        $crate::__private::compile_error!("input and targets are one argument, a batch: `(&x, &y)`")
    };
    ($($args:tt)*) => {
        $crate::__assert!(LearnsFromInput [reference, value]; $($args)*)
    };
}

/// Asserts that more capacity helps: of two learners the larger one fits the batch better after the same training.
///
/// `assert_capacity_helps!(small, large, (&x, &y))`, with the options of
/// [`check::CapacityHelps`](crate::check::CapacityHelps): `steps` (default 300), `margin` (default 0.1), `seeds` (default
/// 3, where candling built both), `allow`. Evaluates to [`CapacityHelpsReport`](crate::check::CapacityHelpsReport); the
/// variables of both keep their values.
///
/// ```
/// use candling::{prelude::*, synthetic};
///
/// let (x, y) = synthetic::spirals(Seed::new(1), 3, 8)?;
/// let mlp = |width: usize| {
///     let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
///     let l1 = candle_nn::linear(2, width, vb.pp("l1"))?;
///     let l2 = candle_nn::linear(width, 3, vb.pp("l2"))?;
///     let forward = move |x: &Tensor| l2.forward(&l1.forward(x)?.relu()?);
///     candling::Result::Ok(Learner::new(&vars, forward, loss::cross_entropy))
/// };
/// assert_capacity_helps!(mlp(2)?, mlp(32)?, (&x, &y), steps = 100);
/// # candling::Result::Ok(())
/// ```
///
/// Wider layers, with an activation that lets nothing through:
///
/// ```should_panic
/// # use candling::{prelude::*, synthetic};
/// # let (x, y) = synthetic::spirals(Seed::new(1), 3, 8)?;
/// # let mlp = |width: usize| {
/// #     let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// #     let l1 = candle_nn::linear(2, width, vb.pp("l1"))?;
/// #     let l2 = candle_nn::linear(width, 3, vb.pp("l2"))?;
/// let forward = move |x: &Tensor| l2.forward(&(l1.forward(x)?.relu()? * 0.0)?);
/// #     candling::Result::Ok(Learner::new(&vars, forward, loss::cross_entropy))
/// # };
/// assert_capacity_helps!(mlp(2)?, mlp(32)?, (&x, &y), steps = 50);
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::CapacityHelps`](crate::check::CapacityHelps).
#[macro_export]
macro_rules! assert_capacity_helps {
    ($small:expr, $large:expr, $x:expr, &$y:expr $(, $($rest:tt)*)?) => {
        $crate::__private::compile_error!("input and targets are one argument, a batch: `(&x, &y)`")
    };
    ($($args:tt)*) => {
        $crate::__assert!(CapacityHelps [reference, reference, value]; $($args)*)
    };
}
