//! One case under every condition.

use candle_core::{DType, Result, Tensor, Var, backprop::GradStore};

use super::{
    case::Case,
    layouts,
    quiet::attempt,
    slopes::{Objective, Slope},
    verdict::{Condition, Outcome, Verdict},
    words,
};

/// The conditions that apply to a case, with what was seen under each.
pub(crate) type Examined = Vec<(Condition, Outcome)>;

/// The second use of the operands, `0.3 x²`, whose gradient needs no backward pass to be known.
const SECOND_USE: f64 = 0.3;

struct Truth {
    slopes: Vec<Vec<Slope>>,
    /// The slope along all elements at once, where one of them sits at a corner.
    of_all: Option<f64>,
}

/// How an operand reaches the op.
#[derive(Clone, Copy)]
enum Passed<'a> {
    AsIs,
    ThroughAnotherOp,
    /// One operand, by its place, replaced by a view of it.
    Replaced(usize, &'a Tensor),
}

/// Two dimensions of the result that change places before the loss.
type Transposed = Option<(usize, usize)>;

pub(crate) fn values(t: &Tensor) -> Result<Vec<f64>> {
    t.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
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
            if let Some(outcome) = gradient(case, &objective, &truth, &inputs, condition)? {
                examined.push((condition, outcome));
            }
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

impl Truth {
    fn of(case: &Case, objective: &Objective<'_>, inputs: &[Tensor]) -> Result<Self> {
        let slopes: Vec<Vec<Slope>> = (0..inputs.len())
            .map(|i| match case.operands[i].differentiable {
                true if case.blocks_gradient => {
                    Ok(vec![Slope::Smooth(0.0); inputs[i].elem_count()])
                }
                true => objective.slopes(inputs, i),
                false => Ok(Vec::new()),
            })
            .collect::<Result<_>>()?;
        let kinked = slopes.iter().flatten().any(|slope| matches!(slope, Slope::Kink(..)));
        let of_all = match kinked.then(|| objective.slope_of_all(inputs)).transpose()? {
            Some(Slope::Smooth(slope)) => Some(slope),
            _ => None,
        };
        Ok(Self { slopes, of_all })
    }
}

fn gradient(
    case: &Case,
    objective: &Objective<'_>,
    truth: &Truth,
    inputs: &[Tensor],
    condition: Condition,
) -> Result<Option<Outcome>> {
    let vars = case
        .inputs()?
        .iter()
        .zip(&case.operands)
        .map(|(input, operand)| match operand.differentiable {
            true => Ok(Var::from_tensor(input)?.into_inner()),
            false => Ok(input.clone()),
        })
        .collect::<Result<Vec<_>>>()?;
    let judged = |passed: Passed<'_>, transposed: Transposed| -> Result<Outcome> {
        let loss = || -> Result<Tensor> {
            let operands = vars
                .iter()
                .enumerate()
                .map(|(i, var)| match passed {
                    Passed::ThroughAnotherOp if case.operands[i].differentiable => {
                        var.affine(1.0, 0.0)
                    }
                    Passed::Replaced(place, view) if place == i => Ok(view.clone()),
                    _ => Ok(var.clone()),
                })
                .collect::<Result<Vec<_>>>()?;
            let loss = objective.of(&operands, transposed)?;
            let other = || -> Result<Tensor> {
                let terms = case
                    .differentiable()
                    .map(|i| (vars[i].sqr()? * SECOND_USE)?.sum_all()?.to_dtype(loss.dtype()));
                let terms = terms.collect::<Result<Vec<_>>>()?;
                Tensor::stack(&terms, 0)?.sum_all()
            };
            match condition {
                Condition::ReusedBefore => other()? + loss,
                Condition::ReusedAfter => &loss + other()?,
                _ => Ok(loss),
            }
        };
        let loss = match attempt(loss) {
            Ok(loss) => loss,
            Err(failed) => return Ok(in_pass("forward", failed)),
        };
        match attempt(|| loss.backward()) {
            Ok(grads) => judge(case, truth, inputs, &vars, &grads, condition),
            Err(failed) => Ok(in_pass("backward", failed)),
        }
    };
    match condition {
        Condition::NonLeaf => judged(Passed::ThroughAnotherOp, None).map(Some),
        Condition::Strided => {
            let mut worst = None::<Outcome>;
            for place in case.differentiable() {
                for (how, view) in layouts::strided(&vars[place])? {
                    let mut outcome = judged(Passed::Replaced(place, &view), None)?;
                    if outcome.verdict > Verdict::Panics {
                        let which = words::operand(case, place);
                        outcome.detail = format!("{which} {how}: {}", outcome.detail);
                    }
                    worst = Some(worst.map_or(outcome.clone(), |worst| worst.worse(outcome)));
                }
            }
            Ok(worst)
        }
        Condition::TransposedAfter => {
            let rank = objective.weights.rank();
            let mut worst = None::<Outcome>;
            for (a, b) in layouts::transpositions(rank) {
                if objective.weights.transpose(a, b)?.is_contiguous() {
                    continue;
                }
                let outcome = judged(Passed::AsIs, Some((a, b)))?;
                worst = Some(worst.map_or(outcome.clone(), |worst| worst.worse(outcome)));
            }
            Ok(worst)
        }
        _ => judged(Passed::AsIs, None).map(Some),
    }
}

fn in_pass(pass: &str, failed: Outcome) -> Outcome {
    Outcome { detail: format!("{pass}: {}", failed.detail), ..failed }
}

/// The gradients that arrived against the slopes.
fn judge(
    case: &Case,
    truth: &Truth,
    inputs: &[Tensor],
    vars: &[Tensor],
    grads: &GradStore,
    condition: Condition,
) -> Result<Outcome> {
    let reused = matches!(condition, Condition::ReusedBefore | Condition::ReusedAfter);
    let tolerance = if case.single_precision { 5e-3 } else { 1e-6 };
    let mut sum = 0.0;
    let mut outcome = Outcome::correct();
    for i in case.differentiable() {
        let slopes = &truth.slopes[i];
        let scale = slopes.iter().map(|slope| slope.size()).fold(1.0, f64::max);
        let near = |a: f64, b: f64| (a - b).abs() <= tolerance * scale;
        let arrived = grads.get(&vars[i]);
        if let Some(grad) = arrived
            && grad.dims() != vars[i].dims()
        {
            let detail = format!("a gradient {:?} for {:?}", grad.dims(), vars[i].dims());
            outcome = outcome.with(Outcome::new(Verdict::Wrong, detail));
            continue;
        }
        let second: Vec<f64> = match reused {
            true => values(&inputs[i])?.iter().map(|x| 2.0 * SECOND_USE * x).collect(),
            false => vec![0.0; slopes.len()],
        };
        // What the op itself contributed.
        let own: Vec<f64> = match arrived {
            Some(grad) => values(grad)?.iter().zip(&second).map(|(g, s)| g - s).collect(),
            None => vec![0.0; slopes.len()],
        };
        sum += own.iter().sum::<f64>();
        let bad: Vec<(f64, f64)> = own
            .iter()
            .zip(slopes)
            .filter(|(own, slope)| !slope.admits(**own, |a, b| near(a, b)))
            .map(|(own, slope)| (*own, slope.middle()))
            .collect();
        if bad.is_empty()
            && (arrived.is_some() || slopes.iter().all(|slope| near(slope.middle(), 0.0)))
        {
            continue;
        }
        // A gradient that is there and zero is wrong; one that is not there is cut. With a second use only the latter
        // can be told from the numbers, where nothing at all came through.
        let nothing = own.iter().all(|own| near(*own, 0.0));
        let seen = if arrived.is_none() || (reused && nothing) {
            let largest = slopes.iter().map(|slope| slope.size()).fold(0.0, f64::max);
            let which = words::operand(case, i);
            let detail = format!("{which} gets none (slopes up to {})", words::number(largest));
            Outcome::new(Verdict::Cut, detail)
        } else {
            Outcome::new(Verdict::Wrong, words::wrong(case, i, &bad, own.len()))
        };
        outcome = outcome.with(seen);
    }
    if let (Verdict::Correct, Some(right)) = (outcome.verdict, truth.of_all)
        && (sum - right).abs() > tolerance * right.abs().max(1.0)
    {
        let (sum, right) = (words::number(sum), words::number(right));
        let detail = format!("ties: the gradients add up to {sum}, the slope of all is {right}");
        outcome = Outcome::new(Verdict::Wrong, detail);
    }
    Ok(outcome)
}

impl Slope {
    fn middle(self) -> f64 {
        match self {
            Self::Smooth(slope) => slope,
            Self::Kink(left, right) => (left + right) / 2.0,
        }
    }

    fn size(self) -> f64 {
        self.middle().abs()
    }

    fn admits(self, gradient: f64, near: impl Fn(f64, f64) -> bool) -> bool {
        match self {
            Self::Smooth(slope) => near(gradient, slope),
            Self::Kink(a, b) => {
                near(gradient, a)
                    || near(gradient, b)
                    || (gradient > a.min(b) && gradient < a.max(b))
            }
        }
    }
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
                Ok(actual) => same(case, &actual, &expected)?
                    .map(|differ| format!("{} {how}: {differ}", words::operand(case, place))),
                Err(failed) => {
                    worst = worst.worse(in_pass("forward", failed));
                    continue;
                }
            };
            if let Some(differ) = outcome {
                worst = worst.worse(Outcome::new(Verdict::Wrong, differ));
            }
        }
    }
    Ok(worst)
}

/// A batch against its rows, one by one.
fn rows(case: &Case, inputs: &[Tensor], output: &Tensor) -> Result<Outcome> {
    let mut worst = Outcome::correct();
    for row in 0..output.dim(0)? {
        let one = |i: usize, input: &Tensor| match case.batched.contains(&i) {
            true => input.narrow(0, row, 1)?.contiguous(),
            false => Ok(input.clone()),
        };
        let operands: Vec<Tensor> =
            inputs.iter().enumerate().map(|(i, input)| one(i, input)).collect::<Result<_>>()?;
        let alone = match attempt(|| (case.f)(&operands)) {
            Ok(alone) => alone,
            Err(failed) => return Ok(in_pass("forward", failed)),
        };
        if let Some(differ) = same(case, &output.narrow(0, row, 1)?, &alone)? {
            let detail = format!("row {row} of the batch, alone against together: {differ}");
            worst = worst.worse(Outcome::new(Verdict::Wrong, detail));
        }
    }
    Ok(worst)
}

/// How two results differ, if they do. They may differ in rounding: a kernel may add in another order.
fn same(case: &Case, actual: &Tensor, expected: &Tensor) -> Result<Option<String>> {
    if actual.dims() != expected.dims() {
        return Ok(Some(format!("{:?}, not {:?}", actual.dims(), expected.dims())));
    }
    let tolerance = if case.single_precision { 1e-4 } else { 1e-10 };
    let (actual, expected) = (values(actual)?, values(expected)?);
    let differ: Vec<(f64, f64)> = actual
        .iter()
        .zip(&expected)
        .filter(|(a, e)| {
            !(a.is_nan() && e.is_nan() || (**a - **e).abs() <= tolerance * e.abs().max(1.0))
        })
        .map(|(a, e)| (*a, *e))
        .collect();
    Ok((!differ.is_empty()).then(|| words::differences(&differ, actual.len())))
}
