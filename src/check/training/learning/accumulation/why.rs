//! Why micro-batches do not add up.

use candle_core::Tensor;

use super::{
    Cut, percent,
    split::{Off, Split, numbers},
    weighting::Weighting,
};
use crate::{
    Cause, Failure, FailureKind, Finding, Result,
    check::{BatchIndependent, function::guarded},
    measure::micro_batches::{Gradient, Micro},
};

/// The weighting that was asked for does not hold, and another does.
pub(super) fn other_weighting(cut: &Cut, asked: &Weighting, found: &Weighting) -> Result<Failure> {
    let (at, off) = cut.worst(asked)?;
    let split = &cut.splits[at];
    let due = match found {
        Weighting::OfTheLoss => split.fitted(&cut.whole, &cut.whole.gradient).unwrap_or_default(),
        found => found.of(&split.parts)?,
    };
    let evidence = format!("{found} they add up, {asked} they do not");
    let (cause, help) = match (asked, found) {
        (_, Weighting::Sum) => (
            Cause::LossReduction,
            "the loss sums over its rows: add the gradients as they are, or divide the loss by the rows of the whole batch",
        ),
        (Weighting::Sum, _) => (
            Cause::LossReduction,
            "the loss is a mean: multiply each micro-batch's loss by its share",
        ),
        (_, Weighting::Rows) => (
            Cause::AccumulationDiffers,
            "multiply each micro-batch's loss by `part_rows / batch_rows`",
        ),
        (_, Weighting::Ignoring(_)) => (
            Cause::AccumulationDiffers,
            "sum over the tokens of each micro-batch, and divide by the number of tokens that count in the whole batch",
        ),
        _ => (
            Cause::AccumulationDiffers,
            "sum over each micro-batch, and divide by what counts in the whole batch",
        ),
    };
    Ok(off_by(cut, split, off, asked)
        .fact("weights due", format!("{}, {found}", numbers(&due)))
        .fact("weights asked for", format!("{}, {asked}", numbers(&asked.of(&split.parts)?)))
        .fact("rounding", format!("allows {}", percent(off.allowed)))
        .finding(Finding::confirmed(cause, evidence))
        .help(help))
}

/// No weighting holds.
pub(super) fn none_holds(
    micro: &mut Micro<'_, '_>,
    cut: &Cut,
    allowed: &[Cause],
) -> Result<Failure> {
    let (at, off) = cut.worst(&Weighting::Rows)?;
    let (_, summed) = cut.worst(&Weighting::Sum)?;
    let failure = off_by(cut, &cut.splits[at], off, &Weighting::Rows)
        .fact("as a sum", off_in(cut, summed))
        .fact("rounding", format!("allows {}", percent(off.allowed)))
        .fact("parts", format!("{} rows", cut.named()));
    if let Some(penalty) = counted_once_a_part(cut) {
        return Ok(failure.finding(penalty));
    }
    // Rows that depend on each other explain it: allowing that allows this.
    Ok(match mixed(micro, allowed)? {
        Mixed::Yes(findings) => failure.with_findings(findings),
        Mixed::No => failure
            .finding(Finding::confirmed(
                Cause::AccumulationDiffers,
                "no row of the output depends on another row of the input, so it is the loss: what a row adds to it depends \
                 on the rows beside it",
            ))
            .finding(Finding::possible(
                Cause::LossReduction,
                "a mean of means, a ratio of two sums, or a root of a mean would do that; so would a contrastive loss",
            )),
        Mixed::Unknown => failure.finding(Finding::confirmed(
            Cause::AccumulationDiffers,
            "no weights of the parts give the gradient of the batch",
        )),
    })
}

fn off_by(cut: &Cut, split: &Split, off: Off, weighting: &Weighting) -> Failure {
    Failure::violated(format!(
        "micro-batches do not add up to the batch: weighted {weighting}, `{}` is {} off in {}",
        cut.whole.names[off.variable],
        percent(off.share),
        split.name(),
    ))
}

fn off_in(cut: &Cut, off: Off) -> String {
    format!("`{}` is {} off", cut.whole.names[off.variable], percent(off.share))
}

/// A sum over rows with a term that no row owns: each part has it, so what is too much is the same vector once a part.
fn counted_once_a_part(cut: &Cut) -> Option<Finding> {
    let mut terms = Vec::new();
    for split in &cut.splits {
        let parts = split.gradients();
        let ones = vec![1.0; parts.len()];
        let sum = Gradient::weighted(&parts, &ones);
        let more = 1.0 / (parts.len() as f64 - 1.0);
        terms.push(Gradient::weighted(&[&sum, &cut.whole.gradient], &[more, -more]));
    }
    let (first, others) = terms.split_first()?;
    let tolerance = |v: usize| {
        let each = cut
            .splits
            .iter()
            .map(|split| cut.whole.tolerance(v, &split.gradients(), &vec![1.0; split.parts.len()]));
        each.fold(0.0, f64::max)
    };
    let same = others
        .iter()
        .all(|other| cut.of.iter().all(|v| first.distance(other, *v) <= 2.0 * tolerance(*v)));
    if others.is_empty() || !same {
        return None;
    }
    Some(
        Finding::confirmed(
            Cause::AccumulationDiffers,
            "as a sum they exceed the batch by one and the same gradient for each part more: a term that belongs to no row, \
             such as a penalty on the weights, counts once in every micro-batch",
        )
        .advice_is("add the penalty once a step, or divide it by the number of micro-batches"),
    )
}

enum Mixed {
    Yes(Vec<Finding>),
    No,
    /// It could not be asked.
    Unknown,
}

/// Whether the forward pass mixes rows, by replacing them.
fn mixed(micro: &mut Micro<'_, '_>, allowed: &[Cause]) -> Result<Mixed> {
    let options = BatchIndependent::new().allow(Cause::BatchSizeFixed);
    let options = allowed.iter().fold(options, |o, cause| o.allow(*cause));
    let mut forward = |input: &[Tensor]| {
        micro.restore()?;
        guarded("the forward closure", || micro.learner.output(input, micro.train))
    };
    Ok(match options.run(&mut forward, micro.batch.input()) {
        Ok(report) => match report.allowed.is_empty() {
            true => Mixed::No,
            false => Mixed::Yes(report.allowed),
        },
        Err(failure) if failure.kind() == FailureKind::Violated => {
            Mixed::Yes(failure.findings().to_vec())
        }
        Err(_) => Mixed::Unknown,
    })
}
