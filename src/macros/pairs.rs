//! Assertions on positions and features.

/// Asserts that the output at a position depends on the input up to that position only, and does depend on what came before.
///
/// `assert_causal!(f, &x)`, with the options of [`check::Causal`](crate::check::Causal): `dim` (of the positions, default
/// 1), `output_dim`, `strict` (not on the own position either), `window` (on so many positions only), `allow`, `seed`.
/// Every cut of the sequence is tried, and what lies before it must stay the same to the last bit. Evaluates to
/// [`CausalReport`](crate::check::CausalReport).
///
/// ```
/// use candling::prelude::*;
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let rnn = candle_nn::gru(4, 8, Default::default(), vb)?;
/// let x = Seed::new(1).normal("x", (2, 10, 4), DType::F32, &Device::Cpu)?;
///
/// use candle_nn::RNN;
/// let report = assert_causal!(|x| {
///     let states = rnn.seq(x)?;
///     Tensor::stack(&states.iter().map(|state| state.h()).collect::<Vec<_>>(), 1)
/// }, &x, "a GRU");
/// assert_eq!(report.cuts, 9);
/// # candling::Result::Ok(())
/// ```
///
/// A convolution that is padded on both sides sees the next position:
///
/// ```should_panic
/// # use candling::prelude::*;
/// # let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let config = candle_nn::Conv1dConfig { padding: 1, ..Default::default() };
/// let conv = candle_nn::conv1d(4, 8, 3, config, vb)?;
/// let x = Seed::new(1).normal("x", (2, 4, 10), DType::F32, &Device::Cpu)?;
/// assert_causal!(|x| conv.forward(x), &x, dim = 2);
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see [`check::Causal`](crate::check::Causal).
#[macro_export]
macro_rules! assert_causal {
    ($($args:tt)*) => {
        $crate::__assert_function!(Causal; $($args)*)
    };
}

/// Asserts that every output position depends on exactly the input positions that a mask names.
///
/// `assert_dependence!(f, &x, mask)` with a mask of `[outputs, inputs]`, in which all but zero depends, and with the options
/// of [`check::Dependence`](crate::check::Dependence): `dim` (of the positions, default 1; 0 are the rows), `output_dim`,
/// `allow`, `seed`. Evaluates to [`DependenceReport`](crate::check::DependenceReport).
///
/// ```
/// use candling::prelude::*;
///
/// let x = Seed::new(1).normal("x", (2, 4), DType::F32, &Device::Cpu)?;
/// // Two pairs of features, of which none sees the other pair's.
/// let pairs = |x: &Tensor| x.reshape((2, 2, 2))?.cumsum(2)?.flatten_from(1);
/// let mask = Tensor::new(
///     &[[1u8, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]],
///     &Device::Cpu,
/// )?;
/// let report = assert_dependence!(pairs, &x, &mask, "pairs");
/// assert_eq!((report.dependent, report.independent), (6, 10));
/// # candling::Result::Ok(())
/// ```
///
/// ```should_panic
/// # use candling::prelude::*;
/// # let x = Seed::new(1).normal("x", (2, 4), DType::F32, &Device::Cpu)?;
/// let own = Tensor::eye(4, DType::F32, &Device::Cpu)?;
/// assert_dependence!(|x| x.cumsum(1), &x, own);
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold or could not be tested; see [`check::Dependence`](crate::check::Dependence).
#[macro_export]
macro_rules! assert_dependence {
    ($($args:tt)*) => {
        $crate::__assert_function_with!(Dependence; $($args)*)
    };
}

/// Asserts that every feature of the input moves the output.
///
/// `assert_uses_input!(f, &x)`, with the options of [`check::UsesInput`](crate::check::UsesInput): `dims` (whose indices are
/// features; default all but the batch), `ignore` (`(dim, indices)` that may be ignored), `ignore_input`, `allow`, `seed`.
/// Evaluates to [`UsesInputReport`](crate::check::UsesInputReport).
///
/// ```
/// use candling::prelude::*;
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let (l1, l2) = (candle_nn::linear(4, 8, vb.pp("l1"))?, candle_nn::linear(8, 3, vb.pp("l2"))?);
/// let x = Seed::new(1).normal("x", (6, 4), DType::F32, &Device::Cpu)?;
///
/// let report = assert_uses_input!(|x| l2.forward(&l1.forward(x)?.relu()?), &x, "an MLP");
/// assert_eq!(report.features, 4);
/// # candling::Result::Ok(())
/// ```
///
/// The blue channel is never read:
///
/// ```should_panic
/// # use candling::prelude::*;
/// let images = Seed::new(1).uniform("x", 0.0..1.0, (2, 3, 4, 4), DType::F32, &Device::Cpu)?;
/// assert_uses_input!(|x| x.narrow(1, 0, 2)?.mean(1), &images);
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::UsesInput`](crate::check::UsesInput).
#[macro_export]
macro_rules! assert_uses_input {
    ($($args:tt)*) => {
        $crate::__assert_function!(UsesInput; $($args)*)
    };
}
