//! Assertions on sequence models.
