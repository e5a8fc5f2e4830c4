use std::panic::Location;

use candle_core::Tensor;

use super::{
    features::{self, Group, Points},
    matrix::ranges,
};
use crate::{
    Cause, Failure, Finding, Inputs, Result, Seed,
    check::{
        call,
        function::{self, Function, dims_of},
    },
    inputs::judged,
    verdict::{all, count},
};

/// Every feature of the input moves the output.
///
/// A feature is an index of a dimension: a column, a channel, a position, with all rows and all else that it has. Every
/// dimension but the batch is judged by itself, so an image's channels, its lines and its columns are: the last line, too,
/// that a convolution of stride 2 without padding leaves out. A tensor of rank 1 is one feature. What the function returns may have any shape.
///
/// # How
///
/// A gradient that is not zero shows at once that a feature is used. The others, and all of an integer input, get other
/// values in all rows, at the input itself and at others of its kind, 32 rows at least: a feature that a unit which is off
/// hides in one row counts as used, and so does one that is chosen by a hard routing. What then leaves the output the same to
/// the last bit is ignored.
///
/// # Errors
///
/// [`Violated`](crate::FailureKind::Violated) with [`Cause::InputIgnored`] and the features, for each tensor and dimension;
/// with [`Cause::OutputConstant`] where nothing moves the output. `Vacuous` for an empty input, and one without other values
/// (all zeros of an integer dtype). `NotRun` for a dimension or an index that the input does not have, and where the
/// closure returns an error, NaN or another result in a second call.
///
/// # Examples
///
/// ```
/// use candling::{check::UsesInput, prelude::*};
///
/// let x = Seed::new(1).normal("x", (4, 5), DType::F32, &Device::Cpu)?;
/// let report = UsesInput::new().check(|x: &Tensor| x.sum(1), &x)?;
/// assert_eq!(report.features, 5);
///
/// let first_three = |x: &Tensor| x.narrow(1, 0, 3)?.sum(1);
/// let failure = UsesInput::new().check(first_three, &x).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::InputIgnored));
/// UsesInput::new().ignore((1, [3, 4])).check(first_three, &x)?;
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct UsesInput {
    dims: Option<Vec<usize>>,
    ignored: Vec<(usize, Vec<usize>)>,
    ignored_inputs: Vec<usize>,
    may_cut_ends: bool,
    allowed: Vec<Cause>,
    seed: Seed,
}

/// What a passed [`UsesInput`] saw.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UsesInputReport {
    /// The features that were judged, over all tensors and dimensions.
    pub features: usize,
    /// Those of which the gradient showed that they are used; the others moved the output.
    pub by_gradient: usize,
    /// The tensors of the input that could not be judged, by number: all zeros of an integer dtype, of which no other value
    /// is known.
    pub not_judged: Vec<usize>,
    /// How often the function was called.
    pub calls: usize,
}

impl Default for UsesInput {
    fn default() -> Self {
        Self::new()
    }
}

impl UsesInput {
    /// Every index of every dimension but the batch.
    pub fn new() -> Self {
        Self {
            dims: None,
            ignored: Vec::new(),
            ignored_inputs: Vec::new(),
            may_cut_ends: false,
            allowed: Vec::new(),
            seed: Seed::new(0),
        }
    }

    /// The dimensions whose indices are features. Default: every one but the batch, each by itself.
    pub fn dims(mut self, dims: impl IntoIterator<Item = usize>) -> Self {
        self.dims = Some(dims.into_iter().collect());
        self
    }

    /// A dimension and indices of it that may be ignored: `(1, [3, 4])`, `(2, 0..3)`. May be given more than once. Of several
    /// inputs it holds for every one that has them.
    pub fn ignore(mut self, (dim, indices): (usize, impl IntoIterator<Item = usize>)) -> Self {
        self.ignored.push((dim, indices.into_iter().collect()));
        self
    }

    /// A tensor of several, by number, that may be ignored as a whole or in part. May be given more than once.
    pub fn ignore_input(mut self, input: usize) -> Self {
        self.ignored_inputs.push(input);
        self
    }

    /// Does not fail for this cause: it is intended here.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Which other values are drawn. Default `Seed::new(0)`.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// The last lines of an image, or steps of time, may fall off: a convolution without padding that moves in steps leaves
    /// out what does not fill a step, and its model is none the worse.
    pub(in crate::check) fn may_cut_ends(mut self) -> Self {
        self.may_cut_ends = true;
        self
    }

    /// Calls `f` on `x`, takes a gradient, and calls it on inputs with some features changed.
    ///
    /// # Errors
    ///
    /// See [`UsesInput`].
    #[track_caller]
    pub fn check<X: Inputs>(
        &self,
        f: impl FnMut(&X::Input) -> candle_core::Result<Tensor>,
        x: &X,
    ) -> Result<UsesInputReport> {
        let mut f = function::with_graph("the function", f);
        call::run("uses_input", Location::caller(), || judged(x, &mut |x| self.run(&mut f, x)))
    }

    pub(in crate::check) fn run(
        &self,
        f: &mut Function<'_>,
        x: &[Tensor],
    ) -> Result<UsesInputReport> {
        function::input(x)?;
        let groups = self.groups(x)?;
        let output = {
            let mut f = |x: &[Tensor]| Ok(f(x)?.detach());
            function::steady(&mut f, x)?
        };
        let gradients = features::gradients(f, x, self.seed)?;
        let mut f = |x: &[Tensor]| Ok(f(x)?.detach());
        let mut points = Points::new(&mut f, x, output, self.seed)?;
        let not_judged = points.without_alternative();
        let (mut judged, mut by_gradient) = (0, 0);
        let mut silent = Vec::new();
        for group in groups {
            let mut open = group.indices.clone();
            if let Some(gradient) = &gradients[group.member] {
                open = features::without_gradient(&group, x[group.member].dims(), gradient);
            }
            by_gradient += group.indices.len() - open.len();
            if not_judged.contains(&group.member) {
                continue;
            }
            judged += group.indices.len();
            let mut found = points.silent(&Group { indices: open, ..group.clone() })?;
            if self.may_cut_ends && group.is_end(&found) {
                found.clear();
            }
            silent.push((group, found));
        }
        let calls = points.calls + usize::from(gradients.iter().any(Option::is_some));
        if silent.is_empty() {
            return Err(Failure::vacuous(
                "every tensor that is judged is all zeros of an integer dtype: no other value of it is known",
            ));
        }
        let tried = format!(
            "other values in all rows, at the input itself and at {} more of its kind",
            points.most() - 1,
        );
        let failure = self.judged(&silent, x).map(|failure| failure.fact("tried", tried));
        let report = UsesInputReport { features: judged, by_gradient, not_judged, calls };
        failure.map_or(Ok(report), Err)
    }

    /// What is judged: the indices of each dimension of each tensor.
    fn groups(&self, x: &[Tensor]) -> Result<Vec<Group>> {
        self.arguments(x)?;
        let mut groups = Vec::new();
        for (member, tensor) in x.iter().enumerate() {
            if self.ignored_inputs.contains(&member) {
                continue;
            }
            if tensor.rank() == 1 && self.dims.is_none() {
                groups.push(Group { member, dim: None, indices: vec![0], of: 1 });
                continue;
            }
            let chosen = |dim: &usize| match &self.dims {
                Some(dims) => dims.contains(dim),
                None => *dim > 0,
            };
            for dim in (0..tensor.rank()).filter(chosen) {
                let of = tensor.dims()[dim];
                let ignored = |index: &usize| {
                    self.ignored.iter().any(|(at, indices)| *at == dim && indices.contains(index))
                };
                let indices: Vec<usize> = (0..of).filter(|index| !ignored(index)).collect();
                if !indices.is_empty() {
                    groups.push(Group { member, dim: Some(dim), indices, of });
                }
            }
        }
        if groups.is_empty() {
            return Err(Failure::vacuous(
                "all of the input may be ignored: nothing is left to judge",
            ));
        }
        Ok(groups)
    }

    fn arguments(&self, x: &[Tensor]) -> Result<()> {
        let rank = x.iter().map(Tensor::rank).max().unwrap_or(0);
        let chosen = self.dims.iter().flatten();
        if let Some(dim) = chosen.clone().find(|dim| **dim >= rank) {
            let was = format!("{dim} for an input of {}", dims_of(x));
            return Err(Failure::bad_argument("dims", was, "dimensions of the input"));
        }
        if self.dims.is_some() && chosen.count() == 0 {
            return Err(Failure::bad_argument("dims", "empty", "dimensions of the input"));
        }
        for (dim, indices) in &self.ignored {
            let len = x.iter().filter_map(|tensor| tensor.dims().get(*dim)).max();
            let beyond = indices.iter().find(|index| len.is_none_or(|len| *index >= len));
            if let Some(index) = beyond.copied().or(len.is_none().then_some(0)) {
                let was = format!("index {index} of dim {dim} for an input of {}", dims_of(x));
                return Err(Failure::bad_argument(
                    "ignore",
                    was,
                    "a dimension and indices of the input",
                ));
            }
        }
        match self.ignored_inputs.iter().find(|input| **input >= x.len()) {
            None => Ok(()),
            Some(input) => {
                let was = format!("{input} for an input of {}", count(x.len(), "tensor"));
                Err(Failure::bad_argument("ignore_input", was, "the number of one of them, from 0"))
            }
        }
    }

    fn judged(&self, silent: &[(Group, Vec<usize>)], x: &[Tensor]) -> Option<Failure> {
        let whole = |(group, silent): &&(Group, Vec<usize>)| silent.len() == group.indices.len();
        let several = x.len() > 1;
        let nothing = silent.iter().all(|group| whole(&group));
        let mut findings = Vec::new();
        if nothing {
            let features: usize = silent.iter().map(|(group, _)| group.indices.len()).sum();
            let evidence = format!(
                "the same to the last bit with other values at {}",
                all(features, "feature"),
            );
            findings.push(Finding::confirmed(Cause::OutputConstant, evidence));
        }
        let (mut told, mut partly) = (Vec::new(), Vec::new());
        for (group, indices) in silent.iter().filter(|(_, indices)| !indices.is_empty()) {
            if nothing || told.contains(&group.member) {
                continue;
            }
            // A tensor that is ignored is so along each dimension.
            let member = || silent.iter().filter(|(other, _)| other.member == group.member);
            if member().all(|group| whole(&group)) {
                told.push(group.member);
                let evidence = "other values there leave the output the same to the last bit";
                let place = format!("tensor {} of the input", group.member);
                findings.push(Finding::confirmed(Cause::InputIgnored, evidence).at(place));
                continue;
            }
            let dim = group.dim.unwrap_or(0);
            let (place, of) = match several {
                true => (
                    format!("tensor {} of the input, dim {dim}", group.member),
                    format!("dim {dim} of tensor {}", group.member),
                ),
                false => (format!("dim {dim}"), format!("dim {dim}")),
            };
            let (some, all) = (indices.len(), count(group.of, "index"));
            let (moves, does) = if some == 1 { ("moves", "does") } else { ("move", "do") };
            let which = ranges(indices);
            partly.push(format!("{some} of {all} of {of} {does} not move the output: {which}"));
            let evidence = format!("{some} of {all} {moves} nothing: {which}");
            let finding = Finding::confirmed(Cause::InputIgnored, evidence).at(place);
            findings.push(match group.is_end(indices) {
                true => finding.advice_is(format!(
                    "where a convolution or a pooling moves in steps, what does not fill the last step falls off: pad the \
                     input, or allow it, `ignore = ({dim}, {}..{})`; else look for a slice that ends too early",
                    indices[0], group.of,
                )),
                false => finding,
            });
        }
        let findings = call::not_allowed(findings, &self.allowed);
        let first = findings.first()?;
        let headline = match first.cause() {
            Cause::OutputConstant => "the output does not depend on the input at all".to_owned(),
            _ if told.is_empty() => match partly.as_slice() {
                [only] => only.clone(),
                _ => format!("parts of {} dimensions do not move the output", partly.len()),
            },
            _ => {
                let told: Vec<String> = told.iter().map(usize::to_string).collect();
                format!("the output does not depend on tensor {} of the input", told.join(" and "))
            }
        };
        Some(Failure::violated(headline).with_findings(findings))
    }
}
