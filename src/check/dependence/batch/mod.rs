//! Rows of a batch: none depends on another.
