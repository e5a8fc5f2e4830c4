//! What a pipeline delivers.

use candle_core::Tensor;

use crate::{
    Cause, Failure, Finding, Result,
    check::function::guarded,
    measure::values::{is_readable, to_f64_vec},
    verdict::count,
};

/// A closure of the user's: the batches of an epoch.
pub(super) type Source<'a> = dyn FnMut(usize) -> Result<Vec<(Tensor, Tensor)>> + 'a;

/// One input with its target, as delivered.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) batch: usize,
    pub(super) row: usize,
    pub(super) input: Vec<f64>,
    pub(super) target: Vec<f64>,
    /// The rows themselves, for closures that read them.
    pub(super) x: Tensor,
    pub(super) y: Tensor,
}

/// One call of the pipeline.
#[derive(Clone, Debug)]
pub(super) struct Epoch {
    pub(super) samples: Vec<Sample>,
    /// The rows of each batch.
    pub(super) sizes: Vec<usize>,
}

/// Calls the pipeline for one epoch. `what` names it: `the pipeline`.
pub(super) fn deliver(what: &str, source: &mut Source<'_>, epoch: usize) -> Result<Epoch> {
    let batches = guarded(what, || source(epoch)).map_err(|failure| {
        // A panic has its own words; what the closure returned may be any failure.
        if failure.headline().starts_with(what) {
            return failure;
        }
        Failure::not_run(format!("{what} returned an error in epoch {epoch}"))
            .fact("error", failure.source_text())
    })?;
    if batches.is_empty() {
        return Err(Failure::violated(format!("{what} delivers no batch in epoch {epoch}"))
            .finding(
                Finding::confirmed(Cause::SamplesMissing, "an epoch without a batch")
                    .at(format!("epoch {epoch}")),
            ));
    }
    let mut delivered = Epoch { samples: Vec::new(), sizes: Vec::new() };
    for (batch, (x, y)) in batches.iter().enumerate() {
        let place = format!("epoch {epoch}, batch {batch}");
        let rows = rows(what, &place, x, y)?;
        let (inputs, targets) = (to_f64_vec(x)?, to_f64_vec(y)?);
        if let Some(bad) = inputs.iter().chain(&targets).find(|value| !value.is_finite()) {
            let finding =
                Finding::confirmed(Cause::NotFinite, format!("{bad}, made of finite markers"))
                    .at(place)
                    .advice_is(
                        "look for a division by the deviation of a feature that is constant",
                    );
            let headline = format!("{what} delivers values that are not finite");
            return Err(Failure::violated(headline).finding(finding));
        }
        let widths = (inputs.len() / rows, targets.len() / rows);
        let each = inputs.chunks_exact(widths.0).zip(targets.chunks_exact(widths.1));
        for (row, (input, target)) in each.enumerate() {
            delivered.samples.push(Sample {
                batch,
                row,
                input: input.to_vec(),
                target: target.to_vec(),
                x: x.get(row)?,
                y: y.get(row)?,
            });
        }
        delivered.sizes.push(rows);
    }
    Ok(delivered)
}

/// As many inputs as targets, and at least one.
fn rows(what: &str, place: &str, x: &Tensor, y: &Tensor) -> Result<usize> {
    for (name, tensor) in [("input", x), ("target", y)] {
        if tensor.rank() == 0 {
            return Err(Failure::not_run(format!(
                "{what} delivers an {name} of rank 0 ({place}); allowed: the batch as the first dimension"
            )));
        }
        if !is_readable(tensor.dtype()) {
            return Err(Failure::not_run(format!(
                "{what} delivers an {name} of dtype {} ({place}); allowed: a dtype whose values candle can read",
                tensor.dtype().as_str(),
            )));
        }
    }
    let (inputs, targets) = (x.dims()[0], y.dims()[0]);
    if inputs != targets {
        let evidence = format!("{} and {}", count(inputs, "input"), count(targets, "target"));
        return Err(Failure::violated(format!("a batch of {what} has {evidence}"))
            .finding(Finding::confirmed(Cause::PairsBroken, evidence).at(place)));
    }
    if x.elem_count() == 0 || y.elem_count() == 0 {
        return Err(Failure::violated(format!("{what} delivers an empty batch")).finding(
            Finding::confirmed(
                Cause::SamplesMissing,
                format!("inputs of dims {:?}, targets of dims {:?}", x.dims(), y.dims()),
            )
            .at(place)
            .advice_is("stop when the data is over: a loss over no rows is NaN"),
        ));
    }
    Ok(inputs)
}

impl Epoch {
    /// The number of the first sample of each batch, to cut a list of ids into batches.
    pub(super) fn batches<'i>(&self, ids: &'i [usize]) -> Vec<&'i [usize]> {
        let mut rest = ids;
        (self.sizes.iter())
            .map(|size| {
                let (batch, more) = rest.split_at(*size);
                rest = more;
                batch
            })
            .collect()
    }
}
