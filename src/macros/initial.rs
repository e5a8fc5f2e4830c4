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
