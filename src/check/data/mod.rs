//! Properties of the data, before a model sees it.

mod disjoint;
mod labels;
mod normalized;
mod pipeline;

pub use disjoint::{Disjoint, DisjointReport};
pub use labels::{Labels, LabelsReport};
pub use normalized::{ChannelMoments, Normalized, NormalizedReport, Scheme};
pub use pipeline::{Pipeline, PipelineReport};
