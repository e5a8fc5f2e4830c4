//! Every exported macro. All have one grammar, and one private helper that knows it:
//! subjects, then `option = value` pairs, then a format string with its arguments.

/// The grammar of every assertion: which of the arguments are subjects is all that differs between them.
///
/// `[ref a, value b]` names the subjects: `ref` ones are borrowed, so that `x` and `&x` both work; `value` ones are
/// passed as they are. The two arms per number of subjects are needed: options and message in one arm are ambiguous.
#[doc(hidden)]
#[macro_export]
macro_rules! __assert {
    ($options:ident [$k1:ident]; $s1:expr $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::__conclude!(
            $crate::check::$options::new()$(.$name($value))*.check($crate::__subject!($k1 $s1)),
            $crate::__private::None
        )
    };
    ($options:ident [$k1:ident]; $s1:expr $(, $name:ident = $value:expr)*, $format:literal $($args:tt)*) => {
        $crate::__conclude!(
            $crate::check::$options::new()$(.$name($value))*.check($crate::__subject!($k1 $s1)),
            $crate::__private::Some($crate::__private::format_args!($format $($args)*))
        )
    };
    ($options:ident [$k1:ident, $k2:ident]; $s1:expr, $s2:expr $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::__conclude!(
            $crate::check::$options::new()$(.$name($value))*
                .check($crate::__subject!($k1 $s1), $crate::__subject!($k2 $s2)),
            $crate::__private::None
        )
    };
    (
        $options:ident [$k1:ident, $k2:ident];
        $s1:expr, $s2:expr $(, $name:ident = $value:expr)*, $format:literal $($args:tt)*
    ) => {
        $crate::__conclude!(
            $crate::check::$options::new()$(.$name($value))*
                .check($crate::__subject!($k1 $s1), $crate::__subject!($k2 $s2)),
            $crate::__private::Some($crate::__private::format_args!($format $($args)*))
        )
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __subject {
    (reference $subject:expr) => {
        &$subject
    };
    (value $subject:expr) => {
        $subject
    };
}

/// `match` keeps temporaries among the subjects alive, and lets the macro evaluate to the report.
#[doc(hidden)]
#[macro_export]
macro_rules! __conclude {
    ($result:expr, $context:expr) => {
        match $result {
            $crate::__private::Ok(report) => report,
            $crate::__private::Err(failure) => $crate::__private::fail(failure, $context),
        }
    };
}

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
/// assert!(report.steps < 300);
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
    ($($args:tt)*) => {
        $crate::__assert!(OverfitsBatch [reference, value]; $($args)*)
    };
}

/// Asserts everything that applies to a learner and one batch of it: every check runs, and one report tells of all.
///
/// `assert_healthy!(learner, (&x, &y))`, with the options of [`check::Healthy`](crate::check::Healthy): `classes`,
/// `skip`, `allow`. Evaluates to [`HealthyReport`](crate::check::HealthyReport); the learner's variables keep their
/// values.
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
    ($($args:tt)*) => {
        $crate::__assert!(Healthy [reference, value]; $($args)*)
    };
}
