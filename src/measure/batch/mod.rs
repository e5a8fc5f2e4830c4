//! What the rows of a batch have to do with each other.

mod gradient;
mod replaced;
mod sizes;

use candle_core::Tensor;

use crate::Result;

pub(crate) use gradient::{Backward, Flow, GradientLeak};
pub(crate) use replaced::{Column, Noticed, Probed};
pub(crate) use sizes::{HALF, Outcome, Part, coarsest_format, moved_by_last_bits, part};

/// A function of an input's members. What it returns keeps its graph.
pub(crate) type Function<'f> = dyn FnMut(&[Tensor]) -> Result<Tensor> + 'f;
