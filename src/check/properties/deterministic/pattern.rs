//! Several outputs for one input: how they are connected, and what that tells.

use candle_core::Tensor;

use super::calls::{Calls, Difference, fails};
use crate::{
    Cause, Failure, Finding, Result,
    measure::{
        noise::epsilon,
        values::{same_bits, to_f64_vec},
    },
    verdict::{count, number},
};

/// How many calls are looked at before the pattern in them is told: six draws in rising or falling order are 1 in 360.
const LOOKED_AT: usize = 6;
/// The same where some of them are equal: a coin that falls on one side nine times in a row is 1 in 256.
const LOOKED_AT_IF_EQUAL: usize = 12;
/// What a cycle must have against chance: 1 in 256, as a coin that falls as it did before eight times in a row.
const BITS_OF_A_CYCLE: f64 = 8.0;

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
    if let Some((start, period)) = cycle(outputs)? {
        let round = match period {
            2 => "alternate between two results".to_owned(),
            _ => format!("go round {period} results, always in the same order"),
        };
        return Ok(failure.finding(kept(match start {
            0 => format!("the calls {round}"),
            1 => format!("after the first call they {round}"),
            _ => format!("after the first {start} calls they {round}"),
        })));
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

/// The call from which on the outputs go round, and how many they go round: a cache that fills up first and is cleared
/// when it is full.
fn cycle(outputs: &[Tensor]) -> Result<Option<(usize, usize)>> {
    let n = outputs.len();
    // Of draws among so many results each repeats the one a period before with a chance of one in so many.
    let bits = (distinct(outputs)? as f64).log2();
    for start in 0..=n / 4 {
        for period in 2..=(n - start) / 3 {
            let mut repeats = (n - start - period) as f64 * bits >= BITS_OF_A_CYCLE;
            for i in start + period..n {
                repeats = repeats && same_bits(&outputs[i - period], &outputs[i])?;
            }
            if repeats {
                return Ok(Some((start, period)));
            }
        }
    }
    Ok(None)
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
