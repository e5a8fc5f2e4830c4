//! Assertions on training and evaluation mode.

/// Asserts that training and evaluation mode do what they say: dropout, running statistics, and nothing else.
///
/// `assert_train_eval_modes!(learner, &x)`, for a learner of [`Learner::with_modes`](crate::Learner::with_modes), with the
/// options of [`check::TrainEvalModes`](crate::check::TrainEvalModes): `dropout` (the rates that the model declares: `0.1`,
/// `[0.1, 0.3]`), `passes` (default 16), `allow`. Evaluates to
/// [`TrainEvalModesReport`](crate::check::TrainEvalModesReport), which prints as a table of what training drops and of the
/// running statistics; the learner's variables keep their values.
///
/// ```
/// use candling::prelude::*;
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let (l1, l2) = (candle_nn::linear(4, 32, vb.pp("l1"))?, candle_nn::linear(32, 3, vb.pp("l2"))?);
/// let norm = candle_nn::batch_norm(32, 1e-5, vb.pp("norm"))?;
/// let dropout = candle_nn::Dropout::new(0.2);
/// let learner = Learner::with_modes(&vars, |x: &Tensor, train| {
///     let x = norm.forward_t(&l1.forward(x)?, train)?.relu()?;
///     l2.forward(&dropout.forward(&x, train)?)
/// }, loss::cross_entropy);
///
/// let x = Seed::new(1).normal("x", (16, 4), DType::F32, &Device::Cpu)?;
/// let report = assert_train_eval_modes!(learner, &x, dropout = 0.2);
/// assert_eq!(report.norms[0].momentum, Some(0.1));
/// # candling::Result::Ok(())
/// ```
///
/// The flag does not reach the dropout:
///
/// ```should_panic
/// # use candling::prelude::*;
/// # let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// # let (l1, l2) = (candle_nn::linear(4, 32, vb.pp("l1"))?, candle_nn::linear(32, 3, vb.pp("l2"))?);
/// # let x = Seed::new(1).normal("x", (16, 4), DType::F32, &Device::Cpu)?;
/// # let dropout = candle_nn::Dropout::new(0.2);
/// let learner = Learner::with_modes(&vars, |x: &Tensor, _train| {
///     l2.forward(&dropout.forward(&l1.forward(x)?.relu()?, false)?)
/// }, loss::cross_entropy);
/// assert_train_eval_modes!(learner, &x, dropout = 0.2);
/// # candling::Result::Ok(())
/// ```
///
/// # Panics
///
/// When the property does not hold, proves nothing, or could not be tested; see
/// [`check::TrainEvalModes`](crate::check::TrainEvalModes).
#[macro_export]
macro_rules! assert_train_eval_modes {
    ($learner:expr, ($x:expr, $y:expr) $(, $($rest:tt)*)?) => {
        $crate::__private::compile_error!("this assertion takes no targets: give it the input alone, `&x`")
    };
    ($($args:tt)*) => {
        $crate::__assert!(TrainEvalModes [reference, input]; $($args)*)
    };
}
