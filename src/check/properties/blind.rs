//! Whether a check could have failed: what does not depend on its input has every symmetry.

use candle_core::Tensor;

use super::rounding::in_one_dtype;
use crate::{
    Cause, Failure, Finding, Result, Seed,
    check::function::{Function, alternatives},
    measure::compare::{self, Bounds},
    verdict::number,
};

/// How many other inputs are tried before a function is said not to notice any.
const OTHERS: u64 = 2;

/// An error where the function gives the same for other inputs of the same kind, as far as the bounds tell. `what` names
/// it.
///
/// Another input that the function refuses, or answers with other dimensions, has been noticed.
pub(super) fn refuse_blind(
    what: &str,
    f: &mut Function<'_>,
    x: &[Tensor],
    base: &Tensor,
    bounds: Bounds,
    seed: Seed,
) -> Result<()> {
    let mut largest = 0.0f64;
    for other in 0..OTHERS {
        let others = alternatives(x, seed.split(&format!("another input {other}")))?;
        let others: Vec<Tensor> =
            others.into_iter().zip(x).map(|(o, own)| o.unwrap_or_else(|| own.clone())).collect();
        let Ok(output) = f(&others) else { return Ok(()) };
        if output.dims() != base.dims() {
            return Ok(());
        }
        let (output, base) = in_one_dtype(&output, base)?;
        let found = compare::compare(&output, &base, bounds)?;
        if found.mismatches.is_some() {
            return Ok(());
        }
        largest = largest.max(found.max_absolute);
    }
    if largest > 0.0 {
        return Err(Failure::vacuous(format!(
            "the tolerance hides the property: {OTHERS} other inputs move the output of {what} by {} at most, which is \
             allowed",
            number(largest),
        ))
        .fact("allowed", format!("{} and {} of the value", number(bounds.absolute), number(bounds.relative)))
        .help("give a smaller `tolerance`, an input that varies more, or one of a finer dtype"));
    }
    let evidence = format!("{OTHERS} other inputs of the same kind give the same output");
    Err(Failure::vacuous(format!(
        "{what} does not depend on its input here: whatever is done to it, the output stays"
    ))
    .finding(Finding::confirmed(Cause::OutputConstant, evidence)))
}
