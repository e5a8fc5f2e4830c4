use std::{cell::RefCell, panic::Location};

use candle_core::Tensor;

use super::{
    cuts::{self, Rule, Uses},
    leak,
    probes::{Along, Probes},
    rounding::is_rounding,
};
use crate::{
    Cause, Failure, Finding, Inputs, Result, Seed,
    check::{
        call,
        function::{self, Function},
    },
    inputs::judged,
    verdict::count,
};

/// The output at a position depends on the input up to that position, and does depend on what came before.
///
/// # How
///
/// A sequence is cut at every position: what comes after the cut gets other values, and the outputs up to the cut must stay
/// the same to the last bit. Every row of the batch is cut at another position, so a call of `n` rows tries `n` cuts; a
/// batch of less than 8 rows is repeated, where the function takes that. With `T` positions these are `(T - 1) / 8` calls,
/// and a proof for every pair of positions. Beyond 1,024 positions some of the cuts are tried:
/// [`CausalReport::reach`] says how far ahead a leak must look to be seen for certain.
///
/// Nothing is tolerated, because nothing has to be: a masked score is exactly 0 behind a softmax. A leak is tried again
/// with all other rows unchanged; where it is gone, rows of the batch are mixed ([`Cause::BatchMixed`]), and the future does
/// not leak. Then each position is replaced by itself, which gives the pairs, their number and the pattern: no mask, a soft
/// or an inverted one, one that is off by one, heads split without a transpose.
///
/// One exception: positions that are grouped by their values (routed to experts) are multiplied in groups, and the width of
/// a group decides which kernel does it. Moves of a few last places are rounding, then, where the gradient sees all that the
/// output depends on and crosses no cut; [`CausalReport::rounding`] says so. For ids, which have no gradient, give the
/// function the embedded tokens.
///
/// Other values are drawn from those that are there (token ids stay in the vocabulary, see [`seed`](Self::seed)). Of
/// several inputs those that have a position for each of the first one's are changed together; a memory of the same
/// length, which a decoder may see all of, belongs into the closure. A mask of minus infinity beside other inputs stays as it
/// is: its other values would leave rows of scores without one, and make NaN.
///
/// # Errors
///
/// [`Violated`](crate::FailureKind::Violated): [`Cause::FutureLeak`]; [`Cause::NotInvariant`] for an output that depends on
/// what lies before its [`window`](Self::window); [`Cause::BatchMixed`]; [`Cause::InputIgnored`] where no output depends on
/// an earlier position. `Vacuous` for one position, an empty input, a window as long as the input, and an output
/// that does not depend on the input. `NotRun` where the closure returns an error, NaN or another result in a second call,
/// and where the output does not have a position for each of the input.
///
/// # Examples
///
/// ```
/// use candling::{check::Causal, prelude::*};
///
/// let x = Seed::new(1).normal("x", (2, 6, 3), DType::F32, &Device::Cpu)?;
/// let report = Causal::new().check(|x: &Tensor| x.cumsum(1), &x)?;
/// assert_eq!((report.positions, report.reach), (6, 1));
///
/// let reversed = |x: &Tensor| x.flip(&[1])?.cumsum(1)?.contiguous()?.flip(&[1]);
/// let failure = Causal::new().check(reversed, &x).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::FutureLeak));
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct Causal {
    dim: usize,
    output_dim: Option<usize>,
    strict: bool,
    window: Option<usize>,
    allowed: Vec<Cause>,
    seed: Seed,
}

/// What a passed [`Causal`] proved.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CausalReport {
    /// The number of positions.
    pub positions: usize,
    /// The number of places where the sequence was cut.
    pub cuts: usize,
    /// Every leak from so many positions ahead, or further, would have been seen: 1 where every cut was tried.
    pub reach: usize,
    /// The rows of a call: those of the input, or those of its copies.
    pub rows: usize,
    /// How often the function was called.
    pub calls: usize,
    /// By which share of its size an output moved across a cut, where only rounding did that: positions that are grouped by
    /// their values are multiplied in groups, and no gradient crosses the cut. 0 where every bit stayed.
    pub rounding: f64,
}

impl Default for Causal {
    fn default() -> Self {
        Self::new()
    }
}

impl Causal {
    /// Positions along dimension 1; an output may depend on its own position and all earlier ones.
    pub fn new() -> Self {
        Self {
            dim: 1,
            output_dim: None,
            strict: false,
            window: None,
            allowed: Vec::new(),
            seed: Seed::new(0),
        }
    }

    /// The dimension of positions, in the input and in the output. Default 1.
    pub fn dim(mut self, dim: usize) -> Self {
        self.dim = dim;
        self
    }

    /// The dimension of positions in the output, where it is another one than in the input (`[batch, channels, time]` to
    /// `[batch, time, classes]`).
    pub fn output_dim(mut self, dim: usize) -> Self {
        self.output_dim = Some(dim);
        self
    }

    /// The output at a position may not depend on the input at that very position either, only on earlier ones: for models
    /// that shift their input themselves. Default `false`.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// The output at position `t` may depend on positions `t - window + 1` to `t` only. Of a model of `n` layers that each
    /// see `k` positions this is `n * (k - 1) + 1`. Default: all earlier positions.
    pub fn window(mut self, positions: usize) -> Self {
        self.window = Some(positions);
        self
    }

    /// Does not fail for this cause: it is intended here (`Cause::InputIgnored` for a model that looks at one position at a
    /// time).
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Which other values are drawn. Default `Seed::new(0)`.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// Calls `f` on `x` and on inputs whose later positions have other values.
    ///
    /// # Errors
    ///
    /// See [`Causal`].
    #[track_caller]
    pub fn check<X: Inputs>(
        &self,
        f: impl FnMut(&X::Input) -> candle_core::Result<Tensor>,
        x: &X,
    ) -> Result<CausalReport> {
        let mut f = function::with_graph("the function", f);
        call::run("causal", Location::caller(), || judged(x, &mut |x| self.run(&mut f, x)))
    }

    pub(in crate::check) fn run(&self, f: &mut Function<'_>, x: &[Tensor]) -> Result<CausalReport> {
        let (rule, along) = self.arguments(x)?;
        let f = RefCell::new(f);
        let mut detached = |x: &[Tensor]| Ok((f.borrow_mut())(x)?.detach());
        let mut probes = Probes::new(&mut detached, x, along, self.seed)?;
        probes.must_pair()?;
        let positions = probes.inputs();
        self.enough(positions)?;
        let (cuts, reach) = rule.cuts(positions);
        probes.widen(cuts.len());
        let mut crossings = cuts::crossings(&mut probes, rule, &cuts)?;
        let mut rounding = 0.0;
        if is_rounding(
            &mut |x: &[Tensor]| (f.borrow_mut())(x),
            &mut probes,
            along,
            rule,
            &crossings,
        )? {
            rounding = crossings.drain(..).map(|crossing| crossing.share).fold(0.0, f64::max);
        }
        let mut explained = leak::explained(&mut probes, rule, &crossings)?;
        if explained.mixing.is_some() && probes.narrow() {
            crossings = cuts::crossings(&mut probes, rule, &cuts)?;
            explained = leak::explained(&mut probes, rule, &crossings)?;
        }
        let uses = cuts::uses(&mut probes, rule)?;
        if crossings.is_empty() && uses == Uses::Nothing {
            return Err(Failure::vacuous(format!(
                "the output does not depend on the input: other values at {} leave it the same to the last bit",
                crate::verdict::all(positions, "position"),
            ))
            .finding(Finding::possible(
                Cause::InputIgnored,
                "every position was replaced, several times",
            )));
        }
        let mut findings = explained.findings(rule);
        if uses == Uses::NoPast {
            let evidence =
                "other values at all earlier positions leave every output the same to the last bit";
            let half = match probes.is_half() {
                true => {
                    "; in half precision a small share of the past is lost beside a large residual: try f32"
                }
                false => "",
            };
            findings.push(Finding::confirmed(Cause::InputIgnored, evidence).advice_is(format!(
                "check that the mask does not hide the past, and that the input is longer than the steps in which the model \
                 looks back{half}",
            )));
        }
        let findings = call::not_allowed(findings, &self.allowed);
        let Some(first) = findings.first() else {
            return Ok(CausalReport {
                positions,
                cuts: cuts.len(),
                reach,
                rows: probes.rows(),
                calls: probes.calls,
                rounding,
            });
        };
        let failure = match first.cause() {
            Cause::InputIgnored => Failure::violated("no output depends on an earlier position"),
            cause => explained.failure(rule, cause),
        };
        Err(failure.with_findings(findings))
    }

    fn arguments(&self, x: &[Tensor]) -> Result<(Rule, Along)> {
        let along = Along { dim: self.dim, output_dim: self.output_dim.unwrap_or(self.dim) };
        let after = "a dimension after the batch, 1 or more";
        for (name, dim) in [("dim", along.dim), ("output_dim", along.output_dim)] {
            if dim == 0 {
                return Err(Failure::bad_argument(name, dim, after));
            }
        }
        let least = 1 + usize::from(self.strict);
        if let Some(window) = self.window.filter(|window| *window < least) {
            let allowed = match self.strict {
                true => "2 positions or more where the own one is not seen",
                false => "1 position or more",
            };
            return Err(Failure::bad_argument("window", window, allowed));
        }
        function::input(x)?;
        // Known before the function is called, where the input says it.
        let first = x.iter().find(|tensor| tensor.rank() > self.dim);
        if let Some(positions) = first.map(|tensor| tensor.dims()[self.dim]) {
            self.enough(positions)?;
        }
        Ok((Rule { strict: self.strict, window: self.window }, along))
    }

    fn enough(&self, positions: usize) -> Result<()> {
        if positions < 2 {
            return Err(Failure::vacuous(format!(
                "the input has {} along dimension {}: there is no future to leak",
                count(positions, "position"),
                self.dim,
            )));
        }
        match self.window {
            Some(window) if window >= positions => Err(Failure::vacuous(format!(
                "a window of {} holds the whole input of {positions}: nothing lies before it",
                count(window, "position"),
            ))
            .help("give a longer input, or leave `window` out")),
            _ => Ok(()),
        }
    }
}
