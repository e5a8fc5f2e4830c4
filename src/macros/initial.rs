//! Assertions before training.

/// Asserts that weights start at random values of a sane size: none constant, none a copy of another, none far from what
/// its fan-in asks for.
///
/// `assert_initialized!(vars)`, with the options of [`check::Initialized`](crate::check::Initialized): `allow_zero`,
/// `allow`. Evaluates to [`InitializedReport`](crate::check::InitializedReport), which prints as a table of the weights.
///
/// ```
/// use candling::prelude::*;
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// candle_nn::linear(4, 8, vb.pp("l1"))?;
/// let gate = vb.pp("gate").get((8, 8), "weight")?; // starts at zero, by intent
///
/// let report = assert_initialized!(vars, allow_zero = ["gate"]);
/// assert_eq!(report.weights.len(), 2);
/// # candling::Result::Ok(())
/// ```
///
/// A standard deviation of 1, whatever the fan-in:
///
/// ```should_panic
/// # use candling::prelude::*;
/// # let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let init = candle_nn::Init::Randn { mean: 0.0, stdev: 1.0 };
/// vb.get_with_hints((64, 784), "weight", init)?;
/// vb.get(64, "bias")?;
/// assert_initialized!(vars);
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::Initialized`](crate::check::Initialized).
#[macro_export]
macro_rules! assert_initialized {
    ($($args:tt)*) => {
        $crate::__assert!(Initialized [reference]; $($args)*)
    };
}

/// Asserts that the loss before training is what theory says of a model that knows nothing.
///
/// `assert_initial_loss!(learner, (&x, &y), expected::cross_entropy(10))`: the expectations are in
/// [`expected`](crate::expected), the options are those of [`check::InitialLoss`](crate::check::InitialLoss): `seeds`
/// (default 5), `allow`. Evaluates to [`InitialLossReport`](crate::check::InitialLossReport).
///
/// ```
/// use candling::{expected, prelude::*};
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let (l1, l2) = (candle_nn::linear(4, 8, vb.pp("l1"))?, candle_nn::linear(8, 10, vb.pp("l2"))?);
/// let x = Seed::new(1).normal("x", (20, 4), DType::F32, &Device::Cpu)?;
/// let y = Seed::new(1).tokens("y", 10, 20, &Device::Cpu)?;
/// let learner = Learner::new(&vars, |x| l2.forward(&l1.forward(x)?.relu()?), loss::cross_entropy);
///
/// let report = assert_initial_loss!(learner, (&x, &y), expected::cross_entropy(10));
/// assert_eq!(report.expected, 10f64.ln());
/// # candling::Result::Ok(())
/// ```
///
/// A sum where a mean was meant:
///
/// ```should_panic
/// # use candling::{expected, prelude::*};
/// # let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// # let model = candle_nn::linear(4, 1, vb)?;
/// # let x = Seed::new(1).normal("x", (500, 4), DType::F32, &Device::Cpu)?;
/// # let y = Seed::new(1).normal("y", (500, 1), DType::F32, &Device::Cpu)?;
/// let learner = Learner::new(&vars, |x| model.forward(x), |o: &Tensor, y: &Tensor| (o - y)?.sqr()?.sum_all());
/// assert_initial_loss!(learner, (&x, &y), expected::mse(&y));
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold or could not be tested; see [`check::InitialLoss`](crate::check::InitialLoss).
#[macro_export]
macro_rules! assert_initial_loss {
    ($learner:expr, $x:expr, &$y:expr, $($rest:tt)+) => {
        $crate::__private::compile_error!("input and targets are one argument, a batch: `(&x, &y)`")
    };
    ($($args:tt)*) => {
        $crate::__assert!(InitialLoss [reference, value, value]; $($args)*)
    };
}
