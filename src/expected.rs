//! What a loss is before training, by theory.
