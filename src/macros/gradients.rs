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
