//! Assertions on the rows of a batch.

/// Asserts that no row of a function's output depends on another row of its input: all ordered pairs, bit for bit.
///
/// `assert_batch_independent!(|x| model.forward(x), &x)`, with the options of
/// [`check::BatchIndependent`](crate::check::BatchIndependent): `seed`, `allow`. Give it 8 rows or more, as they come from
/// the data. A closure written in place infers its argument; one bound by `let` needs `|x: &Tensor|`. Evaluates to
/// [`BatchIndependentReport`](crate::check::BatchIndependentReport).
///
/// ```
/// use candling::prelude::*;
///
/// let (_vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let (l1, l2) = (candle_nn::linear(4, 16, vb.pp("l1"))?, candle_nn::linear(16, 3, vb.pp("l2"))?);
/// let x = Seed::new(1).normal("x", (64, 4), DType::F32, &Device::Cpu)?;
///
/// let report = assert_batch_independent!(|x| l2.forward(&l1.forward(x)?.relu()?), &x, "an MLP");
/// assert_eq!(report.rows, 64);
/// # candling::Result::Ok(())
/// ```
///
/// Batch norm in training mode:
///
/// ```should_panic
/// # use candling::prelude::*;
/// # let (_vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let norm = candle_nn::batch_norm(4, 1e-5, vb.pp("norm"))?;
/// let x = Seed::new(1).normal("x", (64, 4), DType::F32, &Device::Cpu)?;
/// assert_batch_independent!(|x| norm.forward_t(x, true), &x);
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::BatchIndependent`](crate::check::BatchIndependent).
#[macro_export]
macro_rules! assert_batch_independent {
    ($($args:tt)*) => {
        $crate::__assert_function!(BatchIndependent; $($args)*)
    };
}
