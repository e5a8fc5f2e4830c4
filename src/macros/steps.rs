//! Assertions on single training steps.

/// Asserts that the user's own training step moves every variable that is not frozen, no frozen one, and by a sane share.
///
/// `assert_step_updates!(vars, || step())`, with the options of [`check::StepUpdates`](crate::check::StepUpdates): `steps`
/// (default 10), `frozen`, `decayed`, `learning_rate`, `loss`, `allow`. The closure owns what a training loop owns, and
/// `vars` get their values back; the optimizer's own state does not come back. Evaluates to
/// [`StepUpdatesReport`](crate::check::StepUpdatesReport), which prints as a table of all variables.
///
/// ```
/// use candle_nn::SGD;
/// use candling::prelude::*;
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let (l1, l2) = (candle_nn::linear(4, 8, vb.pp("l1"))?, candle_nn::linear(8, 3, vb.pp("l2"))?);
/// let x = Seed::new(1).normal("x", (6, 4), DType::F32, &Device::Cpu)?;
/// let y = Seed::new(1).tokens("y", 3, 6, &Device::Cpu)?;
/// let loss = || loss::cross_entropy(&l2.forward(&l1.forward(&x)?.relu()?)?, &y);
///
/// let mut optimizer = SGD::new(vars.all_vars(), 0.1)?;
/// let report = assert_step_updates!(
///     vars,
///     || optimizer.backward_step(&loss()?),
///     loss = loss,
///     learning_rate = 0.1,
///     "plain descent"
/// );
/// assert_eq!(report.calls_per_update, 1);
/// # candling::Result::Ok(())
/// ```
///
/// A negative learning rate climbs:
///
/// ```should_panic
/// # use candle_nn::SGD;
/// # use candling::prelude::*;
/// # let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// # let l1 = candle_nn::linear(4, 3, vb)?;
/// # let x = Seed::new(1).normal("x", (6, 4), DType::F32, &Device::Cpu)?;
/// # let y = Seed::new(1).tokens("y", 3, 6, &Device::Cpu)?;
/// # let loss = || loss::cross_entropy(&l1.forward(&x)?, &y);
/// let mut optimizer = SGD::new(vars.all_vars(), -0.1)?;
/// assert_step_updates!(vars, || optimizer.backward_step(&loss()?), loss = loss);
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::StepUpdates`](crate::check::StepUpdates).
#[macro_export]
macro_rules! assert_step_updates {
    ($($args:tt)*) => {
        $crate::__assert!(StepUpdates [reference, value]; $($args)*)
    };
}

/// Asserts that a small step against the gradient lowers the loss, and that the learner's own optimizer does.
///
/// `assert_loss_decreases!(learner, (&x, &y))`, with the options of [`check::LossDecreases`](crate::check::LossDecreases):
/// `steps` (default 50), `allow`. Evaluates to [`LossDecreasesReport`](crate::check::LossDecreasesReport); the learner's
/// variables keep their values.
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
/// let report = assert_loss_decreases!(learner, (&x, &y), "an MLP");
/// assert!(report.kept > Some(0.1));
/// # candling::Result::Ok(())
/// ```
///
/// A straight-through estimator with a minus:
///
/// ```should_panic
/// # use candling::prelude::*;
/// # let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// # let (l1, l2) = (candle_nn::linear(4, 32, vb.pp("l1"))?, candle_nn::linear(32, 3, vb.pp("l2"))?);
/// # let x = Seed::new(1).normal("x", (16, 4), DType::F32, &Device::Cpu)?;
/// # let y = Seed::new(1).tokens("y", 3, 16, &Device::Cpu)?;
/// let learner = Learner::new(&vars, |x| {
///     let h = l1.forward(x)?.tanh()?;
///     let rounded = ((&h * 16.0)?.round()? / 16.0)?;
///     l2.forward(&((rounded + &h)?.detach() - &h)?)
/// }, loss::cross_entropy);
/// assert_loss_decreases!(learner, (&x, &y));
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::LossDecreases`](crate::check::LossDecreases).
#[macro_export]
macro_rules! assert_loss_decreases {
    ($learner:expr, $x:expr, &$y:expr $(, $($rest:tt)*)?) => {
        $crate::__private::compile_error!("input and targets are one argument, a batch: `(&x, &y)`")
    };
    ($($args:tt)*) => {
        $crate::__assert!(LossDecreases [reference, value]; $($args)*)
    };
}
