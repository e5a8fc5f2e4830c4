//! One case under every condition that applies.

use candle_core::{DType, Result, Tensor};

use super::{
    case::Case,
    gradient::{Trial, Truth},
    layouts,
    quiet::attempt,
    slopes::Objective,
    verdict::{Condition, Outcome, Verdict},
    words,
};

/// The conditions that apply to a case, with what was seen under each.
pub(crate) type Examined = Vec<(Condition, Outcome)>;

pub(super) fn values(t: &Tensor) -> Result<Vec<f64>> {
    t.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

pub(super) fn in_pass(pass: &str, failed: Outcome) -> Outcome {
    Outcome { detail: format!("{pass}: {}", failed.detail), ..failed }
}

pub(crate) fn examine(case: &Case) -> Result<Examined> {
    let inputs = case.inputs()?;
    let output = match attempt(|| (case.f)(&inputs)) {
        Ok(output) => output,
        Err(failed) => return Ok(everywhere(case, &inputs, &in_pass("forward", failed))),
    };
    if values(&output)?.iter().any(|y| !y.is_finite()) {
        let detail = format!("forward: {} for finite operands", words::list(&values(&output)?));
        return Ok(everywhere(case, &inputs, &Outcome::new(Verdict::Wrong, detail)));
    }
    let mut examined = Vec::new();
    if case.differentiable().next().is_some() {
        let objective = Objective::new(case, &output)?;
        let truth = Truth::of(case, &objective, &inputs)?;
        for condition in Condition::GRADIENTS {
            // Variables anew each time: some ops write into their operands.
            let trial = Trial::new(case, &objective, &truth, &inputs)?;
            examined.extend(trial.under(condition)?.map(|outcome| (condition, outcome)));
        }
    }
    examined.push((Condition::Layout, layout(case, &inputs)?));
    if !case.batched.is_empty() {
        examined.push((Condition::Rows, rows(case, &inputs, &output)?));
    }
    Ok(examined)
}

/// A forward pass that fails has no gradient under any condition.
fn everywhere(case: &Case, inputs: &[Tensor], outcome: &Outcome) -> Examined {
    let views = case.differentiable().any(|i| inputs[i].rank() > 1);
    let applies = |condition| match condition {
        Condition::Strided => views,
        Condition::TransposedAfter => false,
        _ => true,
    };
    let conditions = Condition::GRADIENTS.into_iter().filter(|condition| applies(*condition));
    conditions.map(|condition| (condition, outcome.clone())).collect()
}

/// Views against contiguous tensors of the same values, one operand at a time.
fn layout(case: &Case, inputs: &[Tensor]) -> Result<Outcome> {
    let mut worst = Outcome::correct();
    for place in 0..inputs.len() {
        for layouts::View { how, view, contiguous } in layouts::all(&inputs[place])? {
            let with = |operand: &Tensor| {
                let mut operands = inputs.to_vec();
                operands[place] = operand.clone();
                attempt(|| (case.f)(&operands))
            };
            // What fails on a contiguous operand too says nothing about layouts.
            let Ok(expected) = with(&contiguous) else { continue };
            let outcome = match with(&view) {
                Ok(actual) => same(case, &actual, &expected)?,
                Err(failed) => in_pass("forward", failed),
            };
            worst = worst.worse(match outcome.verdict {
                Verdict::Wrong => {
                    let which = words::operand(case, place);
                    Outcome::new(Verdict::Wrong, format!("{which} {how}: {}", outcome.detail))
                }
                _ => outcome,
            });
        }
    }
    Ok(worst)
}

/// A batch against its rows, one by one.
fn rows(case: &Case, inputs: &[Tensor], output: &Tensor) -> Result<Outcome> {
    let mut worst = Outcome::correct();
    for row in 0..output.dim(0)? {
        let one = |i: usize| match case.batched.contains(&i) {
            true => inputs[i].narrow(0, row, 1)?.contiguous(),
            false => Ok(inputs[i].clone()),
        };
        let operands = (0..inputs.len()).map(one).collect::<Result<Vec<_>>>()?;
        let alone = match attempt(|| (case.f)(&operands)) {
            Ok(alone) => alone,
            Err(failed) => return Ok(in_pass("forward", failed)),
        };
        let outcome = same(case, &output.narrow(0, row, 1)?, &alone)?;
        if outcome.verdict == Verdict::Wrong {
            let detail = format!("row {row} in the batch against alone: {}", outcome.detail);
            worst = worst.worse(Outcome::new(Verdict::Wrong, detail));
        }
    }
    Ok(worst)
}

/// Whether two results are the same up to rounding: a kernel may add in another order.
fn same(case: &Case, actual: &Tensor, expected: &Tensor) -> Result<Outcome> {
    if actual.dims() != expected.dims() {
        let detail = format!("{:?}, not {:?}", actual.dims(), expected.dims());
        return Ok(Outcome::new(Verdict::Wrong, detail));
    }
    let tolerance = if case.single_precision { 1e-4 } else { 1e-10 };
    let near = |a: f64, b: f64| {
        (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= tolerance * b.abs().max(1.0)
    };
    let (actual, expected) = (values(actual)?, values(expected)?);
    let pairs = actual.iter().copied().zip(expected.iter().copied());
    let differ: Vec<(f64, f64)> = pairs.filter(|(a, e)| !near(*a, *e)).collect();
    Ok(match differ.is_empty() {
        true => Outcome::correct(),
        false => Outcome::new(Verdict::Wrong, words::differences(&differ, actual.len())),
    })
}
