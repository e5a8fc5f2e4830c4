//! Positions and features: which output depends on which input.
