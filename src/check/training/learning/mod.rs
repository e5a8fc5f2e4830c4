//! What a training learns, and whether it can be repeated.
