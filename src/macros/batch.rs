//! Assertions on the rows of a batch.
