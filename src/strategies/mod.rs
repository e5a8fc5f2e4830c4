//! Strategies for [proptest](https://docs.rs/proptest): tensors of any shape, dtype and layout, tokens, masks, batches.
//!
//! A strategy draws a shape and a seed, and fills the tensor from that seed's stream: much cheaper than a vector of
//! elements drawn one by one, and it shrinks in about twenty trials where such a vector takes a thousand. What shrinks is
//! the description of the tensor: first to the plainest layout, then to the smallest dimensions, then to the simplest
//! values (zeros, a single one, ones, whole numbers), and over again while anything got simpler.
//!
//! ```
//! use candling::{check::Close, prelude::*, strategies};
//! use proptest::prelude::*;
//!
//! # /*
//! #[test]
//! # */
//! fn softmax_ignores_a_shift() {
//!     proptest!(|(x in strategies::tensor([1..6, 1..6]), shift in -3.0..3.0)| {
//!         let plain = candle_nn::ops::softmax(&x, 1)?;
//!         let shifted = candle_nn::ops::softmax(&(&x + shift)?, 1)?;
//!         Close::new().check(&shifted, &plain)?;
//!     });
//! }
//! # softmax_ignores_a_shift();
//! ```
//!
//! The dimensions of a tensor are pairwise distinct unless they are fixed, so that a swapped axis is seen: a square matrix
//! hides it. Where some must be equal, [`Tensors::distinct`] lets them.
//!
//! # The line that makes it again
//!
//! candle prints of a tensor no more than its dimensions, and so does a failing property. With
//! [`with_line`](Tensors::with_line) the value carries the line of Rust that makes it again, bit for bit, and prints it
//! with the elements:
//!
//! ```
//! use candling::{prelude::*, strategies};
//! use proptest::prelude::*;
//!
//! proptest!(|(x in strategies::tensor([2, 3]).with_line())| {
//!     prop_assert!(x.line.starts_with("strategies::tensor([2, 3]).sample(Seed::new("));
//!     prop_assert_eq!(x.dims(), [2, 3]); // it stands for the tensor
//! });
//!
//! let again = strategies::tensor([2, 3]).sample(Seed::new(17))?; // such a line, in a test of its own
//! assert_shape!(again, [2, 3]);
//! # candling::Result::Ok(())
//! ```
//!
//! # What cannot be drawn
//!
//! The functions here never panic. A strategy that cannot be met (an empty range, more distinct dimensions than the ranges
//! hold, a vocabulary of 0, no dtype) is refused when it is drawn from, and the reason names the argument, what it was and
//! what is allowed: [`sample`](Tensors::sample) returns it as a [`Failure`](crate::Failure), and proptest aborts the test
//! with it. A setter cannot judge alone, because the next one may mend what it sees.

mod dims;
mod drawn;
mod group;
mod layout;
mod recipe;
mod search;
mod seed;
mod shrink;
mod tensors;
mod values;

pub use dims::{Dims, Size};
pub use drawn::{Drawn, DrawnTree, WithLine};
pub use group::{Group, Tree};
pub use layout::Layout;
pub use tensors::Tensors;
pub use values::Values;

use candle_core::{DType, Tensor};

use group::Composed;

/// Tensors of real numbers: f32, standard normal, contiguous, until the setters say otherwise. On the CPU, as everything
/// here: `x.to_device(..)` takes them elsewhere, with the same bits.
///
/// `dims` is a size or a range of sizes for each dimension: `[2, 3]`, `[1..6, 1..6]`, `(1..=8, 64)`, or
/// [`Dims::of_rank`].
///
/// ```
/// use candling::{prelude::*, strategies::{self, Dims, Layout, Values}};
///
/// let images = strategies::tensor((1..5, 3, 8..17, 8..17)).values(Values::Uniform(0.0..1.0));
/// let anything = strategies::tensor(Dims::of_rank(0..=4, 1..6))
///     .dtypes([DType::F32, DType::BF16])
///     .layouts([Layout::Contiguous, Layout::Narrowed]);
///
/// let x = images.sample(Seed::new(3))?;
/// assert_in_range!(x, 0.0..=1.0);
/// anything.sample(Seed::new(3))?;
/// # candling::Result::Ok(())
/// ```
pub fn tensor(dims: impl Into<Dims>) -> Tensors {
    Tensors::new(dims.into(), Values::Normal, DType::F32)
}

/// Token ids `0..vocab` as u32. They shrink to a smaller vocabulary: to id 0 alone, where that fails.
///
/// ```
/// use candling::{prelude::*, strategies};
///
/// let ids = strategies::tokens(50, (1..5, 2..20)).sample(Seed::new(1))?;
/// assert_in_range!(ids, 0.0..=49.0);
/// # candling::Result::Ok(())
/// ```
pub fn tokens(vocab: usize, dims: impl Into<Dims>) -> Tensors {
    Tensors::new(dims.into(), Values::Tokens(vocab), DType::U32)
}

/// Class labels `0..classes` as u32, one for each row: the targets of a cross-entropy.
pub fn labels(classes: usize, rows: impl Into<Size>) -> Tensors {
    tokens(classes, [rows.into()])
}

/// Masks of 0 and 1 as u8, at least a single 1 in each row of the last dimension, where softmax over a row of minus
/// infinity would be NaN. They shrink to all ones: nothing masked.
pub fn mask(dims: impl Into<Dims>) -> Tensors {
    Tensors::new(dims.into(), Values::Mask, DType::U8)
}

/// Masks of sequences padded at the end, as u8: in each row of the last dimension ones and then zeros, at least a single 1.
/// They shrink to all ones: nothing padded.
///
/// ```
/// use candling::{prelude::*, strategies};
///
/// let mask = strategies::padding((1..5, 2..20)).sample(Seed::new(1))?;
/// assert_close!(mask.max(1)?, mask.narrow(1, 0, 1)?.squeeze(1)?); // the first position is always there
/// # candling::Result::Ok(())
/// ```
pub fn padding(dims: impl Into<Dims>) -> Tensors {
    Tensors::new(dims.into(), Values::Padding, DType::U8)
}

/// One-hot rows as f32: the dimensions are `rows` and then `classes`.
///
/// ```
/// use candling::{prelude::*, strategies};
///
/// let y = strategies::one_hot(4, 2..9).sample(Seed::new(1))?;
/// assert_dims!(y => [rows, 4]);
/// assert_close!(y.sum(1)?, Tensor::ones(y.dim(0)?, DType::F32, &Device::Cpu)?);
/// # candling::Result::Ok(())
/// ```
pub fn one_hot(classes: usize, rows: impl Into<Dims>) -> Tensors {
    Tensors::new(rows.into().and_last(classes), Values::OneHot(classes), DType::F32)
}

/// Rows of probabilities as f32, positive and with the sum 1 up to rounding: the dimensions are `rows` and then `classes`.
/// They are the softmax of standard normal logits, and shrink to the even distribution.
pub fn probabilities(classes: usize, rows: impl Into<Dims>) -> Tensors {
    Tensors::new(rows.into().and_last(classes), Values::Probabilities, DType::F32)
}

/// Several inputs with one number of rows, their first dimension: `[ids, mask]`, as a model with several inputs takes them.
pub fn inputs<const N: usize>(members: [Tensors; N]) -> Group<[Tensor; N]> {
    Group::new(members.into())
}

/// An input, or several, with targets: all have one number of rows, their first dimension. The ranges of rows are
/// intersected.
///
/// ```
/// use candling::{Batch, prelude::*, strategies};
/// use proptest::prelude::*;
///
/// let rows = 2..9;
/// proptest!(|(batch in strategies::batch(strategies::tensor((rows.clone(), 4)), strategies::labels(3, rows.clone())))| {
///     let batch = Batch::from(batch); // or `(x, y)` as it is: it is a pair of tensors
///     prop_assert!(batch.rows().is_some_and(|rows| (2..9).contains(&rows)));
/// });
/// ```
pub fn batch<I: Composed>(input: impl Into<Group<I>>, targets: Tensors) -> Group<(I, Tensor)> {
    let mut members = input.into().into_members();
    members.push(targets);
    Group::new(members)
}
