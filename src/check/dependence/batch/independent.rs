use std::{cell::Cell, panic::Location};

use candle_core::Tensor;

use super::{
    mixed::Mixed,
    other_sizes::other_sizes,
    report::{BatchIndependentReport, GradientProof},
};
use crate::{
    Cause, Failure, Finding, Inputs, Result, Seed,
    check::{
        call,
        function::{self, Function},
    },
    diagnose::engine,
    inputs::judged,
    measure::{
        batch::{Backward, Flow, GradientLeak, Noticed, Probed},
        graph::Graph,
        noise::epsilon,
        perturb::Mix,
        rows,
        values::{is_floating, same_bits},
    },
    verdict::number,
};

/// No row of the output depends on another row of the input.
///
/// # How
///
/// *By replacement*, the verdict. Every row gets a code word of which half the bits are set, so that for any two words there
/// is a bit that the one has and the other has not (E. Sperner, 1928). For each bit, the rows that carry it are replaced by
/// other values of the same kind, and the output of all others must stay the same in every bit (but for the sign of a zero).
/// Two last calls, with other values yet, replace a half of the rows and then the other; in large batches two neighbours share a
/// word, and these calls are what tells them apart. That tests every ordered pair of rows in about log2 N + 5 calls of the function, with no
/// threshold: a batch of one size runs the same kernels, and a row's numbers never meet another's. Works for token ids and
/// several inputs, for outputs of any dtype, and behind operations that candle does not differentiate.
///
/// One thing does meet: rows that are grouped by their values (the experts of a mixture) run in groups, and the width of a
/// group decides which kernel multiplies it. Changes of a few last places are rounding, then, where the gradient, which does
/// not round to zero, arrives at every row of the input and never at another's; [`BatchIndependentReport::rounding`] says
/// that it was so. Without a gradient (ids) declare it: `.allow(Cause::BatchMixed)`.
///
/// *By gradient*, for floats: two backward passes with powers of two as the rows' weights. A power of two scales a float
/// exactly, so a row that depends on itself alone has the same gradient in both, bit for bit, after dividing by its weights.
/// What does not is decided by masks: from a part of the rows, the gradient at all others must be exactly zero. This sees
/// dependences that no replaced value happened to show, and those of the backward pass alone. Where no gradient arrives
/// the report says so; it is no failure.
///
/// *By other sizes*: the first row alone, the last row alone, and three rows must have the output that they have in the
/// batch. Other sizes run other kernels, so this is judged beyond rounding: 1e-4 of the largest output (f32), and where that
/// is passed, 64 times what moving every input by its last bit does besides. Half precision rounds to 1/32 (f16) or a quarter
/// (bf16) of it, in a model that returns f32, too.
///
/// A row that depends on another is traced to it by halving, and small batches are drawn as a matrix. Where an experiment
/// tells how rows are mixed (a softmax or a mean over dimension 0, batch norm in training mode, a reshape where a transpose
/// was meant, shifted rows), the message says which.
///
/// The function is called a dozen to twenty times; what it changes by being called (running statistics in training mode) stays
/// changed.
///
/// # Errors
///
/// - [`Violated`](crate::FailureKind::Violated) with [`Cause::BatchMixed`], after [`Cause::NormStatsOfBatch`] where the
///   batch's own mean or scale is taken off the rows; with [`Cause::BatchSizeFixed`] where the function does not take
///   another batch size or answers otherwise in it.
/// - `Vacuous` for a batch of one row, and where no replacement changes the output.
/// - `NotRun` where the output has another number of rows than the input, holds NaN, or differs between two calls, and
///   where the closure returns an error.
///
/// # Examples
///
/// ```
/// use candling::{check::BatchIndependent, prelude::*};
///
/// let x = Seed::new(1).normal("x", (8, 5, 4), DType::F32, &Device::Cpu)?;
/// let report = BatchIndependent::new().check(|x: &Tensor| x.mean(1)?.tanh(), &x)?;
/// assert_eq!((report.rows, report.sizes), (8, vec![1, 3]));
///
/// // dimension 0 where dimension 1 was meant:
/// let softmax = |x: &Tensor| candle_nn::ops::softmax(x, 0);
/// let failure = BatchIndependent::new().check(softmax, &x).unwrap_err();
/// assert_eq!(failure.cause(), Some(Cause::BatchMixed));
/// assert!(failure.text().contains("a softmax over dimension 0"));
/// # candling::Result::Ok(())
/// ```
///
/// *Source:* charting dependences between rows by backpropagation is A. Karpathy's advice in
/// [*A Recipe for Training Neural Networks*](https://karpathy.github.io/2019/04/25/recipe/) (2019), for one row; the code
/// words that make it all rows are E. Sperner's, *Ein Satz über Untermengen einer endlichen Menge*, Mathematische
/// Zeitschrift 27 (1928).
#[derive(Clone, Debug)]
#[must_use = "an options type does nothing until `check` is called"]
pub struct BatchIndependent {
    seed: Seed,
    allowed: Vec<Cause>,
}

impl Default for BatchIndependent {
    fn default() -> Self {
        Self { seed: Seed::new(0), allowed: Vec::new() }
    }
}

impl BatchIndependent {
    /// Seed 0, and no cause allowed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Draws the other values that rows are replaced by. Default: `Seed::new(0)`.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }

    /// Does not fail for this cause: it is intended here (batch norm in training mode, a contrastive loss). What was found
    /// is in the report.
    pub fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    /// Replaces rows of `x` and looks at all others of `f(x)`.
    ///
    /// # Errors
    ///
    /// See [`BatchIndependent`].
    #[track_caller]
    pub fn check<X: Inputs>(
        &self,
        f: impl FnMut(&X::Input) -> candle_core::Result<Tensor>,
        x: &X,
    ) -> Result<BatchIndependentReport> {
        let location = Location::caller();
        let mut f = function::with_graph("the function", f);
        call::run("batch_independent", location, || judged(x, &mut |x| self.run(&mut f, x)))
    }

    pub(in crate::check) fn run(
        &self,
        f: &mut Function<'_>,
        x: &[Tensor],
    ) -> Result<BatchIndependentReport> {
        let calls = Cell::new(0);
        let mut counted = |x: &[Tensor]| {
            calls.set(calls.get() + 1);
            f(x)
        };
        let f: &mut Function<'_> = &mut counted;
        function::input(x)?;
        if x[0].dims()[0] == 1 {
            return Err(Failure::vacuous("the batch has one row: there is nothing to mix")
                .help("give it at least 2 rows, better 8 or more"));
        }
        let (mut probed, base) = probed(f, x, self.seed)?;
        let noticed = probed.all_pairs();
        if !matches!(&noticed, Ok(noticed) if noticed.affected().is_empty()) {
            still_the_same(&mut probed)?;
        }
        let noticed = noticed?;
        let mut report = BatchIndependentReport {
            rows: probed.rows(),
            forwards: 0,
            unmoved: (0..probed.rows()).filter(|row| !noticed.moved[*row]).collect(),
            gradient: GradientProof::NotTried,
            sizes: Vec::new(),
            rounding: 0.0,
            allowed: Vec::new(),
        };
        if is_rounding(&mut probed, &noticed, self.seed)? {
            report.rounding = noticed.share;
        } else if !noticed.affected().is_empty() {
            let mixed = Mixed::traced(&mut probed, &noticed, x[0].dims())?;
            if !mixed.is_intended(&self.allowed) {
                return Err(mixed.failure(&mut probed)?);
            }
            report.allowed = mixed.findings();
            // In a batch of another size mixed rows have other outputs. That there is one is not too much to ask.
            let sizes = other_sizes(&mut probed)?;
            let refused = call::not_allowed(sizes.refused, &self.allowed);
            if !refused.is_empty() {
                let headline = headline(&refused, &[], report.rows);
                return Err(Failure::violated(headline).with_findings(refused));
            }
            report.sizes = sizes.same;
            report.forwards = calls.get();
            return Ok(report);
        }
        if report.unmoved.len() == report.rows {
            return Err(nothing_moved(&probed, &noticed)?);
        }

        let mut findings = Vec::new();
        let sizes = other_sizes(&mut probed)?;
        report.sizes = sizes.same;
        findings.extend(sizes.refused);
        findings.extend(sizes.differs);
        let (gradient, leaks) = gradient(f, &base, self.seed)?;
        (report.gradient, report.forwards) = (gradient, calls.get());
        findings.extend(leaks.iter().map(below_a_bit));

        let kept = call::not_allowed(findings.clone(), &self.allowed);
        if kept.is_empty() {
            report.allowed = findings;
            return Ok(report);
        }
        Err(Failure::violated(headline(&kept, &leaks, report.rows))
            .fact(
                "by replacement",
                format!("all {} rows are independent of each other", report.rows),
            )
            .with_findings(kept))
    }
}

/// A change of so many last places, as a share of the output, may be rounding.
const ROUNDINGS: f64 = 16.0;

/// Whether rows change by rounding alone, and none depends on the values of another: rows that are grouped by their values
/// (experts, lengths) are multiplied in groups, and the width of a group decides which kernel does it.
///
/// The gradient tells this from a small leak: it does not round to zero. Where a part of the input has no gradient, or it
/// does not arrive at every row, nothing is told.
fn is_rounding(probed: &mut Probed<'_, '_>, noticed: &Noticed, seed: Seed) -> Result<bool> {
    let Some(epsilon) = epsilon(probed.own().dtype()) else { return Ok(false) };
    let base = probed.base()?;
    if noticed.affected().is_empty()
        || noticed.share > ROUNDINGS * epsilon
        || base.iter().any(|member| !is_floating(member.dtype()))
    {
        return Ok(false);
    }
    let rows = probed.rows();
    let backward = Backward::of(&mut |x: &[Tensor]| probed.graph(x), &base, seed)?;
    Ok(match backward {
        Some(mut backward) => {
            matches!(backward.flow()?, Flow::Apart { reached, .. } if reached == rows)
        }
        None => false,
    })
}

/// The function beside its result on the batch; and the batch.
///
/// It is called once there: a function that changes its mind would do so in the rows that a probe leaves alone, and every
/// row is left alone by about half of the probes.
fn probed<'p, 'f>(
    f: &'p mut Function<'f>,
    x: &[Tensor],
    seed: Seed,
) -> Result<(Probed<'p, 'f>, Vec<Tensor>)> {
    let draw = |label: &str| -> Result<Mix> {
        let others = function::alternatives(x, seed.split(label))?;
        Ok(Mix::new(x, &others, 0)?)
    };
    let draws = [draw("first draw")?, draw("second draw")?];
    let base = draws[0].base()?;
    let own = function::rows_once(&mut |x: &[Tensor]| Ok(f(x)?.detach()), &base, 1)?;
    Ok((Probed::new(f, draws, own)?, base))
}

/// The proof by replacement alone, for benches: whether no row depends on another, and all moved.
pub fn rows_by_replacement(
    f: impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
    x: &Tensor,
) -> Result<bool> {
    let mut f = function::with_graph("the function", f);
    let (mut probed, _) = probed(&mut f, std::slice::from_ref(x), Seed::new(0))?;
    let noticed = probed.all_pairs()?;
    Ok(noticed.affected().is_empty() && noticed.moved.iter().all(|moved| *moved))
}

/// The proof by gradient alone, for benches: whether every row has a gradient, and none from another.
pub fn rows_by_gradient(
    f: impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
    x: &Tensor,
) -> Result<bool> {
    let mut f = function::with_graph("the function", f);
    let (proof, _) = gradient(&mut f, std::slice::from_ref(x), Seed::new(0))?;
    Ok(matches!(proof, GradientProof::Proved { rows, .. } if rows == x.dim(0)?))
}

/// The function gives the same again after all the probes: what was seen is the rows' doing, and neither state's nor
/// chance's.
fn still_the_same(probed: &mut Probed<'_, '_>) -> Result<()> {
    let (second, third) = (probed.again()?, probed.again()?);
    if !same_bits(&second, &third)? {
        let base = probed.base()?;
        return Err(function::unsteady(&mut |x| probed.call(x), &base, &second, &third)?);
    }
    match same_bits(&second, probed.own())? {
        true => Ok(()),
        false => Err(Failure::not_run(
            "after other inputs the function gives another result on the same one: what depends on what cannot be told",
        )
        .finding(Finding::confirmed(
            Cause::StateKept,
            "two calls in a row agree with each other, and not with the first, before calls on other inputs",
        ))),
    }
}

fn nothing_moved(probed: &Probed<'_, '_>, noticed: &Noticed) -> Result<Failure> {
    let rows = noticed.moved.len();
    let failure = Failure::vacuous(format!(
        "replacing rows of the input changes nothing in the output, so none of its {rows} rows can depend on another",
    ));
    let constant = !rows::differ(probed.own())?;
    let (cause, evidence) = match constant {
        true => (Cause::OutputConstant, "all rows of the output are the same, and stay so"),
        false => (Cause::InputIgnored, "every bit of the output stays as it was"),
    };
    Ok(failure.finding(match is_floating(probed.own().dtype()) {
        true => Finding::confirmed(cause, evidence),
        // A class that wins everywhere may be the right answer.
        false => Finding::possible(cause, evidence),
    }))
}

/// The verdict of the backward pass, and what reaches other rows.
fn gradient(
    f: &mut Function<'_>,
    base: &[Tensor],
    seed: Seed,
) -> Result<(GradientProof, Vec<GradientLeak>)> {
    let Some(mut backward) = Backward::of(f, base, seed)? else {
        return Ok((GradientProof::NotFloat, Vec::new()));
    };
    Ok(match backward.flow()? {
        Flow::Apart { passes, reached } => {
            (GradientProof::Proved { passes, rows: reached }, Vec::new())
        }
        Flow::None => (GradientProof::Cut, Vec::new()),
        Flow::NotFinite => (GradientProof::NotFinite, Vec::new()),
        Flow::Refused(failure) => (GradientProof::Refused(failure.source_text()), Vec::new()),
        Flow::Mixed(leaks) => {
            // The function itself was just proved to keep rows apart. A backward pass of candle's that is wrong by
            // itself, on the values it had, is not the model's fault.
            match engine::defects(&Graph::of(backward.output(), &[]), false)?.first() {
                Some(defect) => (GradientProof::Engine(defect.operation.clone()), Vec::new()),
                None => (GradientProof::NotTried, leaks),
            }
        }
    })
}

fn below_a_bit(leak: &GradientLeak) -> Finding {
    let GradientLeak { output, input, size, own } = leak;
    Finding::confirmed(
        Cause::BatchMixed,
        format!(
            "its gradient reaches row {input} of the input, with {} where that row's own output sends {}; replacing that \
             row changed no bit of it, so the dependence is below rounding, or in the backward pass alone",
            number(*size),
            number(*own),
        ),
    )
    .at(format!("row {output} of the output"))
}

fn headline(findings: &[Finding], leaks: &[GradientLeak], rows: usize) -> String {
    if findings[0].cause() == Cause::BatchMixed {
        let GradientLeak { output, input, .. } = leaks[0];
        return format!(
            "the gradient of row {output} of the output reaches row {input} of the input"
        );
    }
    let place = findings[0].place().unwrap_or("another size");
    match findings[0].evidence().starts_with("the output of row") {
        true => format!("the output of a row is another in {place} than in the batch of {rows}"),
        false => format!("the function works on the batch of {rows} rows, and not on {place}"),
    }
}
