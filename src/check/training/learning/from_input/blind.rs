//! The batch without what its input says.

use candle_core::Tensor;

use crate::{
    Batch, Cause, Failure, Finding, Learner, Result, Snapshot,
    check::{function::guarded, training::input_blind::ignores_targets},
    measure::{
        rows::differ,
        values::{is_floating, scalar, to_f64_vec},
    },
};

/// A batch whose rows are all the same, and what was done to them.
pub(super) struct Blind {
    pub(super) batch: Batch,
    /// `every input zeroed`.
    pub(super) how: String,
}

/// Floats become 0 and ids one id, as A. Karpathy's recipe has it; a mask lets everything through. Where the loss of that is
/// not finite (a norm of zeros), every row gets the input of the first.
pub(super) fn blind(learner: &Learner<'_>, batch: &Batch, before: &Snapshot) -> Result<Blind> {
    let members = batch.input();
    let mut zeroed = Vec::with_capacity(members.len());
    let mut ids = None;
    for tensor in members {
        let (constant, id) = constant(tensor, members.len() > 1)?;
        ids = ids.or(id);
        zeroed.push(constant);
    }
    let how = match ids {
        Some(id) => format!("every token replaced by {id}"),
        None => "every input zeroed".to_owned(),
    };
    let zeroed = Blind { batch: batch.with_input(zeroed), how };
    if usable(learner, &zeroed.batch, before)? {
        return Ok(zeroed);
    }
    let first = members.iter().map(first_row).collect::<candle_core::Result<Vec<_>>>()?;
    let first = Blind {
        batch: batch.with_input(first),
        how: "every row given the input of the first".to_owned(),
    };
    match usable(learner, &first.batch, before)? {
        true => Ok(first),
        false => Err(Failure::not_run(
            "the learner takes no input that says nothing: its loss is not finite, or an error, with every input zeroed, and \
             with the first row in all places",
        )),
    }
}

fn usable(learner: &Learner<'_>, batch: &Batch, before: &Snapshot) -> Result<bool> {
    before.restore()?;
    let loss = guarded("the learner", || Ok(scalar(&learner.evaluate(batch, true)?.loss)?));
    before.restore()?;
    Ok(loss.is_ok_and(f64::is_finite))
}

/// The tensor with one value, and the id that it is where it holds ids.
fn constant(tensor: &Tensor, beside_others: bool) -> Result<(Tensor, Option<i64>)> {
    let values = to_f64_vec(tensor)?;
    // Beside other inputs, zeros and ones are a mask or a kind of token: ones mask nothing.
    let bits = beside_others && values.iter().all(|v| *v == 0.0 || *v == 1.0);
    if bits {
        return Ok((tensor.ones_like()?, None));
    }
    if is_floating(tensor.dtype()) || tensor.dtype() == candle_core::DType::U8 {
        return Ok((tensor.zeros_like()?, None));
    }
    // An id of the batch: any other may be none of the vocabulary. 0 is often padding.
    let id = commonest(values);
    let same =
        Tensor::full(id as f64, tensor.shape(), tensor.device())?.to_dtype(tensor.dtype())?;
    Ok((same, Some(id)))
}

fn commonest(mut values: Vec<f64>) -> i64 {
    values.sort_by(f64::total_cmp);
    let runs = values.chunk_by(|a, b| a == b);
    let longest = runs.filter(|run| run[0] != 0.0).max_by_key(|run| run.len());
    longest.map_or(0, |run| run[0] as i64)
}

fn first_row(tensor: &Tensor) -> candle_core::Result<Tensor> {
    tensor.narrow(0, 0, 1)?.broadcast_as(tensor.shape())?.contiguous()
}

/// A batch on which a model without its input could be beaten: rows that differ, with targets that differ.
pub(super) fn is_to_be_told_apart(learner: &Learner<'_>, batch: &Batch) -> Result<()> {
    if batch.rows() == Some(1) {
        return Err(Failure::vacuous(
            "the batch has one row: it is learned without looking at the input",
        )
        .help("give it at least 2 rows, better 8 or more"));
    }
    let varied = batch.input().iter().map(differ).collect::<candle_core::Result<Vec<_>>>()?;
    if !varied.contains(&true) {
        return Err(Failure::vacuous(
            "all rows of the input are equal: it says nothing about the targets",
        )
        .finding(Finding::confirmed(Cause::InputConstant, "every row holds the same values"))
        .help("give it rows that differ"));
    }
    let Some(target) = batch.target() else { return Ok(()) };
    let constant = match target.dims().first() {
        Some(rows) if Some(*rows) == batch.rows() => !differ(target)?,
        _ => to_f64_vec(target)?.windows(2).all(|pair| pair[0] == pair[1]),
    };
    // A loss may not look at its targets (an autoencoder's are the input): then theirs is a place holder.
    match constant && !ignores_targets(learner, batch, target) {
        true => Err(Failure::vacuous(
            "all targets are equal, so a bias fits them: the input is not needed",
        )
        .help("give the batch rows with different targets")),
        false => Ok(()),
    }
}
