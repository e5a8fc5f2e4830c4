//! Whether a check could have failed: what does not depend on its input has every symmetry.

use candle_core::Tensor;

use super::rounding::{Allowed, in_one_dtype};
use crate::{
    Cause, Failure, Finding, Result, Seed,
    check::{
        function::{Function, alternatives},
        tensors::difference,
    },
    measure::{compare, values::is_floating},
    verdict::number,
};

/// How many other inputs are tried before a function is said not to notice any: the class of a single row is the same for
/// most of them.
const OTHERS: u64 = 16;

/// An error where the function gives the same for other inputs of the same kind, as far as the bounds tell. `what` names
/// it.
///
/// Another input that the function refuses, or answers with other dimensions, has been noticed.
pub(super) fn refuse_blind(
    what: &str,
    f: &mut Function<'_>,
    x: &[Tensor],
    base: &Tensor,
    allowed: &Allowed,
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
        let found = compare::compare(&output, &base, allowed.bounds)?;
        if found.mismatches.is_some() {
            return Ok(());
        }
        largest = largest.max(found.max_absolute);
    }
    if largest > 0.0 {
        let (what_hides, help) = match allowed.measured {
            true => (
                "rounding",
                "give an input of a finer dtype, one that varies more, or a `tolerance` of your own",
            ),
            false => ("the tolerance", "give a smaller `tolerance`, or an input that varies more"),
        };
        return Err(Failure::vacuous(format!(
            "{what_hides} hides the property: {OTHERS} other inputs move the output of {what} by {} at most, and that \
             much is allowed",
            number(largest),
        ))
        .fact("tolerance", difference::rule(allowed.bounds))
        .fact("noise", &allowed.reason)
        .help(help));
    }
    let evidence = format!("{OTHERS} other inputs of the same kind give the same output");
    let failure = Failure::vacuous(format!(
        "{what} does not depend on its input here: whatever is done to it, the output stays"
    ))
    .finding(Finding::confirmed(Cause::OutputConstant, evidence));
    Err(match is_floating(base.dtype()) {
        true => failure,
        false => failure.help("return the logits in place of their argmax, or give more rows"),
    })
}
