//! Assertions on properties of functions: transformations, equivalence, sensitivity.

/// Asserts that the output stays when the input is transformed: `f(T(x)) = f(x)`.
///
/// `assert_invariant!(|x| model.forward(x), &x, |x| x.flip(&[1]))`; several transformations in brackets: `[|x| .., |x| ..]`.
/// The options of [`check::Invariant`](crate::check::Invariant) are `tolerance` (default: the rounding measured on the
/// function), `seed` and `allow`. A closure written in place infers its types; one bound by `let` needs `|x: &Tensor|`.
/// Evaluates to an [`InvariantReport`](crate::check::InvariantReport).
///
/// ```
/// use candling::prelude::*;
///
/// let (_vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let (phi, rho) = (candle_nn::linear(3, 16, vb.pp("phi"))?, candle_nn::linear(16, 4, vb.pp("rho"))?);
/// let points = Seed::new(1).normal("points", (2, 50, 3), DType::F32, &Device::Cpu)?;
///
/// let classify = |x: &Tensor| rho.forward(&phi.forward(x)?.relu()?.mean(1)?);
/// assert_invariant!(classify, &points, |x| x.flip(&[1]), "points are a set");
/// let report = assert_invariant!(classify, points, [|x| x.flip(&[1]), |x| x.roll(7, 1)]);
/// assert_eq!(report.transformations, 2);
/// # candling::Result::Ok(())
/// ```
///
/// A function that weighs every point by its place:
///
/// ```should_panic
/// # use candling::prelude::*;
/// let points = Seed::new(1).normal("points", (2, 50, 3), DType::F32, &Device::Cpu)?;
/// let weights = Seed::new(2).normal("weights", (1, 50, 1), DType::F32, &Device::Cpu)?;
/// assert_invariant!(|x| x.broadcast_mul(&weights)?.sum(1), &points, |x| x.flip(&[1]));
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::Invariant`](crate::check::Invariant).
#[macro_export]
macro_rules! assert_invariant {
    ($($args:tt)*) => {
        $crate::__assert_transformed!(Invariant; $($args)*)
    };
}

/// Asserts that the output follows a transformation of the input: `f(T(x)) = T'(f(x))`.
///
/// `assert_equivariant!(|x| model.forward(x), &x, |x| x.roll(1, 2))` where the output is transformed as the input is;
/// `assert_equivariant!(f, &x, |x| .., |y| ..)` says what happens to the output, too; several transformations of the first
/// kind in brackets. The options of [`check::Equivariant`](crate::check::Equivariant) are `tolerance` (default: the rounding
/// measured on both sides), `seed` and `allow`. Evaluates to an
/// [`EquivariantReport`](crate::check::EquivariantReport).
///
/// ```
/// use candling::prelude::*;
///
/// let x = Seed::new(1).normal("x", (2, 8, 3), DType::F32, &Device::Cpu)?;
/// assert_equivariant!(|x| x - x.roll(1, 1)?, &x, |x| x.roll(1, 1));
/// // averages of two follow a shift by two with a shift by one
/// assert_equivariant!(
///     |x| x.reshape((2, 4, 2, 3))?.mean(2),
///     &x,
///     |x| x.roll(2, 1),
///     |y| y.roll(1, 1),
///     "pooling",
/// );
/// # candling::Result::Ok(())
/// ```
///
/// A running sum knows where the sequence begins:
///
/// ```should_panic
/// # use candling::prelude::*;
/// let x = Seed::new(1).normal("x", (2, 8, 3), DType::F32, &Device::Cpu)?;
/// assert_equivariant!(|x| x.cumsum(1), &x, |x| x.roll(1, 1));
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::Equivariant`](crate::check::Equivariant).
#[macro_export]
macro_rules! assert_equivariant {
    ($($args:tt)*) => {
        $crate::__assert_transformed!(Equivariant; $($args)*)
    };
}

/// Asserts that two functions agree: looped and vectorised, batched and one by one, f32 and bf16, CPU and another device.
///
/// `assert_equivalent!(|x| fast(x), |x| slow(x), &x)`, the one expected to be right second. The options of
/// [`check::Equivalent`](crate::check::Equivalent) are `tolerance` (default: the rounding measured on both functions), `seed`
/// and `allow`. Evaluates to an [`EquivalentReport`](crate::check::EquivalentReport).
///
/// ```
/// use candling::prelude::*;
///
/// let (_vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let model = candle_nn::linear(16, 4, vb)?;
/// let x = Seed::new(1).normal("x", (5, 16), DType::F32, &Device::Cpu)?;
///
/// let one_by_one = |x: &Tensor| {
///     let rows: Vec<_> = (0..5).map(|i| model.forward(&x.narrow(0, i, 1)?)).collect::<Result<_, _>>()?;
///     Tensor::cat(&rows, 0)
/// };
/// assert_equivalent!(|x| model.forward(x), one_by_one, &x, "batched and one by one");
/// # candling::Result::Ok(())
/// ```
///
/// candle's `gelu` is the approximation by tanh:
///
/// ```should_panic
/// # use candling::prelude::*;
/// let x = Seed::new(1).normal("x", (5, 16), DType::F32, &Device::Cpu)?;
/// assert_equivalent!(|x| x.gelu(), |x| x.gelu_erf(), &x);
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::Equivalent`](crate::check::Equivalent).
#[macro_export]
macro_rules! assert_equivalent {
    ($($args:tt)*) => {
        $crate::__assert_functions!(Equivalent; $($args)*)
    };
}

/// Asserts that a change of the input changes the output, where wanted in a stated direction.
///
/// `assert_sensitive!(|x| model.forward(x), &x, |x| x + 1.0)`; several changes in brackets, each of which must be noticed.
/// The options of [`check::Sensitive`](crate::check::Sensitive) are `direction` ([`Direction::Up`](crate::check::Direction) or
/// `Down`: no output value may move the other way), `at_least` (the smallest change that counts; default: the measured
/// rounding), `every_row`, and `allow`. Evaluates to a [`SensitiveReport`](crate::check::SensitiveReport).
///
/// ```
/// use candling::{check::Direction, prelude::*};
///
/// let distance = Tensor::new(&[[1f32], [2.0], [5.0]], &Device::Cpu)?;
/// let score = |x: &Tensor| (x.neg()? * 0.5)?.exp();
/// assert_sensitive!(score, &distance, |x| x + 0.1);
/// assert_sensitive!(score, &distance, |x| x + 0.1, direction = Direction::Down, "further is worse");
/// # candling::Result::Ok(())
/// ```
///
/// ```should_panic
/// # use candling::{check::Direction, prelude::*};
/// let distance = Tensor::new(&[[1f32], [2.0], [5.0]], &Device::Cpu)?;
/// // the sign is lost
/// assert_sensitive!(|x| (x * 0.5)?.exp(), &distance, |x| x + 0.1, direction = Direction::Down);
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::Sensitive`](crate::check::Sensitive).
#[macro_export]
macro_rules! assert_sensitive {
    ($($args:tt)*) => {
        $crate::__assert_transformed!(Sensitive; $($args)*)
    };
}
