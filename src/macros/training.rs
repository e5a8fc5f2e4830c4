//! Assertions that train, and the one that runs everything.

/// Asserts that a learner memorises one batch: its loss goes to the floor, and not from an input-blind shortcut.
///
/// `assert_overfits_batch!(learner, (&x, &y))`, with the options of
/// [`check::OverfitsBatch`](crate::check::OverfitsBatch): `steps` (default 300), `loss_below` (default 1 % of the first
/// loss), `accuracy` (default not judged), `allow`. Evaluates to
/// [`OverfitsBatchReport`](crate::check::OverfitsBatchReport); the learner's variables keep their values.
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
/// let report = assert_overfits_batch!(learner, (&x, &y), accuracy = 1.0, "spirals, width {}", 32);
/// assert_eq!(report.accuracy, Some(1.0));
/// # candling::Result::Ok(())
/// ```
///
/// A loss with the wrong sign:
///
/// ```should_panic
/// # use candling::{prelude::*, synthetic};
/// # let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// # let l1 = candle_nn::linear(2, 32, vb.pp("l1"))?;
/// # let (x, y) = synthetic::spirals(Seed::new(1), 2, 4)?;
/// let learner = Learner::new(&vars, |x| l1.forward(x), |o, y| loss::cross_entropy(o, y)?.neg());
/// assert_overfits_batch!(learner, (&x, &y));
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::OverfitsBatch`](crate::check::OverfitsBatch).
#[macro_export]
macro_rules! assert_overfits_batch {
    ($learner:expr, $x:expr, &$y:expr $(, $($rest:tt)*)?) => {
        $crate::__private::compile_error!("input and targets are one argument, a batch: `(&x, &y)`")
    };
    ($($args:tt)*) => {
        $crate::__assert!(OverfitsBatch [reference, value]; $($args)*)
    };
}

/// Asserts everything that applies to a learner and one batch of it: every check runs, and one report tells of all.
///
/// `assert_healthy!(learner, (&x, &y))`, with the options of [`check::Healthy`](crate::check::Healthy): `classes`,
/// `causal` (default `false`), `loss_below` (default 1 % of the first loss: a loss with a floor, as with label smoothing,
/// needs it), `steps` (default 300), `skip`, `allow`. Evaluates to [`HealthyReport`](crate::check::HealthyReport); the
/// learner's variables keep their values.
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
/// assert_healthy!(learner, (&x, &y), classes = 2);
/// # candling::Result::Ok(())
/// ```
///
/// Labels that count from 1:
///
/// ```should_panic
/// # use candling::{prelude::*, synthetic};
/// # let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// # let layer = candle_nn::linear(2, 2, vb)?;
/// # let learner = Learner::new(&vars, |x| layer.forward(x), loss::cross_entropy);
/// # let (x, y) = synthetic::spirals(Seed::new(1), 2, 4)?;
/// assert_healthy!(learner, (&x, &(y + 1.0)?), classes = 2);
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When a check fails, proves nothing, or could not run; see [`check::Healthy`](crate::check::Healthy).
#[macro_export]
macro_rules! assert_healthy {
    ($learner:expr, $x:expr, &$y:expr $(, $($rest:tt)*)?) => {
        $crate::__private::compile_error!("input and targets are one argument, a batch: `(&x, &y)`")
    };
    ($($args:tt)*) => {
        $crate::__assert!(Healthy [reference, value]; $($args)*)
    };
}
