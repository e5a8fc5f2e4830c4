use std::{collections::BTreeSet, panic::Location};

use candle_core::Tensor;

use super::{
    leak::{Mixing, size},
    matrix::{Matrix, ranges},
    probes::{Along, Probes},
    wanted::{Wanted, wanted},
};
use crate::{
    Cause, Failure, Finding, Input, Result, Seed,
    check::{
        call,
        function::{self, Function},
    },
    verdict::count,
};

/// Every output position depends on the input positions that a mask names, on all of them, and on no other.
///
/// The general case of [`Causal`](super::Causal): prefix masks, encoders with blocks, adjacency matrices, feature groups.
///
/// # How
///
/// Each position of the input gets other values by itself, each row of the batch at another position, and what moves in the
/// output is compared with the mask. What must not move must stay the same to the last bit. What must move is tried
/// several times, in all rows, before it counts as ignored. A forbidden pair is tried again with all other rows unchanged,
/// so that rows that are mixed ([`Cause::BatchMixed`]) are not taken for positions that are.
///
/// With `dim = 0` the positions are the rows of the batch themselves. Of several inputs those that have a position for each of
/// the first one's are changed together, but for masks of minus infinity, as in [`Causal`](super::Causal).
///
/// # Errors
///
/// [`Violated`](crate::FailureKind::Violated) with the pairs: for one that must not depend [`Cause::FutureLeak`] where the
/// input comes after the output, [`Cause::NotInvariant`] where it does not or where the two are not positions of one
/// sequence, [`Cause::BatchMixed`] where they are rows; for one that must depend [`Cause::InputIgnored`]. `Vacuous` for an
/// empty input and one without other values; `NotRun` for a mask that does not fit, and where the closure
/// returns an error, NaN or another result in a second call.
///
/// # Examples
///
/// ```
/// use candling::{check::Dependence, prelude::*};
///
/// let x = Seed::new(1).normal("x", (2, 3, 4), DType::F32, &Device::Cpu)?;
/// let causal = Tensor::tril2(3, DType::U8, &Device::Cpu)?;
/// Dependence::new().check(|x: &Tensor| x.cumsum(1), &x, &causal)?;
///
/// let own = Tensor::eye(3, DType::U8, &Device::Cpu)?;
/// let failure = Dependence::new().check(|x: &Tensor| x.cumsum(1), &x, &own).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::NotInvariant));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct Dependence {
    dim: usize,
    output_dim: Option<usize>,
    allowed: Vec<Cause>,
    seed: Seed,
}

/// What a passed [`Dependence`] proved.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DependenceReport {
    /// The number of output positions.
    pub outputs: usize,
    /// The number of input positions.
    pub inputs: usize,
    /// Pairs that depend, as the mask says.
    pub dependent: usize,
    /// Pairs that do not.
    pub independent: usize,
    /// How often the function was called.
    pub calls: usize,
}

impl Default for Dependence {
    fn default() -> Self {
        Self::new()
    }
}

/// Draws of other values: for all positions, and for those that are not seen to move what they must.
const DRAWS: usize = 2;
const MORE_DRAWS: usize = 6;

/// So many pairs that must not depend are tried again by themselves.
const TRIED: usize = 8;

impl Dependence {
    /// Positions along dimension 1.
    pub fn new() -> Self {
        Self { dim: 1, output_dim: None, allowed: Vec::new(), seed: Seed::new(0) }
    }

    /// The dimension of positions, in the input and in the output; 0 are the rows. Default 1.
    pub fn dim(mut self, dim: usize) -> Self {
        self.dim = dim;
        self
    }

    /// The dimension of positions in the output, where it is another one than in the input.
    pub fn output_dim(mut self, dim: usize) -> Self {
        self.output_dim = Some(dim);
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

    /// Calls `f` on `x` and on inputs with one position changed. `mask` is `[outputs, inputs]`, of any dtype: what is not
    /// zero depends.
    ///
    /// # Errors
    ///
    /// See [`Dependence`].
    #[track_caller]
    pub fn check<I: Input>(
        &self,
        f: impl FnMut(&I) -> candle_core::Result<Tensor>,
        x: &I,
        mask: &Tensor,
    ) -> Result<DependenceReport> {
        let mut f = function::erased("the function", f);
        call::run("dependence", Location::caller(), || self.run(&mut f, x.members(), mask))
    }

    fn run(&self, f: &mut Function<'_>, x: &[Tensor], mask: &Tensor) -> Result<DependenceReport> {
        let along = Along { dim: self.dim, output_dim: self.output_dim.unwrap_or(self.dim) };
        function::input(x)?;
        let wanted = wanted(mask)?;
        let mut probes = Probes::new(f, x, along, self.seed)?;
        let (outputs, inputs) = (probes.outputs(), probes.inputs());
        if mask.dims() != [outputs, inputs] {
            let was = format!("of dims {:?}", mask.dims());
            let allowed = format!("[outputs, inputs], here [{outputs}, {inputs}]");
            return Err(Failure::bad_argument("mask", was, allowed));
        }
        probes.widen(inputs);
        let wanted = Wanted { inputs, depends: wanted };
        let (mut matrix, mixed) = measured(&mut probes, &wanted)?;
        insist(&mut probes, &wanted, &mut matrix)?;
        let findings = self.findings(&matrix, &wanted, mixed.as_ref(), outputs == inputs);
        if findings.is_empty() {
            let dependent = wanted.depends.iter().filter(|depends| **depends).count();
            let independent = outputs * inputs - dependent;
            let calls = probes.calls;
            return Ok(DependenceReport { outputs, inputs, dependent, independent, calls });
        }
        let (forbidden, missing) = wanted.broken(&matrix);
        let later = |pair: &&(usize, usize)| self.is_later(outputs == inputs, **pair);
        let (shown, does) = match findings[0].cause() {
            Cause::InputIgnored => (missing.first(), "does not depend"),
            Cause::FutureLeak => (forbidden.iter().find(later), "depends"),
            Cause::BatchMixed if mixed.is_some() => (None, ""),
            _ => (forbidden.iter().find(|pair| !later(pair)), "depends"),
        };
        let Some((t, s)) = shown.copied() else {
            return Err(Failure::violated(
                "outputs change with other rows of the batch; in a row by itself they depend on what they must",
            ).with_findings(findings));
        };
        let what = if self.dim == 0 { "row" } else { "position" };
        let mask = if does == "depends" { "excludes" } else { "includes" };
        let failure = Failure::violated(format!(
            "output {what} {t} {does} on input {what} {s}, which the mask {mask}",
        ))
        .fact("seen", wanted.picture(&matrix, (t, s)));
        Err(failure.with_findings(findings))
    }

    /// Whether the input comes after the output, where both are positions of one sequence.
    fn is_later(&self, one_sequence: bool, (output, input): (usize, usize)) -> bool {
        self.dim != 0 && one_sequence && input > output
    }

    fn findings(
        &self,
        matrix: &Matrix,
        wanted: &Wanted,
        mixed: Option<&Mixing>,
        one_sequence: bool,
    ) -> Vec<Finding> {
        let (forbidden, missing) = wanted.broken(matrix);
        let later = |pair: &(usize, usize)| self.is_later(one_sequence, *pair);
        let (future, other): (Vec<_>, Vec<_>) = forbidden.into_iter().partition(later);
        let what = if self.dim == 0 { "row" } else { "position" };
        let place = |(t, s): (usize, usize)| format!("output {t}, input {s}");
        let depends = |pairs: &[(usize, usize)], cause: Cause| {
            let first = *pairs.first()?;
            let evidence = format!(
                "other values there move it by {}; {} must not depend and {}",
                size(matrix.get(first.0, first.1)),
                count(pairs.len(), "pair"),
                if pairs.len() == 1 { "does" } else { "do" },
            );
            Some(Finding::confirmed(cause, evidence).at(place(first)))
        };
        let kind = if self.dim == 0 { Cause::BatchMixed } else { Cause::NotInvariant };
        let mut findings: Vec<Finding> = depends(&future, Cause::FutureLeak).into_iter().collect();
        findings.extend(depends(&other, kind).map(|finding| match kind {
            Cause::NotInvariant => {
                finding.advice_is("find the first layer through which the excluded input passes")
            }
            _ => finding,
        }));
        findings.extend(mixed.map(Mixing::finding));
        if let Some(first) = missing.first() {
            let outputs: BTreeSet<usize> = missing.iter().map(|(output, _)| *output).collect();
            let inputs: BTreeSet<usize> = missing.iter().map(|(_, input)| *input).collect();
            let silent = |input: &usize| (0..matrix.outputs()).all(|t| !matrix.depends(t, *input));
            let silent: Vec<usize> = inputs.iter().copied().filter(silent).collect();
            let evidence = match silent.is_empty() {
                false if silent.len() == inputs.len() => match silent.as_slice() {
                    [only] => format!("input {what} {only} moves no output at all"),
                    _ => format!("input {what}s {} move no output at all", ranges(&silent)),
                },
                _ => format!(
                    "{} must depend and {} not: output {what}s {}, input {what}s {}",
                    count(missing.len(), "pair"),
                    if missing.len() == 1 { "does" } else { "do" },
                    ranges(&outputs.into_iter().collect::<Vec<_>>()),
                    ranges(&inputs.into_iter().collect::<Vec<_>>()),
                ),
            };
            findings.push(Finding::confirmed(Cause::InputIgnored, evidence).at(place(*first)));
        }
        call::not_allowed(findings, &self.allowed)
    }
}

/// The matrix, and whether rows turned out to be mixed: then it was measured with one row changed at a time.
fn measured(probes: &mut Probes<'_, '_>, wanted: &Wanted) -> Result<(Matrix, Option<Mixing>)> {
    let matrix = probes.matrix(false, DRAWS)?;
    let (forbidden, _) = wanted.broken(&matrix);
    let step = forbidden.len().div_ceil(TRIED).max(1);
    for pair in forbidden.into_iter().step_by(step) {
        if let Some(mixing) = mixing(probes, pair)? {
            return match probes.narrow() {
                true => measured(probes, wanted),
                false => Ok((probes.matrix(true, DRAWS)?, Some(mixing))),
            };
        }
    }
    Ok((matrix, None))
}

/// Tries a pair again in one row after the other, with all others unchanged: whether another row moves, or none at all.
fn mixing(probes: &mut Probes<'_, '_>, (t, s): (usize, usize)) -> Result<Option<Mixing>> {
    let (rows, outputs) = (probes.rows(), probes.outputs());
    if rows == 1 {
        return Ok(None);
    }
    for (draw, row) in (0..DRAWS).flat_map(|draw| (0..rows).map(move |row| (draw, row))) {
        let moved = probes.moved_alone(draw, row, &|at| at == s)?;
        let of = |row: usize| &moved[row * outputs..(row + 1) * outputs];
        let moves = |other: &usize| *other != row && of(*other).iter().any(|by| *by > 0.0);
        if let Some(other) = (0..rows).find(moves) {
            return Ok(Some(Mixing { row: other, from: Some(row) }));
        }
        if of(row)[t] > 0.0 {
            return Ok(None);
        }
    }
    Ok(Some(Mixing { row: 0, from: None }))
}

/// Replaces positions that have not moved what they must in all rows at once, several times.
fn insist(probes: &mut Probes<'_, '_>, wanted: &Wanted, matrix: &mut Matrix) -> Result<()> {
    let outputs = probes.outputs();
    for input in 0..wanted.inputs {
        let missing = |matrix: &Matrix| {
            (0..outputs).any(|t| wanted.at(t, input) && !matrix.depends(t, input))
        };
        for draw in 0..MORE_DRAWS {
            if !missing(matrix) {
                break;
            }
            let moved = probes.moved(draw, &|_, at| at == input)?;
            for row in moved.chunks(outputs) {
                // What must not depend was measured by itself.
                let required = |(t, by): (usize, &f64)| if wanted.at(t, input) { *by } else { 0.0 };
                let row: Vec<f64> = row.iter().enumerate().map(required).collect();
                matrix.raise(input, &row);
            }
        }
    }
    Ok(())
}
