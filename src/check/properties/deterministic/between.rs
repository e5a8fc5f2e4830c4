//! Another input between two calls with one.

use candle_core::Tensor;

use super::calls::{Calls, Difference};
use crate::{
    Cause, Failure, Finding, Result, Seed, measure::perturb::alternative,
    measure::values::same_bits, verdict::number,
};

/// An input to come between.
pub(super) struct OtherInput {
    pub(super) name: &'static str,
    members: Vec<Tensor>,
}

/// What a call with another input does to the next.
pub(super) enum Other {
    Same,
    /// The function returned an error on it. `spoiled`: and another result for `x` ever since, which is no one's fault: no
    /// one but this check gave it that input.
    Refused {
        error: String,
        spoiled: bool,
    },
    Differs(Box<Failure>),
}

/// A running maximum does not move as long as the values stay in one range.
const LARGER: f64 = 8.0;

/// Other values of the same kind, larger ones, the first row alone, and twice as many rows; those of other sizes last, since
/// they are what a function may refuse.
pub(super) fn others(x: &[Tensor], seed: Seed) -> Result<Vec<OtherInput>> {
    let values = x.iter().enumerate().map(|(i, tensor)| {
        let tensor = tensor.detach();
        let other = alternative(&tensor, seed, &format!("input {i}"))?;
        Ok((other.is_some(), other.unwrap_or(tensor)))
    });
    let values = values.collect::<candle_core::Result<Vec<_>>>()?;
    let known = values.iter().any(|(known, _)| *known);
    let values: Vec<Tensor> = values.into_iter().map(|(_, values)| values).collect();
    let mut others = Vec::new();
    if known {
        others.push(OtherInput { name: "other values", members: values.clone() });
    }
    if values.iter().any(|v| v.dtype().is_float()) {
        let larger =
            values.iter().map(|v| if v.dtype().is_float() { v * LARGER } else { Ok(v.clone()) });
        let members = larger.collect::<candle_core::Result<_>>()?;
        others.push(OtherInput { name: "larger values", members });
    }
    if x[0].dims()[0] > 1 {
        let first = values.iter().map(|v| v.narrow(0, 0, 1)?.contiguous());
        let members = first.collect::<candle_core::Result<_>>()?;
        others.push(OtherInput { name: "the first row alone", members });
    }
    let twice = values.iter().zip(x).map(|(v, x)| Tensor::cat(&[v, &x.detach()], 0));
    let members = twice.collect::<candle_core::Result<_>>()?;
    others.push(OtherInput { name: "twice as many rows", members });
    Ok(others)
}

/// Calls with `other`, then with `x`, and compares with what `x` gave before.
pub(super) fn after(
    calls: &mut Calls<'_, '_>,
    other: &OtherInput,
    first: &Tensor,
) -> Result<Other> {
    let error = calls.with(&other.members).err().map(|failure| failure.source_text());
    let then = calls.call()?;
    let same = match &then {
        Ok(output) => same_bits(first, output)?,
        Err(_) => false,
    };
    if let Some(error) = error {
        return Ok(Other::Refused { error, spoiled: !same });
    }
    if same {
        return Ok(Other::Same);
    }
    let then = match then {
        Ok(then) => then,
        Err(error) => return Ok(Other::Differs(Box::new(errs(other.name, &error)))),
    };
    let failure = match then.dims() == first.dims() {
        true => differs(Difference::of(first, &then)?),
        false => Failure::violated(format!(
            "the result depends on what was asked before: dims {:?}, and {:?} once another input was asked",
            first.dims(),
            then.dims(),
        )),
    };
    let finding = Finding::confirmed(Cause::StateKept, lasts(calls, first, &then)?);
    Ok(Other::Differs(Box::new(failure.fact("in between", other.name).finding(finding))))
}

/// How much further off than all calls in a row a call after another input must be, twice, to tell that it is the other
/// input's doing: draws are as far apart whatever is asked between them.
const FAR: f64 = 100.0;

/// For calls that differ already, as those of a state that has all but settled do: whether another input in between moves
/// the next one far beyond that.
pub(super) fn far_off(
    calls: &mut Calls<'_, '_>,
    other: &OtherInput,
    mut outputs: Vec<Tensor>,
) -> Result<Option<Failure>> {
    for _ in 0..6 {
        let Ok(output) = calls.call()? else { return Ok(None) };
        outputs.push(output);
    }
    let Some(last) = outputs.last().cloned() else { return Ok(None) };
    let apart = |a: &Tensor| -> Result<Option<f64>> {
        match a.dims() == last.dims() && a.dtype() == last.dtype() {
            true => Ok(Some(Difference::of(a, &last)?.map_or(0.0, |d| d.largest))),
            false => Ok(None),
        }
    };
    let mut spread = 0f64;
    for output in &outputs {
        let Some(apart) = apart(output)? else { return Ok(None) };
        spread = spread.max(apart);
    }
    let mut nearest = f64::INFINITY;
    for _ in 0..2 {
        let (Ok(_), Ok(then)) = (calls.with(&other.members), calls.call()?) else {
            return Ok(None);
        };
        let Some(apart) = apart(&then)? else { return Ok(None) };
        nearest = nearest.min(apart);
    }
    // NaN is far from nothing.
    if !(nearest.is_finite() && nearest > FAR * spread) {
        return Ok(None);
    }
    let evidence = format!(
        "calls in a row are {} apart, and calls after another input at least {}: what it left behind fades",
        number(spread),
        number(nearest),
    );
    Ok(Some(
        Failure::violated("the result depends on what was asked before")
            .fact("in between", other.name)
            .finding(Finding::confirmed(Cause::StateKept, evidence)),
    ))
}

fn differs(difference: Option<Difference>) -> Failure {
    let headline = "the result depends on what was asked before";
    match difference {
        None => Failure::violated(format!("{headline}: the same values come back in other bits")),
        Some(difference) => Failure::violated(format!("{headline}: {}", difference.told()))
            .fact("worst", difference.worst()),
    }
}

fn errs(name: &str, error: &Failure) -> Failure {
    let evidence = "the function takes this input, and no longer takes its first one afterwards";
    Failure::violated("the same input returns an error once another was asked before it")
        .fact("in between", name)
        .fact("error", error.source_text())
        .finding(Finding::confirmed(Cause::StateKept, evidence))
}

/// Whether what the other input left behind goes with the next call.
fn lasts(calls: &mut Calls<'_, '_>, first: &Tensor, then: &Tensor) -> Result<String> {
    let Ok(next) = calls.call()? else {
        return Ok("the same input gives another result after a call with another one, and an error after that".to_owned());
    };
    Ok(if same_bits(first, &next)? {
        "the call after another input differs, and the next is as before: each depends on the one before it".to_owned()
    } else if same_bits(then, &next)? {
        "the calls after another input differ from those before it: what it left behind stays"
            .to_owned()
    } else {
        "each call after another input differs: what it left behind fades or goes on changing"
            .to_owned()
    })
}
