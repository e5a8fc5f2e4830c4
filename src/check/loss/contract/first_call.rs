//! The first call of a loss, and what it takes where it does not take its contract's tensors.

use std::error::Error;

use super::{
    Seen,
    closure::Loss,
    probes::{Probe, Probes},
};
use crate::{
    Cause, Failure, Finding, Result,
    measure::values::{same_bits, scalar, to_f64_vec},
};

/// The first call, made twice; what else the closure takes, where it does not take what the contract says.
pub(super) fn first_call(
    loss: &mut Loss<'_>,
    probes: &Probes<'_>,
    first: &Probe,
) -> Result<std::result::Result<f64, Seen>> {
    let called = loss.raw(&first.prediction, &first.target);
    let once = match called {
        Ok(once) => once,
        Err(failure) => {
            return match otherwise(loss, probes, first)? {
                Some(seen) => Ok(Err(seen)),
                // Anything else that cannot be used has its own help.
                None if failure.source().is_none() => Err(failure),
                None => Err(failure.help(
                    "say what the loss takes with `shape`, `target_shape`, `dtype` and `target_dtype` of the contract",
                )),
            };
        }
    };
    let twice = loss.raw(&first.prediction, &first.target)?;
    if !same_bits(&once, &twice)? {
        return Err(Failure::not_run(
            "two calls of the loss with the same tensors give two results: it cannot be compared",
        )
        .fact("values", format!("{}, then {}", once, twice))
        .help("take what is drawn at random out of the closure: augmentation, dropout, sampled negatives"));
    }
    Ok(Ok(scalar(&once)?))
}

/// A loss that does not take its contract's tensors: does it take others?
fn otherwise(loss: &mut Loss<'_>, probes: &Probes<'_>, first: &Probe) -> Result<Option<Seen>> {
    let point = &first.point;
    if !probes.are_labels() || !probes.kind.is_of_classes() {
        return Ok(None);
    }
    if let Some(ignored) = probes.ignored() {
        let other = probes.with_labels_that_count(first)?;
        if loss.value(&first.prediction, &other).is_ok() {
            let evidence = format!(
                "with labels of 0..{} alone it is none; a label of {ignored} is declared as one to ignore",
                probes.contract.classes,
            );
            return Ok(Some(Seen::new(
                format!("the loss is an error where a label is {ignored}"),
                Finding::confirmed(Cause::LabelOutOfRange, evidence).advice_is(
                    "mask the ignored labels before the loss: candle's own losses know no label to ignore",
                ),
            )));
        }
    }
    // A scalar head trained on the class's number.
    let one = first.prediction.narrow(candle_core::D::Minus1, 0, 1)?.contiguous()?;
    for prediction in [one.clone(), one.flatten_all()?] {
        let Ok(value) = loss.value(&prediction, &first.target) else { continue };
        let numbers = to_f64_vec(&prediction)?;
        let squares = numbers.iter().zip(&point.target).map(|(p, t)| (p - t) * (p - t));
        let mean = squares.sum::<f64>() / numbers.len() as f64;
        if (value - mean).abs() <= 1e-2 * mean {
            let evidence = format!(
                "with predictions of dims {:?} its value is exactly the squared error of the class's number: class 3 \
                 counts as nearer to 4 than to 9, and renaming the classes changes the loss",
                prediction.dims(),
            );
            return Ok(Some(Seen::new(
                "the loss takes one number for each row, not a score for each class",
                Finding::confirmed(Cause::NotInvariant, evidence).advice_is(
                    "give the model an output for each class, and take `loss::cross_entropy`",
                ),
            )));
        }
    }
    Ok(None)
}
