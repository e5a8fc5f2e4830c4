//! Assertions on data: what goes into a model, before any training.
