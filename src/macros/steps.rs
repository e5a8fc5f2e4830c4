//! Assertions on single training steps.
