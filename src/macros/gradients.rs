//! Assertions on gradients.

/// Asserts that every variable of a learner gets a gradient: finite, not zero, of a sane size; names the operation that
/// cut it.
///
/// `assert_gradients_flow!(learner, (&x, &y))`, with the option of [`check::GradientsFlow`](crate::check::GradientsFlow):
/// `allow`. Evaluates to [`GradientsFlowReport`](crate::check::GradientsFlowReport), which prints as a table of all
/// variables.
///
/// ```
/// use candling::prelude::*;
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let (l1, l2) = (candle_nn::linear(4, 8, vb.pp("l1"))?, candle_nn::linear(8, 3, vb.pp("l2"))?);
/// let x = Seed::new(1).normal("x", (6, 4), DType::F32, &Device::Cpu)?;
/// let y = Seed::new(1).tokens("y", 3, 6, &Device::Cpu)?;
/// let learner = Learner::new(&vars, |x| l2.forward(&l1.forward(x)?.relu()?), loss::cross_entropy);
///
/// let report = assert_gradients_flow!(learner, (&x, &y), "an MLP");
/// assert!(report.variables.iter().all(|variable| variable.norm > Some(0.0)));
/// # candling::Result::Ok(())
/// ```
///
/// A `detach` in the middle:
///
/// ```should_panic
/// # use candling::prelude::*;
/// # let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// # let (l1, l2) = (candle_nn::linear(4, 8, vb.pp("l1"))?, candle_nn::linear(8, 3, vb.pp("l2"))?);
/// # let x = Seed::new(1).normal("x", (6, 4), DType::F32, &Device::Cpu)?;
/// # let y = Seed::new(1).tokens("y", 3, 6, &Device::Cpu)?;
/// let learner = Learner::new(&vars, |x| l2.forward(&l1.forward(x)?.detach()), loss::cross_entropy);
/// assert_gradients_flow!(learner, (&x, &y));
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold or could not be tested; see
/// [`check::GradientsFlow`](crate::check::GradientsFlow).
#[macro_export]
macro_rules! assert_gradients_flow {
    ($learner:expr, $x:expr, &$y:expr $(, $($rest:tt)*)?) => {
        $crate::__private::compile_error!("input and targets are one argument, a batch: `(&x, &y)`")
    };
    ($($args:tt)*) => {
        $crate::__assert!(GradientsFlow [reference, value]; $($args)*)
    };
}

/// Asserts that the backward pass gives the slope of a function, or of a learner's loss, as central differences measure it.
///
/// `assert_gradients_correct!(|x| f(x), &x)` judges a function by its inputs, `assert_gradients_correct!(learner, (&x, &y))`
/// a learner by its variables, with the options of [`check::GradientsCorrect`](crate::check::GradientsCorrect):
/// `tolerance` (default 1e-6 in f64), `allow`. A function is a closure written in place, or the name of one that can be
/// called through a reference. Evaluates to [`GradientsCorrectReport`](crate::check::GradientsCorrectReport).
///
/// ```
/// use candling::prelude::*;
///
/// let x = Seed::new(1).normal("x", (3, 4), DType::F64, &Device::Cpu)?;
/// assert_gradients_correct!(|x| x.tanh()?.matmul(&x.t()?), &x, "x * x^T behind a tanh");
///
/// let learner = Learner::build(Seed::new(7), DType::F32, &Device::Cpu, |vb| {
///     let layer = candle_nn::linear(4, 3, vb)?;
///     Ok(move |x: &Tensor| layer.forward(x)?.silu())
/// }, loss::cross_entropy)?;
/// let y = Seed::new(1).tokens("y", 3, 3, &Device::Cpu)?;
/// let report = assert_gradients_correct!(learner, (&x.to_dtype(DType::F32)?, &y));
/// assert_eq!(report.dtype, DType::F64); // built again in f64
/// # candling::Result::Ok(())
/// ```
///
/// candle's `max_pool2d` divides its gradient by the size of the window:
///
/// ```should_panic
/// # use candling::prelude::*;
/// let x = Seed::new(1).normal("x", (1, 2, 4, 4), DType::F64, &Device::Cpu)?;
/// assert_gradients_correct!(|x| x.max_pool2d(2), &x);
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::GradientsCorrect`](crate::check::GradientsCorrect).
#[macro_export]
macro_rules! assert_gradients_correct {
    (|$($args:tt)*) => {
        $crate::__assert_function!(GradientsCorrect; |$($args)*)
    };
    (move |$($args:tt)*) => {
        $crate::__assert_function!(GradientsCorrect; move |$($args)*)
    };
    ($learner:expr, $x:expr, &$y:expr $(, $($rest:tt)*)?) => {
        $crate::__private::compile_error!("input and targets are one argument, a batch: `(&x, &y)`")
    };
    ($($args:tt)*) => {
        $crate::__assert!(GradientsCorrect [reference, value]; $($args)*)
    };
}

/// Asserts that no layer of a learner is dead or saturated, and that none computes next to nothing.
///
/// `assert_units_alive!(learner, (&x, &y))`, with the options of [`check::UnitsAlive`](crate::check::UnitsAlive): `scale`
/// (default 1,000), `allow`. Give it a few hundred samples: on small batches only a whole dead layer counts. Evaluates to
/// [`UnitsAliveReport`](crate::check::UnitsAliveReport), which prints as a table of all layers.
///
/// ```
/// use candling::prelude::*;
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let (l1, l2) = (candle_nn::linear(4, 16, vb.pp("l1"))?, candle_nn::linear(16, 3, vb.pp("l2"))?);
/// let x = Seed::new(1).normal("x", (256, 4), DType::F32, &Device::Cpu)?;
/// let y = Seed::new(1).tokens("y", 3, 256, &Device::Cpu)?;
/// let learner = Learner::new(&vars, |x| l2.forward(&l1.forward(x)?.relu()?), loss::cross_entropy);
///
/// let report = assert_units_alive!(learner, (&x, &y), "an MLP");
/// assert_eq!(report.layers[1].activation, Some("relu"));
/// # candling::Result::Ok(())
/// ```
///
/// A tanh whose input is far too large:
///
/// ```should_panic
/// # use candling::prelude::*;
/// # let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// # let (l1, l2) = (candle_nn::linear(4, 16, vb.pp("l1"))?, candle_nn::linear(16, 3, vb.pp("l2"))?);
/// # let x = Seed::new(1).normal("x", (256, 4), DType::F32, &Device::Cpu)?;
/// # let y = Seed::new(1).tokens("y", 3, 256, &Device::Cpu)?;
/// let learner = Learner::new(&vars, |x: &Tensor| {
///     l2.forward(&l1.forward(&((x.abs()? + 1.0)? * 1e3)?)?.tanh()?)
/// }, loss::cross_entropy);
/// assert_units_alive!(learner, (&x, &y));
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::UnitsAlive`](crate::check::UnitsAlive).
#[macro_export]
macro_rules! assert_units_alive {
    ($learner:expr, $x:expr, &$y:expr $(, $($rest:tt)*)?) => {
        $crate::__private::compile_error!("input and targets are one argument, a batch: `(&x, &y)`")
    };
    ($($args:tt)*) => {
        $crate::__assert!(UnitsAlive [reference, value]; $($args)*)
    };
}
