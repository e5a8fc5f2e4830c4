//! Assertions on tensors.

/// Two tensors agree: same shape, same dtype, every element within the tolerance.
///
/// `assert_close!(actual, expected)`; the option is `tolerance`, by default the bounds of `torch.testing.assert_close`
/// for the dtype. NaN matches nothing. Evaluates to a [`CloseReport`](crate::check::CloseReport); everything else is
/// said at [`check::Close`](crate::check::Close).
///
/// ```
/// use candling::{assert_close, prelude::*};
///
/// let expected = Tensor::new(&[1f32, 2., 4.], &Device::Cpu)?;
/// let actual = (&expected + 1e-6)?;
/// assert_close!(actual, expected);
/// assert_close!(actual, expected, tolerance = 1e-3);
/// assert_close!(actual, expected, tolerance = Tolerance::relative(1e-3), "after {} steps", 3);
/// # candling::Result::Ok(())
/// ```
///
/// ```should_panic
/// # use candling::{assert_close, prelude::*};
/// let expected = Tensor::new(&[1f32, 2., 4., 8.], &Device::Cpu)?;
/// assert_close!((&expected * 2.)?, expected); // actual is expected times 2
/// # candling::Result::Ok(())
/// ```
#[macro_export]
macro_rules! assert_close {
    ($($arguments:tt)*) => {
        $crate::__assert!(Close [reference, reference]; $($arguments)*)
    };
}

/// No value of a tensor is NaN or infinite.
///
/// `assert_finite!(tensor)`; there are no options. Evaluates to a [`FiniteReport`](crate::check::FiniteReport);
/// everything else is said at [`check::Finite`](crate::check::Finite).
///
/// ```
/// use candling::{assert_finite, prelude::*};
///
/// let x = Tensor::new(&[1f32, 2., 4.], &Device::Cpu)?;
/// assert_finite!(x);
/// assert_finite!(x.log()?, "logits of epoch {}", 3);
/// # candling::Result::Ok(())
/// ```
///
/// ```should_panic
/// # use candling::{assert_finite, prelude::*};
/// let x = Tensor::new(&[1f32, 0., 4.], &Device::Cpu)?;
/// assert_finite!(x.log()?); // [1]: -inf
/// # candling::Result::Ok(())
/// ```
#[macro_export]
macro_rules! assert_finite {
    ($($arguments:tt)*) => {
        $crate::__assert!(Finite [reference]; $($arguments)*)
    };
}

/// Every value of a tensor lies in a range.
///
/// `assert_in_range!(tensor, 0.0..=1.0)`, with any range of f64; the options are `strictly_inside` and `reaches`, both
/// false by default. Evaluates to an [`InRangeReport`](crate::check::InRangeReport); everything else is said at
/// [`check::InRange`](crate::check::InRange).
///
/// ```
/// use candling::{assert_in_range, prelude::*};
///
/// let pixels = Tensor::new(&[0f32, 0.5, 1.], &Device::Cpu)?;
/// assert_in_range!(pixels, 0.0..=1.0, reaches = true);
/// assert_in_range!(pixels, -0.1..1.1, strictly_inside = true, "after scaling");
/// # candling::Result::Ok(())
/// ```
///
/// ```should_panic
/// # use candling::{assert_in_range, prelude::*};
/// let pixels = Tensor::new(&[0f32, 128., 255.], &Device::Cpu)?;
/// assert_in_range!(pixels, 0.0..=1.0); // [2]: 255.0 is above 1.0 by 254
/// # candling::Result::Ok(())
/// ```
#[macro_export]
macro_rules! assert_in_range {
    ($($arguments:tt)*) => {
        $crate::__assert!(InRange [reference, value]; $($arguments)*)
    };
}

/// A tensor has the dimensions it should.
///
/// `assert_shape!(tensor, [2, _, n + 1])`, where `_` is free; instead of a list in brackets any expression that says
/// dimensions: `(2, 3)`, `x.dims()`, `&[2, 3]`. There are no options. Evaluates to a
/// [`ShapeReport`](crate::check::ShapeReport); everything else is said at [`check::Shape`](crate::check::Shape).
///
/// ```
/// use candling::{assert_shape, prelude::*};
///
/// let (x, n) = (Tensor::zeros((2, 3, 5), DType::F32, &Device::Cpu)?, 4);
/// assert_shape!(x, [2, _, n + 1]);
/// assert_shape!(x, (2, 3, 5), "block {}", n);
/// assert_shape!(x.sum_all()?, []);
/// # candling::Result::Ok(())
/// ```
///
/// ```should_panic
/// # use candling::{assert_shape, prelude::*};
/// let x = Tensor::zeros((2, 3, 5), DType::F32, &Device::Cpu)?;
/// assert_shape!(x, [2, 5, 3]); // dimension 1 is 3, expected 5; dimension 2 is 5, expected 3
/// # candling::Result::Ok(())
/// ```
#[macro_export]
macro_rules! assert_shape {
    ($tensor:expr, [$($dims:tt)*] $(, $($rest:tt)*)?) => {
        $crate::__assert!(
            Shape [reference, value];
            $tensor, $crate::__shape_pattern!([] $($dims)*) $(, $($rest)*)?
        )
    };
    ($($arguments:tt)*) => {
        $crate::__assert!(Shape [reference, value]; $($arguments)*)
    };
}

/// Takes dimensions off the front, one at a time; `_` first, because it would also match as an expression.
#[doc(hidden)]
#[macro_export]
macro_rules! __shape_pattern {
    ([$($done:expr),*]) => {
        $crate::__private::shape_pattern(&[$($done),*])
    };
    ([$($done:expr),*] _ $(, $($rest:tt)*)?) => {
        $crate::__shape_pattern!([$($done,)* $crate::__private::None] $($($rest)*)?)
    };
    ([$($done:expr),*] $dim:expr $(, $($rest:tt)*)?) => {
        $crate::__shape_pattern!([$($done,)* $crate::__private::Some($dim)] $($($rest)*)?)
    };
}

/// The dimensions of several tensors fit together.
///
/// In a pattern a name has one size wherever it stands; a number, or an expression in parentheses or braces, is exact;
/// `_` is one free dimension, `..` any number of them (once for a tensor). There are no options. Evaluates to a
/// [`DimsReport`](crate::check::DimsReport) with the sizes: `dims["batch"]`; everything else is said at
/// [`check::Dims`](crate::check::Dims).
///
/// ```
/// use candling::{assert_dims, prelude::*};
///
/// let (heads, x) = (4, Tensor::zeros((8, 16, 64), DType::F32, &Device::Cpu)?);
/// let mask = Tensor::zeros((8, 16), DType::U8, &Device::Cpu)?;
/// let dims = assert_dims!(x => [batch, time, (heads * 16)], mask => [batch, time]);
/// assert_eq!(dims["batch"], 8);
/// assert_dims!(x => [.., 64], mask => [_, time], "before attention");
/// # candling::Result::Ok(())
/// ```
///
/// ```should_panic
/// # use candling::{assert_dims, prelude::*};
/// let x = Tensor::zeros((8, 16, 64), DType::F32, &Device::Cpu)?;
/// let mask = Tensor::zeros((8, 12), DType::U8, &Device::Cpu)?;
/// assert_dims!(x => [batch, time, 64], mask => [batch, time]); // `time` is 16 in x and 12 in mask
/// # candling::Result::Ok(())
/// ```
#[macro_export]
macro_rules! assert_dims {
    ($($arguments:tt)*) => {
        $crate::__dims!([] $($arguments)*)
    };
}

/// Takes tensors with their patterns off the front; what is left are the message's format string and arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! __dims {
    ([$($done:tt)*]) => {
        $crate::__conclude!($crate::check::Dims::new().check(&[$($done)*]), $crate::__private::None)
    };
    ([$($done:tt)*] $format:literal $(, $($args:tt)*)?) => {
        $crate::__conclude!(
            $crate::check::Dims::new().check(&[$($done)*]),
            $crate::__private::Some($crate::__private::format_args!($format $(, $($args)*)?))
        )
    };
    ([$($done:tt)*] $tensor:expr => [$($dims:tt)*] $(, $($rest:tt)*)?) => {
        $crate::__dims!(
            [$($done)* ($crate::__private::stringify!($tensor), &$tensor, $crate::__dims_pattern!([] $($dims)*)),]
            $($($rest)*)?
        )
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __dims_pattern {
    ([$($done:expr),*]) => {
        &[$($done),*] as &[$crate::check::Dim<'_>]
    };
    ([$($done:expr),*] _ $(, $($rest:tt)*)?) => {
        $crate::__dims_pattern!([$($done,)* $crate::check::Dim::Any] $($($rest)*)?)
    };
    ([$($done:expr),*] .. $(, $($rest:tt)*)?) => {
        $crate::__dims_pattern!([$($done,)* $crate::check::Dim::Rest] $($($rest)*)?)
    };
    ([$($done:expr),*] $name:ident $(, $($rest:tt)*)?) => {
        $crate::__dims_pattern!(
            [$($done,)* $crate::check::Dim::Named($crate::__private::stringify!($name))] $($($rest)*)?
        )
    };
    ([$($done:expr),*] $size:literal $(, $($rest:tt)*)?) => {
        $crate::__dims_pattern!([$($done,)* $crate::check::Dim::Exact($size)] $($($rest)*)?)
    };
    ([$($done:expr),*] ($size:expr) $(, $($rest:tt)*)?) => {
        $crate::__dims_pattern!([$($done,)* $crate::check::Dim::Exact($size)] $($($rest)*)?)
    };
    ([$($done:expr),*] { $size:expr } $(, $($rest:tt)*)?) => {
        $crate::__dims_pattern!([$($done,)* $crate::check::Dim::Exact($size)] $($($rest)*)?)
    };
}
