//! Judgement: one property a file.
