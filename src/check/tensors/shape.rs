use std::panic::Location;

use candle_core::Tensor;

use super::bracket::{Mark, bracket};
use crate::{Cause, Failure, Finding, Result, check::call, verdict::count};

/// A tensor has the dimensions it should.
///
/// The pattern is anything that says dimensions: `(2, 3)`, `&[2, 3]`, `x.dims()`, `x.shape()`, a `Vec`, a single
/// number, `()` for a scalar; `[Some(2), None]` where a dimension is free, which `assert_shape!` writes `[2, _]`.
///
/// # Failures
///
/// Another number of dimensions, or another size of one: [`Cause::ShapeMismatch`].
///
/// ```
/// use candling::{check::Shape, prelude::*};
///
/// let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
/// Shape::new().check(&x, (2, 3))?;
/// Shape::new().check(&x, [Some(2), None])?;
///
/// let failure = Shape::new().check(&x, (2, 4)).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::ShapeMismatch));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Shape {}

/// What a passed [`Shape`] saw.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct ShapeReport {
    /// The tensor's dimensions: what stands where the pattern is free.
    pub dims: Vec<usize>,
}

/// Dimensions that a tensor should have; `None` is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapePattern(Vec<Option<usize>>);

impl Shape {
    /// There is nothing to set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds the dimensions of `tensor` against the pattern.
    ///
    /// # Errors
    ///
    /// A [`Failure`] as the type's documentation lists them.
    #[track_caller]
    pub fn check(&self, tensor: &Tensor, expected: impl Into<ShapePattern>) -> Result<ShapeReport> {
        let location = Location::caller();
        call::signed("shape", location, judge(tensor.dims(), &expected.into().0))
    }
}

fn judge(dims: &[usize], pattern: &[Option<usize>]) -> Result<ShapeReport> {
    let wrong: Vec<(usize, usize)> = pattern
        .iter()
        .enumerate()
        .filter_map(|(dim, size)| size.map(|size| (dim, size)))
        .filter(|(dim, size)| dims.get(*dim) != Some(size))
        .collect();
    let same_rank = dims.len() == pattern.len();
    if same_rank && wrong.is_empty() {
        return Ok(ShapeReport { dims: dims.to_vec() });
    }
    let (headline, evidence) = if !same_rank {
        (
            format!(
                "the tensor has {}, expected {}",
                count(dims.len(), "dimension"),
                pattern.len()
            ),
            format!("rank {} is not rank {}", dims.len(), pattern.len()),
        )
    } else {
        let parts: Vec<String> = wrong
            .iter()
            .map(|(dim, size)| format!("dimension {dim} is {}, expected {size}", dims[*dim]))
            .collect();
        (parts.join("; "), disagreement(dims, pattern))
    };
    let marks: Vec<Mark> = wrong
        .iter()
        .filter(|_| same_rank)
        .map(|(dim, _)| Mark { dim: *dim, note: String::new() })
        .collect();
    let actual: Vec<String> = dims.iter().map(usize::to_string).collect();
    let expected: Vec<String> =
        pattern.iter().map(|size| size.map_or("_".to_owned(), |size| size.to_string())).collect();
    Err(Failure::violated(headline)
        .fact("actual", bracket(&actual, &marks))
        .fact("expected", bracket(&expected, &[]))
        .finding(Finding::confirmed(Cause::ShapeMismatch, evidence)))
}

/// What kind of mistake it looks like.
fn disagreement(dims: &[usize], pattern: &[Option<usize>]) -> String {
    let exact: Option<Vec<usize>> = pattern.iter().copied().collect();
    let Some(exact) = exact else {
        return "sizes differ where the pattern fixes them".to_owned();
    };
    let sorted = |mut dims: Vec<usize>| {
        dims.sort_unstable();
        dims
    };
    if sorted(dims.to_vec()) == sorted(exact.clone()) {
        "the same dimensions in another order".to_owned()
    } else if dims.iter().product::<usize>() == exact.iter().product::<usize>() {
        "as many elements, in another shape".to_owned()
    } else {
        "sizes differ".to_owned()
    }
}

impl From<&[Option<usize>]> for ShapePattern {
    fn from(dims: &[Option<usize>]) -> Self {
        Self(dims.to_vec())
    }
}

impl<const N: usize> From<[Option<usize>; N]> for ShapePattern {
    fn from(dims: [Option<usize>; N]) -> Self {
        Self(dims.to_vec())
    }
}

impl From<&[usize]> for ShapePattern {
    fn from(dims: &[usize]) -> Self {
        Self(dims.iter().copied().map(Some).collect())
    }
}

impl<const N: usize> From<[usize; N]> for ShapePattern {
    fn from(dims: [usize; N]) -> Self {
        Self::from(&dims[..])
    }
}

impl<const N: usize> From<&[usize; N]> for ShapePattern {
    fn from(dims: &[usize; N]) -> Self {
        Self::from(&dims[..])
    }
}

impl From<Vec<usize>> for ShapePattern {
    fn from(dims: Vec<usize>) -> Self {
        Self::from(&dims[..])
    }
}

impl From<&Vec<usize>> for ShapePattern {
    fn from(dims: &Vec<usize>) -> Self {
        Self::from(&dims[..])
    }
}

impl From<&candle_core::Shape> for ShapePattern {
    fn from(shape: &candle_core::Shape) -> Self {
        Self::from(shape.dims())
    }
}

impl From<candle_core::Shape> for ShapePattern {
    fn from(shape: candle_core::Shape) -> Self {
        Self::from(shape.dims())
    }
}

impl From<usize> for ShapePattern {
    fn from(dim: usize) -> Self {
        Self::from([dim])
    }
}

impl From<()> for ShapePattern {
    fn from((): ()) -> Self {
        Self(Vec::new())
    }
}

macro_rules! from_tuple {
    ($($name:ident: $type:ty),*) => {
        impl From<($($type,)*)> for ShapePattern {
            fn from(($($name,)*): ($($type,)*)) -> Self {
                Self::from([$($name),*])
            }
        }
    };
}

from_tuple!(a: usize);
from_tuple!(a: usize, b: usize);
from_tuple!(a: usize, b: usize, c: usize);
from_tuple!(a: usize, b: usize, c: usize, d: usize);
from_tuple!(a: usize, b: usize, c: usize, d: usize, e: usize);
from_tuple!(a: usize, b: usize, c: usize, d: usize, e: usize, f: usize);
