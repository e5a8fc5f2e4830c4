//! Sequence models: caches, padding, positions.
