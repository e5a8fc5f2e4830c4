//! Facts: what is so, in numbers. No threshold, no message, no macro lives here.

pub(crate) mod accuracy;
pub(crate) mod activity;
pub(crate) mod affine;
pub(crate) mod backward;
pub(crate) mod batch;
pub(crate) mod blind_loss;
pub(crate) mod compare;
pub(crate) mod effect;
pub(crate) mod elsewhere;
pub(crate) mod formula;
pub(crate) mod gradients;
pub(crate) mod graph;
pub(crate) mod losses;
pub(crate) mod noise;
pub(crate) mod perturb;
pub(crate) mod rows;
pub(crate) mod scan;
pub(crate) mod slope;
pub(crate) mod stack;
pub(crate) mod training;
pub(crate) mod travel;
pub(crate) mod values;
pub(crate) mod views;
