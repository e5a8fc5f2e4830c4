//! Assertions on how a function behaves whatever it computes.

/// Asserts that a function gives the same bits for the same input, when asked again and after other inputs.
///
/// `assert_deterministic!(f, &x)`, with the options of [`check::Deterministic`](crate::check::Deterministic): `repeats`
/// (default 3), `seed`, `allow`. Evaluates to [`DeterministicReport`](crate::check::DeterministicReport).
///
/// ```
/// use candling::prelude::*;
///
/// let (_vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let model = candle_nn::seq().add(candle_nn::linear(4, 3, vb)?).add(candle_nn::Activation::Gelu);
/// let x = Seed::new(1).normal("x", (6, 4), DType::F32, &Device::Cpu)?;
///
/// let report = assert_deterministic!(|x| model.forward(x), &x, repeats = 5);
/// assert_eq!(report.between[2..], ["the first row alone", "twice as many rows"]);
/// # candling::Result::Ok(())
/// ```
///
/// Dropout that is active in evaluation:
///
/// ```should_panic
/// # use candling::prelude::*;
/// # let x = Seed::new(1).normal("x", (6, 4), DType::F32, &Device::Cpu)?;
/// let dropout = candle_nn::Dropout::new(0.5);
/// assert_deterministic!(|x| dropout.forward(x, true), &x, "the head");
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::Deterministic`](crate::check::Deterministic).
#[macro_export]
macro_rules! assert_deterministic {
    ($($args:tt)*) => {
        $crate::__assert_function!(Deterministic; $($args)*)
    };
}

/// Asserts that a function gives the same result for the same values, however they lie in memory.
///
/// `assert_layout_invariant!(f, &x)`, with the options of [`check::LayoutInvariant`](crate::check::LayoutInvariant):
/// `seed`, `allow`. Evaluates to [`LayoutInvariantReport`](crate::check::LayoutInvariantReport).
///
/// ```
/// use candling::prelude::*;
///
/// let x = Seed::new(1).normal("x", (2, 5, 4), DType::F32, &Device::Cpu)?;
/// let report = assert_layout_invariant!(|x| x.tanh()?.mean(1), &x);
/// assert!(report.refused.is_empty());
/// # candling::Result::Ok(())
/// ```
///
/// candle 0.11's `Linear` returns wrong numbers for a transposed view of three dimensions:
///
/// ```should_panic
/// # use candling::prelude::*;
/// # let (_vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// # let x = Seed::new(1).normal("x", (2, 5, 4), DType::F32, &Device::Cpu)?;
/// let linear = candle_nn::linear(4, 3, vb)?;
/// assert_layout_invariant!(|x| linear.forward(x), &x);
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::LayoutInvariant`](crate::check::LayoutInvariant).
#[macro_export]
macro_rules! assert_layout_invariant {
    ($($args:tt)*) => {
        $crate::__assert_function!(LayoutInvariant; $($args)*)
    };
}

/// Asserts that a function is not an affine map: that its layers do not collapse into one.
///
/// `assert_nonlinear!(f, &x)`, with the options of [`check::Nonlinear`](crate::check::Nonlinear): `at_least` (a share of the
/// output's spread, default 0), `seed`, `allow`. Evaluates to [`NonlinearReport`](crate::check::NonlinearReport).
///
/// ```
/// use candling::prelude::*;
///
/// let (_vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let (l1, l2) = (candle_nn::linear(4, 16, vb.pp("l1"))?, candle_nn::linear(16, 3, vb.pp("l2"))?);
/// let x = Seed::new(1).normal("x", (6, 4), DType::F32, &Device::Cpu)?;
///
/// let report = assert_nonlinear!(|x| l2.forward(&l1.forward(x)?.relu()?), &x, at_least = 1e-3);
/// assert!(report.straight_features.is_empty());
/// # candling::Result::Ok(())
/// ```
///
/// An activation that was forgotten:
///
/// ```should_panic
/// # use candling::prelude::*;
/// # let (_vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// # let (l1, l2) = (candle_nn::linear(4, 16, vb.pp("l1"))?, candle_nn::linear(16, 3, vb.pp("l2"))?);
/// # let x = Seed::new(1).normal("x", (6, 4), DType::F32, &Device::Cpu)?;
/// assert_nonlinear!(|x| l2.forward(&l1.forward(x)?), &x);
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::Nonlinear`](crate::check::Nonlinear).
#[macro_export]
macro_rules! assert_nonlinear {
    ($($args:tt)*) => {
        $crate::__assert_function!(Nonlinear; $($args)*)
    };
}
