//! `f(T(x))` beside `f(x)`, or beside `T'(f(x))`.

use candle_core::Tensor;

use super::{
    blind::refuse_blind,
    rounding::{self, Allowed, coarser, in_one_dtype},
    transform::Transform,
};
use crate::{
    Cause, Failure, Finding, Result, Seed, Tolerance,
    check::{
        call::not_allowed,
        function::{self, Function, dims_of},
        tensors::{difference, kind_of},
    },
    measure::{
        compare,
        noise::Noise,
        values::{same_bits, to_f64_vec},
    },
    verdict::number,
};

/// The options that both symmetries have.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) tolerance: Option<Tolerance>,
    pub(super) seed: Seed,
    pub(super) allowed: Vec<Cause>,
}

impl Default for Options {
    fn default() -> Self {
        Self { tolerance: None, seed: Seed::new(0), allowed: Vec::new() }
    }
}

/// What was seen of all transformations.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) transformations: usize,
    pub(super) exact: usize,
    pub(super) difference: f64,
    /// The largest tolerance that was applied.
    allowed: Allowed,
}

impl Seen {
    pub(super) fn bounds(&self) -> (f64, f64) {
        (self.allowed.bounds.relative, self.allowed.bounds.absolute)
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symmetry {
    Invariant,
    Equivariant,
}

impl Symmetry {
    fn cause(self) -> Cause {
        match self {
            Self::Invariant => Cause::NotInvariant,
            Self::Equivariant => Cause::NotEquivariant,
        }
    }

    fn headline(self, called: &str) -> String {
        match self {
            Self::Invariant => format!("the output changes under {called}"),
            Self::Equivariant => format!("the output does not follow {called}"),
        }
    }

    /// What the two sides of the comparison are.
    fn sides(self, transform: &Transform<'_>) -> [&'static str; 2] {
        match self {
            Self::Invariant => ["the output for the transformed input", "the output for the input"],
            Self::Equivariant if transform.has_output() => {
                ["the output for the transformed input", "the output, transformed in its own way"]
            }
            Self::Equivariant => ["the output for the transformed input", "the transformed output"],
        }
    }

    pub(super) fn judge(
        self,
        f: &mut Function<'_>,
        x: &[Tensor],
        transforms: Vec<Transform<'_>>,
        options: &Options,
    ) -> Result<Seen> {
        if let Some(tolerance) = &options.tolerance {
            tolerance.validate()?;
        }
        function::values(x)?;
        let base = function::steady(f, x)?;
        let mut seen =
            Seen { transformations: 0, exact: 0, difference: 0.0, allowed: Allowed::nothing() };
        for mut transform in transforms {
            self.judge_one(f, x, &base, &mut transform, options, &mut seen)?;
        }
        refuse_blind("the function", f, x, &base, &seen.allowed, options.seed)?;
        Ok(seen)
    }

    fn judge_one(
        self,
        f: &mut Function<'_>,
        x: &[Tensor],
        base: &Tensor,
        transform: &mut Transform<'_>,
        options: &Options,
        seen: &mut Seen,
    ) -> Result<()> {
        if self == Self::Invariant && transform.has_output() {
            return Err(Failure::bad_argument(
                "transform",
                "a pair with a transformation of the output",
                "a transformation of the input alone",
            )
            .help("an invariant output stays as it is; where it should follow, use `assert_equivariant!`"));
        }
        let moved = transform.apply(x)?;
        let called = transform.called();
        let actual = f(&moved).map_err(|failure| {
            failure.fact("input", format!("{} after {called}", dims_of(&moved)))
        })?;
        let expected = match self {
            Self::Invariant => base.clone(),
            Self::Equivariant => self.followed(transform, base)?,
        };
        seen.transformations += 1;
        if actual.dims() != expected.dims() {
            return self.not_of_one_shape(transform, &moved, &actual, &expected, options);
        }
        if actual.dtype() == expected.dtype() && same_bits(&actual, &expected)? {
            seen.exact += 1;
            return Ok(());
        }
        let allowed = match options.tolerance {
            Some(tolerance) => Allowed::given(tolerance, expected.dtype()),
            None => {
                let noise = self.noise(f, x, base, &moved, &actual, transform)?;
                Allowed::measured(&noise, &moved, actual.elem_count())
            }
        };
        let (actual, expected) = in_one_dtype(&actual, &expected)?;
        let found = compare::compare(&actual, &expected, allowed.bounds)?;
        seen.difference = seen.difference.max(found.max_absolute);
        if allowed.bounds.absolute >= seen.allowed.bounds.absolute {
            seen.allowed = allowed.clone();
        }
        let Some(mismatches) = &found.mismatches else { return Ok(()) };
        let told = difference::tell(&actual, &expected, allowed.bounds, found.elements, mismatches);
        let [ours, theirs] = self.sides(transform);
        let findings = told.findings().iter().map(|finding| match finding.cause() {
            Cause::ValuesDiffer => of_another_cause(finding, self.cause()),
            _ => finding.clone(),
        });
        let findings = not_allowed(findings.collect(), &options.allowed);
        if findings.is_empty() {
            return Ok(());
        }
        let values = to_f64_vec(&expected)?;
        let size = values.iter().map(|v| v.abs()).filter(|v| v.is_finite()).fold(0.0, f64::max);
        let sizes = format!(
            "differences up to {}, where expected values reach {}",
            number(found.max_absolute),
            number(size),
        );
        Err(Failure::violated(format!("{}: {}", self.headline(&called), told.headline()))
            .fact("input", dims_of(x))
            .fact("actual", ours)
            .fact("expected", theirs)
            .fact("sizes", sizes)
            .facts_of(&told)
            .fact("noise", allowed.reason)
            .with_findings(findings))
    }

    /// The output transformed, twice the same: a transformation that draws anew cannot be followed.
    fn followed(self, transform: &mut Transform<'_>, base: &Tensor) -> Result<Tensor> {
        let expected = transform.apply_to_output(base)?;
        let again = transform.apply_to_output(base)?;
        match same_bits(&expected, &again)? {
            true => Ok(expected),
            false => Err(Failure::not_run(format!(
                "{} is not the same twice: the output cannot be compared with it",
                transform.called(),
            ))
            .help("draw outside the closure (`let order = ..`), and use the draw in it")),
        }
    }

    /// The noise on both sides.
    fn noise(
        self,
        f: &mut Function<'_>,
        x: &[Tensor],
        base: &Tensor,
        moved: &[Tensor],
        actual: &Tensor,
        transform: &mut Transform<'_>,
    ) -> Result<[Noise; 2]> {
        let coarsest = coarser(actual, base);
        let ours = rounding::of(f, moved, actual, coarsest)?;
        let theirs = match self {
            Self::Invariant => rounding::of(f, x, base, coarsest)?,
            Self::Equivariant => {
                let expected = transform.apply_to_output(base)?;
                let mut followed =
                    |x: &[Tensor]| f(x).and_then(|output| transform.apply_to_output(&output));
                rounding::of(&mut followed, x, &expected, coarsest)?
            }
        };
        Ok([ours, theirs])
    }

    fn not_of_one_shape(
        self,
        transform: &Transform<'_>,
        moved: &[Tensor],
        actual: &Tensor,
        expected: &Tensor,
        options: &Options,
    ) -> Result<()> {
        if options.allowed.contains(&Cause::ShapeMismatch) {
            return Ok(());
        }
        let [ours, theirs] = self.sides(transform);
        let evidence = format!("{:?} is not {:?}", actual.dims(), expected.dims());
        let failure = Failure::violated(format!(
            "the output's shape is another under {}: {:?}, expected {:?}",
            transform.called(),
            actual.dims(),
            expected.dims(),
        ));
        let advice = match self {
            Self::Invariant => {
                "an output that follows the input's shape is not invariant: pool it, or assert equivariance"
            }
            Self::Equivariant => "say what happens to the output, as a second transformation",
        };
        Err(failure
            .fact("input", format!("{} after {}", dims_of(moved), transform.called()))
            .fact("actual", format!("{ours}, {}", kind_of(actual)))
            .fact("expected", format!("{theirs}, {}", kind_of(expected)))
            .finding(Finding::confirmed(Cause::ShapeMismatch, evidence).advice_is(advice)))
    }
}

/// The same evidence at the same place; the advice is the other cause's own.
fn of_another_cause(finding: &Finding, cause: Cause) -> Finding {
    let other = Finding::confirmed(cause, finding.evidence());
    match finding.place() {
        Some(place) => other.at(place),
        None => other,
    }
}
