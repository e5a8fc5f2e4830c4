//! The questions, part by part.

mod data;
mod dependence;
mod gradients;
mod loss;
mod modes;
mod properties;
mod start;
mod tensors;
mod training;

use std::panic::{AssertUnwindSafe, catch_unwind};

use candling::{Cause, Result};

use super::digits::Digits;

/// A question, the assertion that asks it, and a bug that it is about.
pub(crate) struct Item {
    pub(crate) assertion: &'static str,
    pub(crate) question: &'static str,
    pub(crate) bug: &'static str,
    pub(crate) cause: Cause,
    /// The test, on what is right or on the same with the bug. It panics where the assertion does not hold.
    pub(crate) test: fn(&Digits, bool) -> Result<()>,
}

impl Item {
    /// What the test says: nothing where it passes, else what the assertion's panic or the error says.
    pub(crate) fn says(&self, digits: &Digits, bug: bool) -> Option<String> {
        match catch_unwind(AssertUnwindSafe(|| (self.test)(digits, bug))) {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => Some(format!("the test itself failed: {failure}")),
            Err(panic) => Some(match panic.downcast::<String>() {
                Ok(text) => *text,
                Err(_) => "a panic without a text".to_owned(),
            }),
        }
    }

    /// Whether the text of a failed assertion names the item's cause first.
    pub(crate) fn is_named_in(&self, text: &str) -> bool {
        let findings = text.lines().map(str::trim_start);
        let mut findings = findings.filter_map(|line| {
            line.strip_prefix("confirmed").or_else(|| line.strip_prefix("possible"))
        });
        findings
            .next()
            .is_some_and(|rest| rest.split_whitespace().next() == Some(self.cause.code()))
    }
}

/// Every part of the checklist, in the order one goes through it.
pub(crate) const PARTS: &[(&str, &[Item])] = &[
    ("What goes in", data::ITEMS),
    ("Shapes and values", tensors::ITEMS),
    ("Before the first step", start::ITEMS),
    ("The loss", loss::ITEMS),
    ("What depends on what", dependence::ITEMS),
    ("What must not change, and what must", properties::ITEMS),
    ("Gradients", gradients::ITEMS),
    ("Training", training::ITEMS),
    ("Training and evaluation", modes::ITEMS),
];
