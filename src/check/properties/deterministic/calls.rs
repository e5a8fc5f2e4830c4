//! Calls with one input, and how two outputs differ.

use candle_core::Tensor;

use crate::{
    Cause, Failure, Finding, Result,
    check::function::Function,
    measure::values::{multi_index, same_bits, to_f64_vec},
    verdict::{count, number, told_apart},
};

/// A function and a copy of its input, which no call may change.
pub(super) struct Calls<'c, 'f> {
    f: &'c mut Function<'f>,
    x: &'c [Tensor],
    own: Vec<Tensor>,
    before: Vec<Tensor>,
}

impl<'c, 'f> Calls<'c, 'f> {
    pub(super) fn new(f: &'c mut Function<'f>, x: &'c [Tensor]) -> Result<Self> {
        let copies = || x.iter().map(copy).collect::<candle_core::Result<Vec<_>>>();
        Ok(Self { own: copies()?, before: copies()?, f, x })
    }

    /// The output for `x`, in storage of its own, or the function's error; the failure is that the input was changed.
    pub(super) fn call(&mut self) -> Result<Result<Tensor>> {
        let output = (self.f)(&self.own);
        for (given, which) in [(&self.own[..], true), (self.x, false)] {
            for (i, (after, before)) in given.iter().zip(&self.before).enumerate() {
                if !same_bits(after, before)? {
                    let member = if self.own.len() == 1 { None } else { Some(i) };
                    return Err(writes(member, before, after, which)?);
                }
            }
        }
        output.map(|output| copy(&output)).transpose_candle()
    }

    /// The output for another input.
    pub(super) fn with(&mut self, other: &[Tensor]) -> Result<Tensor> {
        (self.f)(other)
    }
}

/// `Result<Result<T, candle>, Failure>` the other way round.
trait Transpose<T> {
    fn transpose_candle(self) -> Result<Result<T>>;
}

impl<T> Transpose<T> for Result<candle_core::Result<T>> {
    fn transpose_candle(self) -> Result<Result<T>> {
        match self {
            Ok(done) => Ok(Ok(done?)),
            Err(failure) => Ok(Err(failure)),
        }
    }
}

/// The same values in the same layout, in storage of its own. `Tensor::copy` alone would copy all of the storage that a
/// batch is a slice of.
fn copy(tensor: &Tensor) -> candle_core::Result<Tensor> {
    let tensor = tensor.detach();
    if tensor.is_contiguous() { tensor.force_contiguous() } else { tensor.copy() }
}

/// How two outputs of one shape differ.
pub(super) struct Difference {
    pub(super) elements: usize,
    pub(super) differing: usize,
    /// Of those that can be subtracted.
    pub(super) largest: f64,
    index: Vec<usize>,
    values: (f64, f64),
}

impl Difference {
    /// `None` where they hold the same bits.
    pub(super) fn of(a: &Tensor, b: &Tensor) -> Result<Option<Self>> {
        let (left, right) = (to_f64_vec(a)?, to_f64_vec(b)?);
        let apart = |i: usize| (left[i] - right[i]).abs();
        let differing: Vec<usize> =
            (0..left.len()).filter(|i| left[*i].to_bits() != right[*i].to_bits()).collect();
        let Some(&first) = differing.first() else { return Ok(None) };
        let worst = differing.iter().copied().fold(first, |worst, i| {
            // NaN beside a number is no distance, and the worst there is.
            let further = apart(i) > apart(worst) || (apart(i).is_nan() && !apart(worst).is_nan());
            if further { i } else { worst }
        });
        Ok(Some(Self {
            elements: left.len(),
            differing: differing.len(),
            largest: apart(worst),
            index: multi_index(worst, a.dims()),
            values: (left[worst], right[worst]),
        }))
    }

    /// `12 of 24 output values differ, by up to 0.31`.
    pub(super) fn told(&self) -> String {
        let verb = if self.differing == 1 { "differs" } else { "differ" };
        let by = match self.differing {
            1 => format!("by {}", number(self.largest)),
            _ => format!("by up to {}", number(self.largest)),
        };
        format!("{} of {} {verb}, {by}", self.differing, count(self.elements, "output value"))
    }

    /// `[1, 0]: 0.52, then 0.83`.
    pub(super) fn worst(&self) -> String {
        let (one, other) = told_apart(self.values.0, self.values.1);
        format!("{:?}: {one}, then {other}", self.index)
    }
}

/// The call with this number, counted from 1, returns an error, and those before it did not.
pub(super) fn fails(call: usize, error: &Failure) -> Failure {
    let which = match call {
        2 => "the second call".to_owned(),
        3 => "the third call".to_owned(),
        n => format!("call {n}"),
    };
    let headline = format!("{which} on the same input returns an error, and the first does not");
    let evidence = "an error that depends on how often the function was called";
    Failure::violated(headline)
        .fact("error", error.source_text())
        .finding(Finding::confirmed(Cause::StateKept, evidence))
}

fn writes(member: Option<usize>, before: &Tensor, after: &Tensor, copy: bool) -> Result<Failure> {
    let what = member.map_or("its input".to_owned(), |i| format!("input {i}"));
    let Some(difference) = Difference::of(before, after)? else {
        return Ok(Failure::violated(format!("the call changes the bits of {what}")));
    };
    let (was, is) = told_apart(difference.values.0, difference.values.1);
    let how = if copy { "" } else { ", through another handle of its storage" };
    let finding = Finding::confirmed(
        Cause::StateKept,
        format!("was {was} before the call and is {is} after it{how}"),
    );
    let place = match member {
        Some(i) => format!("input {i} at {:?}", difference.index),
        None => format!("the input at {:?}", difference.index),
    };
    Ok(Failure::violated(format!(
        "the call writes into {what}: {} of {} changed by it",
        difference.differing,
        count(difference.elements, "value"),
    ))
    .finding(finding.at(place).advice_is(
        "work on a copy, `x.copy()?`: `slice_set`, `zero_set`, `scatter_set` and `Var::set` write into storage that other handles share",
    )))
}
