//! Every exported macro. All have one grammar, and one private helper that knows it:
//! subjects, then `option = value` pairs, then a format string with its arguments.

mod batch;
mod behaviour;
mod data;
mod gradients;
mod initial;
mod learning;
mod loss;
mod modes;
mod pairs;
mod properties;
mod sequence;
mod steps;
mod tensors;
mod training;

/// The grammar of every assertion: which of the arguments are subjects is all that differs between them.
///
/// `[ref a, value b]` names the subjects: `ref` ones are borrowed, so that `x` and `&x` both work; `value` ones are
/// passed as they are; an `input` may be behind any number of references, and a `loss` is told what it is called with. The
/// two arms per number of subjects are needed: options and message in one arm are ambiguous.
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
    (
        $options:ident [$k1:ident, $k2:ident, $k3:ident];
        $s1:expr, $s2:expr, $s3:expr $(, $name:ident = $value:expr)* $(,)?
    ) => {
        $crate::__conclude!(
            $crate::check::$options::new()$(.$name($value))*.check(
                $crate::__subject!($k1 $s1),
                $crate::__subject!($k2 $s2),
                $crate::__subject!($k3 $s3),
            ),
            $crate::__private::None
        )
    };
    (
        $options:ident [$k1:ident, $k2:ident, $k3:ident];
        $s1:expr, $s2:expr, $s3:expr $(, $name:ident = $value:expr)*, $format:literal $($args:tt)*
    ) => {
        $crate::__conclude!(
            $crate::check::$options::new()$(.$name($value))*.check(
                $crate::__subject!($k1 $s1),
                $crate::__subject!($k2 $s2),
                $crate::__subject!($k3 $s3),
            ),
            $crate::__private::Some($crate::__private::format_args!($format $($args)*))
        )
    };
}

/// The grammar of an assertion on a function and its input: `f, &x`.
///
/// The input is looked at first, so that a closure written in place learns its argument's type from it.
#[doc(hidden)]
#[macro_export]
macro_rules! __assert_function {
    ($options:ident; $f:expr, $x:expr $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::__conclude!(
            $crate::__of_function!($options; $f, $x $(, $name = $value)*),
            $crate::__private::None
        )
    };
    ($options:ident; $f:expr, $x:expr $(, $name:ident = $value:expr)*, $format:literal $($args:tt)*) => {
        $crate::__conclude!(
            $crate::__of_function!($options; $f, $x $(, $name = $value)*),
            $crate::__private::Some($crate::__private::format_args!($format $($args)*))
        )
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __of_function {
    ($options:ident; $f:expr, $x:expr $(, $name:ident = $value:expr)*) => {
        match $crate::__private::input(&$x) {
            input => $crate::check::$options::new()$(.$name($value))*
                .check($crate::__private::function_of(input, $f), input),
        }
    };
}

/// The grammar of an assertion on a function and what it is judged on, an input or a strategy: `f, &x`.
///
/// The inputs are looked at first, so that a closure written in place learns its argument's type from them.
#[doc(hidden)]
#[macro_export]
macro_rules! __assert_on_inputs {
    ($options:ident; $f:expr, $x:expr $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::__conclude!(
            $crate::__on_inputs!($options; $f, $x $(, $name = $value)*),
            $crate::__private::None
        )
    };
    ($options:ident; $f:expr, $x:expr $(, $name:ident = $value:expr)*, $format:literal $($args:tt)*) => {
        $crate::__conclude!(
            $crate::__on_inputs!($options; $f, $x $(, $name = $value)*),
            $crate::__private::Some($crate::__private::format_args!($format $($args)*))
        )
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __on_inputs {
    ($options:ident; $f:expr, $x:expr $(, $name:ident = $value:expr)*) => {
        match &$x {
            inputs => $crate::check::$options::new()$(.$name($value))*
                .check($crate::__private::function_on(inputs, $f), inputs),
        }
    };
}

/// The grammar of an assertion on a function, its input, and what is done to the input: `f, &x, transform`, or several in
/// brackets. A transformation is named after its code.
#[doc(hidden)]
#[macro_export]
macro_rules! __assert_transformed {
    ($options:ident; $f:expr, $x:expr, [$($t:expr),+ $(,)?] $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::__conclude!(
            $crate::__of_transformed!($options; $f, $x, [$($t,)+] $(, $name = $value)*),
            $crate::__private::None
        )
    };
    (
        $options:ident;
        $f:expr, $x:expr, [$($t:expr),+ $(,)?] $(, $name:ident = $value:expr)*, $format:literal $($args:tt)*
    ) => {
        $crate::__conclude!(
            $crate::__of_transformed!($options; $f, $x, [$($t,)+] $(, $name = $value)*),
            $crate::__private::Some($crate::__private::format_args!($format $($args)*))
        )
    };
    ($options:ident; $f:expr, $x:expr, $t:expr $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::__conclude!(
            $crate::__of_transformed!($options; $f, $x, [$t,] $(, $name = $value)*),
            $crate::__private::None
        )
    };
    (
        $options:ident;
        $f:expr, $x:expr, $t:expr $(, $name:ident = $value:expr)*, $format:literal $($args:tt)*
    ) => {
        $crate::__conclude!(
            $crate::__of_transformed!($options; $f, $x, [$t,] $(, $name = $value)*),
            $crate::__private::Some($crate::__private::format_args!($format $($args)*))
        )
    };
    ($options:ident; $f:expr, $x:expr, $t:expr, $o:expr $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::__conclude!(
            $crate::__of_transformed!($options; $f, $x, [$t => $o,] $(, $name = $value)*),
            $crate::__private::None
        )
    };
    (
        $options:ident;
        $f:expr, $x:expr, $t:expr, $o:expr $(, $name:ident = $value:expr)*, $format:literal $($args:tt)*
    ) => {
        $crate::__conclude!(
            $crate::__of_transformed!($options; $f, $x, [$t => $o,] $(, $name = $value)*),
            $crate::__private::Some($crate::__private::format_args!($format $($args)*))
        )
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __of_transformed {
    ($options:ident; $f:expr, $x:expr, [$($t:expr $(=> $o:expr)?,)+] $(, $name:ident = $value:expr)*) => {
        match &$x {
            inputs => $crate::check::$options::new()$(.$name($value))*.check(
                $crate::__private::function_on(inputs, $f),
                inputs,
                [$(
                    $crate::__private::transform(inputs, $crate::__private::stringify!($t), $t)
                        $(.output($crate::__private::of_output($o)))?
                ),+],
            ),
        }
    };
}

/// The grammar of an assertion on two functions and what they take: `f, g, &x`.
#[doc(hidden)]
#[macro_export]
macro_rules! __assert_functions {
    ($options:ident; $f:expr, $g:expr, $x:expr $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::__conclude!(
            $crate::__of_functions!($options; $f, $g, $x $(, $name = $value)*),
            $crate::__private::None
        )
    };
    ($options:ident; $f:expr, $g:expr, $x:expr $(, $name:ident = $value:expr)*, $format:literal $($args:tt)*) => {
        $crate::__conclude!(
            $crate::__of_functions!($options; $f, $g, $x $(, $name = $value)*),
            $crate::__private::Some($crate::__private::format_args!($format $($args)*))
        )
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __of_functions {
    ($options:ident; $f:expr, $g:expr, $x:expr $(, $name:ident = $value:expr)*) => {
        match &$x {
            inputs => $crate::check::$options::new()$(.$name($value))*.check(
                $crate::__private::function_on(inputs, $f),
                $crate::__private::function_on(inputs, $g),
                inputs,
            ),
        }
    };
}

/// The grammar of an assertion on a function, its input, and one thing more, which is borrowed: `f, &x, mask`.
#[doc(hidden)]
#[macro_export]
macro_rules! __assert_function_with {
    ($options:ident; $f:expr, $x:expr, $more:expr $(, $name:ident = $value:expr)* $(,)?) => {
        $crate::__conclude!(
            $crate::__of_function_with!($options; $f, $x, $more $(, $name = $value)*),
            $crate::__private::None
        )
    };
    (
        $options:ident;
        $f:expr, $x:expr, $more:expr $(, $name:ident = $value:expr)*, $format:literal $($args:tt)*
    ) => {
        $crate::__conclude!(
            $crate::__of_function_with!($options; $f, $x, $more $(, $name = $value)*),
            $crate::__private::Some($crate::__private::format_args!($format $($args)*))
        )
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __of_function_with {
    ($options:ident; $f:expr, $x:expr, $more:expr $(, $name:ident = $value:expr)*) => {
        match $crate::__private::input(&$x) {
            input => $crate::check::$options::new()$(.$name($value))*
                .check($crate::__private::function_of(input, $f), input, &$more),
        }
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
    (input $subject:expr) => {
        $crate::__private::input(&$subject)
    };
    (loss $subject:expr) => {
        $crate::__private::loss_of($subject)
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
