//! Calls with one input that give several outputs: how they differ, and what that tells.

use candle_core::Tensor;

use crate::{
    Cause, Failure, Finding, Result,
    check::function::Function,
    measure::{
        noise::epsilon,
        values::{multi_index, same_bits, to_f64_vec},
    },
    verdict::{count, number},
};

/// How many calls are looked at before the pattern in them is told: six draws in rising or falling order are 1 in 360.
const LOOKED_AT: usize = 6;
/// The same where some of them are equal: a coin that falls on one side nine times in a row is 1 in 256.
const LOOKED_AT_IF_EQUAL: usize = 12;

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

/// Two values in three digits, or in as many as it takes to see that they differ.
pub(super) fn told_apart(a: f64, b: f64) -> (String, String) {
    let short = (number(a), number(b));
    if short.0 != short.1 || !a.is_finite() || !b.is_finite() {
        return short;
    }
    let digits = (4..17).find(|digits| format!("{a:.0$e}", digits) != format!("{b:.0$e}", digits));
    let Some(digits) = digits else { return (a.to_string(), b.to_string()) };
    let precise = |v: f64| match v.abs() {
        size if (1e-4..1e6).contains(&size) => {
            let decimals = (digits as i32 - size.log10().floor() as i32).max(0) as usize;
            format!("{v:.decimals$}")
        }
        _ => format!("{v:.digits$e}"),
    };
    (precise(a), precise(b))
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

/// Tells how the outputs of calls on one input, not all equal, differ. Calls on until there are enough to see a pattern.
pub(super) fn told(calls: &mut Calls<'_, '_>, mut outputs: Vec<Tensor>) -> Result<Failure> {
    while outputs.len() < LOOKED_AT
        || (outputs.len() < LOOKED_AT_IF_EQUAL && distinct(&outputs)? < outputs.len())
    {
        match calls.call()? {
            Ok(output) => outputs.push(output),
            Err(error) => return Ok(fails(outputs.len() + 1, &error)),
        }
    }
    let first = &outputs[0];
    if let Some(other) =
        outputs.iter().find(|o| o.dims() != first.dims() || o.dtype() != first.dtype())
    {
        return Ok(shape_changes(&outputs, other));
    }
    let mut worst: Option<Difference> = None;
    for output in &outputs[1..] {
        if let Some(found) = Difference::of(first, output)? {
            // The first pair that differs, so that "then" is about neighbours where it can be.
            worst.get_or_insert(found);
        }
    }
    let Some(worst) = worst else {
        return Ok(Failure::violated(
            "calls on the same input return other bits of the same values",
        ));
    };
    let failure = Failure::violated(format!(
        "the same input gives another output when it is asked again: {}",
        worst.told(),
    ))
    .fact("worst", worst.worst());
    pattern(failure, &outputs, &worst)
}

fn shape_changes(outputs: &[Tensor], other: &Tensor) -> Failure {
    let dims: Vec<String> = outputs.iter().take(4).map(|o| format!("{:?}", o.dims())).collect();
    let (was, is) = (outputs[0].dims(), other.dims());
    let headline =
        format!("the same input gives dims {was:?}, and when it is asked again dims {is:?}");
    let grows = outputs.windows(2).all(|w| w[0].elem_count() < w[1].elem_count());
    let evidence = match grows {
        true => format!(
            "the output grows with every call, {}: what earlier calls put in is still there",
            dims.join(", then "),
        ),
        false => format!("the dims change from call to call: {}", dims.join(", then ")),
    };
    Failure::violated(headline).finding(Finding::confirmed(Cause::StateKept, evidence))
}

fn pattern(failure: Failure, outputs: &[Tensor], worst: &Difference) -> Result<Failure> {
    let same = |a: usize, b: usize| same_bits(&outputs[a], &outputs[b]);
    let n = outputs.len();
    let kept = |evidence: String| Finding::confirmed(Cause::StateKept, evidence);

    let mut settled = n - 1;
    while settled > 0 && same(settled - 1, n - 1)? {
        settled -= 1;
    }
    // Most of the calls agree, and the last of them all do.
    if settled <= n / 4 {
        let evidence = match settled {
            1 => format!("the first call differs from the {} after it, which are equal", n - 1),
            _ => format!(
                "the calls settle: {settled} differ, and the {} after them are equal",
                n - settled
            ),
        };
        return Ok(failure.finding(kept(evidence)));
    }
    for period in 2..=n / 3 {
        let mut repeats = true;
        for i in period..n {
            repeats = repeats && same(i - period, i)?;
        }
        if repeats {
            let evidence = match period {
                2 => "the calls alternate between two results".to_owned(),
                _ => format!("the calls go round {period} results, always in the same order"),
            };
            return Ok(failure.finding(kept(evidence)));
        }
    }
    let values = outputs.iter().map(to_f64_vec).collect::<candle_core::Result<Vec<_>>>()?;
    let steps = Steps::between(&values);
    let failure = failure.fact(
        "from call to call",
        steps.lengths.iter().map(|l| number(*l)).collect::<Vec<_>>().join(", "),
    );
    if steps.come_to_rest() {
        return Ok(failure.finding(kept(format!(
            "each call is closer to the last one, as with an average or a cache that fills up: {} apart at first, {} in the end",
            number(steps.lengths[0]),
            number(steps.lengths[n - 2]),
        ))));
    }
    if let Some(evidence) = steps.onwards(worst.elements) {
        return Ok(failure.finding(kept(evidence)));
    }
    randomly(failure, outputs, &values, worst)
}

/// How many of the outputs are the first of their kind.
fn distinct(outputs: &[Tensor]) -> Result<usize> {
    let mut distinct: Vec<&Tensor> = Vec::new();
    for output in outputs {
        let mut known = false;
        for other in &distinct {
            known = known || same_bits(output, other)?;
        }
        if !known {
            distinct.push(output);
        }
    }
    Ok(distinct.len())
}

/// The steps from each output to the next.
struct Steps {
    /// Their Euclidean lengths.
    lengths: Vec<f64>,
    /// The cosines between neighbours.
    cosines: Vec<f64>,
}

impl Steps {
    fn between(values: &[Vec<f64>]) -> Self {
        let steps: Vec<Vec<f64>> = values
            .windows(2)
            .map(|w| {
                w[1].iter().zip(&w[0]).map(|(b, a)| if a == b { 0.0 } else { b - a }).collect()
            })
            .collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let lengths: Vec<f64> = steps.iter().map(|s| dot(s, s).sqrt()).collect();
        let cosines = (1..steps.len())
            .map(|i| dot(&steps[i - 1], &steps[i]) / (lengths[i - 1] * lengths[i]))
            .collect();
        Self { lengths, cosines }
    }

    /// Every step goes on as the one before it. Random draws turn back: two steps share a draw with opposite signs, so their
    /// cosine is -0.5 on average. Of few elements that says little.
    fn onwards(&self, elements: usize) -> Option<String> {
        const ON: f64 = 0.5;
        let on = elements >= 4 && self.cosines.iter().all(|cosine| *cosine > ON);
        on.then(|| {
            let lengths: Vec<String> = self.lengths.iter().take(3).map(|l| number(*l)).collect();
            format!(
                "every call moves the output on in one direction, by {}, ...: something is added up",
                lengths.join(", "),
            )
        })
    }

    /// Random draws are as far apart in the end as in the beginning; five steps in falling order are 1 in 120 of them, and
    /// to half the length of far fewer.
    fn come_to_rest(&self) -> bool {
        let falling = self.lengths.windows(2).all(|w| w[1] < w[0]);
        falling && self.lengths.last() < self.lengths.first().map(|l| l / 2.0).as_ref()
    }
}

/// Nothing connects the calls.
fn randomly(
    failure: Failure,
    outputs: &[Tensor],
    values: &[Vec<f64>],
    worst: &Difference,
) -> Result<Failure> {
    let size = values[0].iter().filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs()));
    let calls = outputs.len();
    if let Some(epsilon) = epsilon(outputs[0].dtype())
        // A thousand roundings: a sum of a million numbers in another order.
        && worst.largest <= 1e3 * epsilon * size
        && worst.largest < 0.01 * size
    {
        let evidence = format!(
            "the {calls} calls differ by roundings alone ({} of the largest value): a sum whose order changes, over a `HashMap` or by threads",
            number(worst.largest / size),
        );
        return Ok(failure
            .finding(Finding::possible(Cause::NotReproducible, evidence))
            .help("iterate over sorted keys or a `BTreeMap`, and add up in a fixed order"));
    }
    let zeros = Zeros::of(values);
    if let Some(evidence) = zeros.as_dropout(calls) {
        return Ok(failure.finding(Finding::confirmed(Cause::DropoutInEval, evidence)));
    }
    let distinct = distinct(outputs)?;
    if distinct < calls {
        let evidence = format!(
            "{calls} calls give {distinct} different results in no order that shows: a choice by a random draw, the order of a `HashMap`, or threads",
        );
        return Ok(failure
            .finding(Finding::possible(Cause::NotReproducible, evidence))
            .finding(Finding::possible(
                Cause::DropoutInEval,
                "active dropout on few values would do that, too",
            ))
            .help("iterate over sorted keys or a `BTreeMap`, draw what must be random from a `Seed`, and call the model in evaluation mode"));
    }
    let dropout = match zeros.moving {
        0 => format!(
            "{calls} calls, no two of them in a row equal, and nothing connects them: active dropout or another random draw would do that"
        ),
        _ => format!(
            "{calls} calls, no two in a row equal; {} of {} are zero in one and not in another: active dropout or another random draw would do that",
            zeros.moving,
            count(worst.elements, "value"),
        ),
    };
    Ok(failure
        .finding(Finding::possible(Cause::DropoutInEval, dropout))
        .finding(Finding::possible(
            Cause::StateKept,
            "a cache or a running average that every call adds to would do it, too",
        ))
        .help("call the model in evaluation mode (`forward_t(x, false)`); draw what must be random from a `Seed`; reset its cache in the closure"))
}

/// Where the outputs are exactly zero.
struct Zeros {
    /// Elements that are zero in one call and not in another.
    moving: usize,
    /// The share of zeros among the elements that are not zero throughout.
    share: f64,
    /// Whether each element has one value wherever it is not zero.
    equal_elsewhere: bool,
}

impl Zeros {
    fn of(values: &[Vec<f64>]) -> Self {
        let (mut moving, mut alive, mut zeros, mut equal) = (0, 0, 0, true);
        for i in 0..values[0].len() {
            let mut others = values.iter().map(|v| v[i]).filter(|v| *v != 0.0);
            let Some(one) = others.next() else { continue };
            equal = equal && others.all(|other| other == one);
            let zero = values.iter().filter(|v| v[i] == 0.0).count();
            moving += usize::from(zero > 0);
            zeros += zero;
            alive += 1;
        }
        let share = zeros as f64 / (alive * values.len()).max(1) as f64;
        Self { moving, share, equal_elsewhere: equal }
    }

    fn as_dropout(&self, calls: usize) -> Option<String> {
        (self.equal_elsewhere && self.moving > 1).then(|| {
            format!(
                "in each of {calls} calls other values of the output are zero, {:.0} % of them, and where one is not, it is the same: dropout at a rate of about {:.1}",
                100.0 * self.share,
                self.share,
            )
        })
    }
}
