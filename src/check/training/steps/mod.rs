//! Single steps: the learner's own, and the user's.
