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
