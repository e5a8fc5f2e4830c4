//! Properties: transformations, equivalence, sensitivity, determinism.
