//! Facts: numbers read off tensors and trainings. No threshold, no message, no macro lives here.

pub(crate) mod accuracy;
pub(crate) mod effect;
pub(crate) mod formula;
pub(crate) mod noise;
pub(crate) mod rows;
pub(crate) mod stack;
pub(crate) mod training;
pub(crate) mod values;
