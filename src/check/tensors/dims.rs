use std::{ops::Index, panic::Location};

use candle_core::Tensor;

use super::bracket::{Mark, bracket};
use crate::{Cause, Failure, Finding, Result, check::call, verdict::count};

/// The dimensions of several tensors fit together: a name has one size wherever it stands.
///
/// [`assert_dims!`](crate::assert_dims) is the form to write; this one takes the same as data: for each tensor its name
/// in the text, the tensor, and a [`Dim`] for each dimension.
///
/// # Failures
///
/// - a name with two sizes, an exact dimension of another size, another number of dimensions:
///   [`Cause::ShapeMismatch`], with the dimensions of every tensor and marks under those that clash;
/// - no tensor, or only patterns that fit everything, is [`Vacuous`](crate::FailureKind::Vacuous);
/// - more than one [`Dim::Rest`] for one tensor: the check does not run.
///
/// ```
/// use candling::{check::{Dim, Dims}, prelude::*};
///
/// let x = Tensor::zeros((8, 16, 64), DType::F32, &Device::Cpu)?;
/// let mask = Tensor::zeros((8, 12), DType::U8, &Device::Cpu)?;
/// let (batch, time) = (Dim::Named("batch"), Dim::Named("time"));
/// let dims = Dims::new().check(&[("x", &x, &[batch, time, Dim::Exact(64)])])?;
/// assert_eq!(dims["time"], 16);
///
/// let both: [(&str, &Tensor, &[Dim]); 2] = [("x", &x, &[batch, time, Dim::Any]), ("mask", &mask, &[batch, time])];
/// let failure = Dims::new().check(&both).unwrap_err();
/// assert_eq!(failure.headline(), "`time` is 16 in x and 12 in mask");
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Dims {}

/// One dimension of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim<'a> {
    /// Any size, but the same wherever the name stands.
    Named(&'a str),
    /// This size.
    Exact(usize),
    /// Any size.
    Any,
    /// Any number of dimensions of any size; at most one for a tensor.
    Rest,
}

/// The sizes the names stand for: `dims["batch"]`.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct DimsReport {
    /// Each name with its size, in the order they were first met.
    pub bindings: Vec<(String, usize)>,
}

impl DimsReport {
    /// The size a name stands for; `None` where no pattern has it.
    pub fn get(&self, name: &str) -> Option<usize> {
        self.bindings.iter().find_map(|(known, size)| (known == name).then_some(*size))
    }
}

impl Index<&str> for DimsReport {
    type Output = usize;

    /// # Panics
    ///
    /// Where no pattern has the name: the message lists those there are.
    #[track_caller]
    fn index(&self, name: &str) -> &usize {
        match self.bindings.iter().find(|(known, _)| known == name) {
            Some((_, size)) => size,
            None => {
                let known: Vec<&str> = self.bindings.iter().map(|(n, _)| n.as_str()).collect();
                panic!("no dimension is named `{name}`; there are: {}", known.join(", "))
            }
        }
    }
}

impl Dims {
    /// There is nothing to set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds the dimensions of every tensor against its pattern, and the names against each other.
    ///
    /// # Errors
    ///
    /// A [`Failure`] as the type's documentation lists them.
    #[track_caller]
    pub fn check(&self, tensors: &[(&str, &Tensor, &[Dim<'_>])]) -> Result<DimsReport> {
        let location = Location::caller();
        call::signed("dims", location, judge(tensors))
    }
}

/// A tensor's line in the text.
struct Row {
    name: String,
    dims: Vec<String>,
    marks: Vec<Mark>,
    /// What is wrong with the line as a whole.
    remark: Option<String>,
}

/// What is known of a name: its size, and the tensor it was met in first.
struct Binding {
    name: String,
    size: usize,
    tensor: String,
}

fn judge(tensors: &[(&str, &Tensor, &[Dim<'_>])]) -> Result<DimsReport> {
    for (name, _, pattern) in tensors {
        if pattern.iter().filter(|dim| **dim == Dim::Rest).count() > 1 {
            return Err(Failure::bad_argument(
                "pattern",
                format_args!("{} for {name}", written(pattern)),
                "at most one `..` for a tensor",
            ));
        }
    }
    if tensors.iter().all(|(_, _, pattern)| **pattern == [Dim::Rest]) {
        return Err(Failure::vacuous("no dimension is named or fixed: every shape fits")
            .help("name the dimensions that must agree, or write their sizes"));
    }
    let mut bindings: Vec<Binding> = Vec::new();
    let mut problems = Vec::new();
    let rows: Vec<Row> = tensors
        .iter()
        .map(|(name, tensor, pattern)| {
            let name = name.trim_start_matches('&').trim();
            hold(name, tensor.dims(), pattern, &mut bindings, &mut problems)
        })
        .collect();
    if problems.is_empty() {
        let bindings = bindings.into_iter().map(|b| (b.name, b.size)).collect();
        return Ok(DimsReport { bindings });
    }
    let mut problems = problems.into_iter();
    let headline = problems.next().unwrap_or_default();
    let mut failure = Failure::violated(&headline);
    for row in rows {
        let text = bracket(&row.dims, &row.marks);
        let text = match row.remark {
            Some(remark) => format!("{text}  {remark}"),
            None => text,
        };
        failure = failure.fact(row.name, text);
    }
    let further = problems.map(|problem| Finding::confirmed(Cause::ShapeMismatch, problem));
    Err(failure.finding(Finding::confirmed(Cause::ShapeMismatch, headline)).with_findings(further))
}

/// One tensor against its pattern; what does not fit is added to `problems`.
fn hold(
    tensor: &str,
    dims: &[usize],
    pattern: &[Dim<'_>],
    bindings: &mut Vec<Binding>,
    problems: &mut Vec<String>,
) -> Row {
    let mut row = Row {
        name: tensor.to_owned(),
        dims: dims.iter().map(usize::to_string).collect(),
        marks: Vec::new(),
        remark: None,
    };
    let rest = pattern.iter().position(|dim| *dim == Dim::Rest);
    let fixed = pattern.len() - usize::from(rest.is_some());
    let fits = if rest.is_some() { dims.len() >= fixed } else { dims.len() == fixed };
    if !fits {
        let has = count(dims.len(), "dimension");
        let least = if rest.is_some() { "at least " } else { "" };
        problems.push(format!(
            "{tensor} has {has}, its pattern {} takes {least}{fixed}",
            written(pattern)
        ));
        row.remark = Some(format!("does not fit {}", written(pattern)));
        return row;
    }
    // Behind a `..` the pattern is counted from the end.
    let at = |place: usize| match rest {
        Some(rest) if place > rest => dims.len() - (pattern.len() - place),
        _ => place,
    };
    for (place, wanted) in pattern.iter().enumerate() {
        let dim = at(place);
        match *wanted {
            Dim::Any | Dim::Rest => {}
            Dim::Exact(size) => {
                if dims[dim] != size {
                    problems.push(format!(
                        "dimension {dim} of {tensor} is {}, expected {size}",
                        dims[dim]
                    ));
                    row.marks.push(Mark { dim, note: format!("expected {size}") });
                }
            }
            Dim::Named(name) => {
                row.dims[dim] = format!("{name}={}", dims[dim]);
                match bindings.iter().find(|binding| binding.name == name) {
                    None => bindings.push(Binding {
                        name: name.to_owned(),
                        size: dims[dim],
                        tensor: tensor.to_owned(),
                    }),
                    Some(known) if known.size != dims[dim] => {
                        let place = match known.tensor.as_str() {
                            same if same == tensor => String::new(),
                            other => format!(" in {other}"),
                        };
                        problems.push(format!(
                            "`{name}` is {}{place} and {} in {tensor}",
                            known.size, dims[dim]
                        ));
                        row.marks
                            .push(Mark { dim, note: format!("{name} is {}{place}", known.size) });
                    }
                    Some(_) => {}
                }
            }
        }
    }
    row
}

/// A pattern as the macro writes it.
fn written(pattern: &[Dim<'_>]) -> String {
    let dims: Vec<String> = pattern
        .iter()
        .map(|dim| match dim {
            Dim::Named(name) => (*name).to_owned(),
            Dim::Exact(size) => size.to_string(),
            Dim::Any => "_".to_owned(),
            Dim::Rest => "..".to_owned(),
        })
        .collect();
    bracket(&dims, &[])
}
