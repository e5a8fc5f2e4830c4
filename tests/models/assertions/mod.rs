//! The assertions on dependence and properties, on every model: the one place that says which ran on which, and what was
//! found.

#[cfg(test)]
mod checks;
mod dependence;
mod properties;
mod sequence;

use std::{error::Error, slice};

use candle_core::{Result, Tensor};
use candling::{Batch, Cause, Failure, Learner, Seed};

use super::{
    Model,
    build::{CPU, VOCABULARY},
    models,
};

const SEED: Seed = Seed::new(1);
const NO_MASK: &str = "Takes no mask of the padding";

/// What an assertion says of a model.
#[derive(Debug)]
pub(crate) enum Said {
    /// It passes, and this was tried.
    Holds(String),
    /// It fails, as it must: an encoder looks ahead.
    Meant(Cause),
    /// It fails, and a model should not.
    Defect(Failure),
    /// The model returns an error, which is no silent defect; its first line.
    Refuses(String),
    /// It does not apply, or was not run; why.
    Not(&'static str),
}

impl Said {
    /// `told` puts into words what was tried.
    fn of<R>(checked: candling::Result<R>, told: impl FnOnce(&R) -> String) -> Self {
        match checked {
            Ok(report) => Self::Holds(told(&report)),
            Err(failure) => Self::Defect(failure),
        }
    }
}

/// One assertion.
pub(crate) struct Assertion {
    pub(crate) name: &'static str,
    pub(crate) on: fn(&Model) -> candling::Result<Said>,
}

/// In the order of the page's columns.
pub(crate) const ASSERTIONS: &[Assertion] = &[
    Assertion { name: "batch", on: dependence::batch_independent },
    Assertion { name: "causal", on: dependence::causal },
    Assertion { name: "causal, masked", on: dependence::causal_with_a_mask },
    Assertion { name: "input", on: dependence::uses_input },
    Assertion { name: "cache", on: sequence::cache_consistent },
    Assertion { name: "cache, narrow window", on: sequence::cache_in_a_narrow_window },
    Assertion { name: "padding", on: sequence::padding_invariant },
    Assertion { name: "position", on: sequence::position_sensitive },
    Assertion { name: "deterministic", on: properties::deterministic },
    Assertion { name: "layout", on: properties::layout_invariant },
    Assertion { name: "nonlinear", on: properties::nonlinear },
    Assertion { name: "f32 = f64", on: properties::equal_in_f64 },
    Assertion { name: "f32 = bf16", on: properties::equal_in_bf16 },
];

/// What stands below the page's table, in the order of its first use.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    /// The number of a note.
    fn of(&mut self, text: &str) -> usize {
        let at = self.0.iter().position(|note| note == text).unwrap_or_else(|| {
            self.0.push(text.to_owned());
            self.0.len() - 1
        });
        at + 1
    }

    /// A cell of the page's table.
    fn cell(&mut self, said: &Said) -> String {
        match said {
            Said::Holds(tried) => tried.clone(),
            Said::Meant(cause) => format!("`{}`, as meant", cause.code()),
            Said::Defect(failure) => match failure.cause() {
                Some(cause) => format!("**`{}`**", cause.code()),
                None => format!("not run ({})", self.of(&error(failure))),
            },
            Said::Refuses(error) => {
                format!("error ({})", self.of(&format!("Returns an error: `{error}`.")))
            }
            Said::Not(reason) => format!("- ({})", self.of(&format!("{reason}."))),
        }
    }
}

/// The page's table, models by assertions, and under it the reasons where there is no verdict.
#[cfg_attr(
    test,
    allow(dead_code, reason = "the example writes the page, the tests compare with it")
)]
pub(crate) fn table() -> candling::Result<String> {
    let names = ASSERTIONS.iter().map(|assertion| assertion.name);
    let mut lines = vec![format!("| model | {} |", names.collect::<Vec<_>>().join(" | "))];
    lines.push(format!("|---|{}", "---|".repeat(ASSERTIONS.len())));
    let mut notes = Notes::default();
    for model in models() {
        let cells = ASSERTIONS.iter().map(|assertion| {
            let said = (assertion.on)(&model)?;
            Ok(notes.cell(&said))
        });
        let cells = cells.collect::<candling::Result<Vec<_>>>()?;
        lines.push(format!("| {} | {} |", model.name, cells.join(" | ")));
    }
    lines.push(String::new());
    lines.extend(notes.0.iter().enumerate().map(|(at, note)| format!("{}. {note}", at + 1)));
    Ok(lines.join("\n"))
}

/// The model on one tensor or two.
fn forward(learner: &Learner<'_>, input: &[Tensor]) -> Result<Tensor> {
    let output = match input {
        [only] => learner.forward(only),
        [first, second] => learner.forward(&[first.clone(), second.clone()]),
        _ => unreachable!("no model takes {} tensors", input.len()),
    };
    // The model's own error, without a learner's words around it.
    output.map_err(|failure| candle_core::Error::Msg(error(&failure)))
}

/// The first line of the error behind a failure, or of the failure.
fn error(failure: &Failure) -> String {
    let all = match failure.source() {
        Some(error) => error.to_string(),
        None => failure.text(),
    };
    all.lines().next().unwrap_or_default().to_owned()
}

/// `$options.check(f, input)` of an `f` that takes the members of an input of one tensor or two.
macro_rules! on_members {
    ($options:expr, $input:expr, $f:expr) => {
        match $input {
            [only] => $options.check(|x: &candle_core::Tensor| ($f)(std::slice::from_ref(x)), only),
            [first, second] => $options.check(
                |both: &[candle_core::Tensor; 2]| ($f)(both.as_slice()),
                &[first.clone(), second.clone()],
            ),
            more => unreachable!("no model takes {} tensors", more.len()),
        }
    };
}
use on_members;

/// Other values of the batch's kind, in so many rows.
fn rows_of(batch: &Batch, rows: usize) -> Result<Vec<Tensor>> {
    let member = |(at, x): (usize, &Tensor)| {
        let dims = [slice::from_ref(&rows), &x.dims()[1..]].concat();
        let label = format!("member {at}");
        match x.dtype().is_float() {
            true => SEED.normal(&label, dims, x.dtype(), CPU),
            false => SEED.tokens(&label, VOCABULARY, dims, CPU),
        }
    };
    batch.input().iter().enumerate().map(member).collect()
}

/// A source for each row of the target: assertions repeat rows.
fn beside(source: &Tensor, rows: usize) -> Result<Tensor> {
    let copies = rows.div_ceil(source.dim(0)?);
    Tensor::cat(&vec![source; copies], 0)?.narrow(0, 0, rows)?.contiguous()
}
