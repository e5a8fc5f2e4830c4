//! Not public API: what the exported macros expand to, so that they work whatever the caller has in scope; and what
//! benches measure by itself.

use std::fmt;

pub use std::{
    compile_error, format_args,
    option::Option::{None, Some},
    result::Result::{Err, Ok},
    stringify,
};

use candle_core::Tensor;

/// The two proofs of [`BatchIndependent`](crate::check::BatchIndependent), each by itself: what benches measure.
pub use crate::check::dependence::{rows_by_gradient, rows_by_replacement};

use crate::{
    Failure, Input, Inputs,
    check::{ShapePattern, Transform},
    env,
    verdict::Palette,
};

/// An input or a reference to one, so that `x` and `&x` both work.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no input of this assertion",
    label = "neither a tensor nor an array of tensors",
    note = "this assertion takes no strategy: give it a tensor that one draws, `&strategy.sample(Seed::new(1))?`"
)]
pub trait AsInput {
    /// The input's own type.
    type Input: Input;

    /// The input itself.
    fn as_input(&self) -> &Self::Input;
}

impl AsInput for Tensor {
    type Input = Tensor;

    fn as_input(&self) -> &Tensor {
        self
    }
}

impl<const N: usize> AsInput for [Tensor; N] {
    type Input = [Tensor; N];

    fn as_input(&self) -> &[Tensor; N] {
        self
    }
}

impl<T: AsInput> AsInput for &T {
    type Input = T::Input;

    fn as_input(&self) -> &T::Input {
        (**self).as_input()
    }
}

/// The input behind any number of references.
pub fn input<T: AsInput>(input: &T) -> &T::Input {
    input.as_input()
}

/// Tells a closure what its argument is.
pub fn function_of<I, F>(_: &I, f: F) -> F
where
    I: Input,
    F: FnMut(&I) -> candle_core::Result<Tensor>,
{
    f
}

/// Tells a closure what its argument is: what the inputs are made of.
pub fn function_on<X, F>(_: &X, f: F) -> F
where
    X: Inputs,
    F: FnMut(&X::Input) -> candle_core::Result<Tensor>,
{
    f
}

/// Tells a closure that its arguments are tokens and an offset.
pub fn step_of<F>(step: F) -> F
where
    F: FnMut(&Tensor, usize) -> candle_core::Result<Tensor>,
{
    step
}

/// Tells a closure that its arguments are an input and a mask.
pub fn padded_of<F>(f: F) -> F
where
    F: FnMut(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
{
    f
}

/// Tells a closure that its arguments are a prediction and a target.
pub fn loss_of<F>(loss: F) -> F
where
    F: FnMut(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
{
    loss
}

/// A transformation of the input, named after its code.
pub fn transform<'t, X, F>(_: &X, code: &str, transform: F) -> Transform<'t>
where
    X: Inputs,
    F: FnMut(&X::Input) -> candle_core::Result<X::Input> + 't,
{
    Transform::of_code(code, transform)
}

/// Tells a closure that its argument is an output.
pub fn of_output<F>(transform: F) -> F
where
    F: FnMut(&Tensor) -> candle_core::Result<Tensor>,
{
    transform
}

/// Gives the dimensions of `assert_shape!` their type, which an empty list does not have by itself.
pub fn shape_pattern(dims: &[Option<usize>]) -> ShapePattern {
    ShapePattern::from(dims)
}

/// Panics at the caller's line with the whole message.
#[cold]
#[track_caller]
pub fn fail(failure: Failure, context: Option<fmt::Arguments<'_>>) -> ! {
    let failure = match context {
        Some(context) => failure.context(context),
        None => failure,
    };
    let palette = if env::colour() { Palette::Colour } else { Palette::Plain };
    panic!("{}", failure.text_in(palette))
}
