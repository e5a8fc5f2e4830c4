//! A case's gradients against its slopes.

use candle_core::{Result, Tensor, Var, backprop::GradStore};

use super::{
    case::Case,
    examine::{in_pass, values},
    layouts,
    quiet::attempt,
    slopes::{Objective, Slope},
    verdict::{Condition, Outcome, Verdict},
    words,
};

/// The factor of the second use of an operand, `0.3 x²`, whose gradient needs no backward pass to be known.
const SECOND_USE: f64 = 0.3;

/// What the gradients should be.
pub(super) struct Truth {
    slopes: Vec<Vec<Slope>>,
    /// The slope along all elements at once, where one of them sits at a corner.
    of_all: Option<f64>,
}

/// One backward pass after another, over variables of the case's own.
pub(super) struct Trial<'a> {
    case: &'a Case,
    objective: &'a Objective<'a>,
    truth: &'a Truth,
    inputs: &'a [Tensor],
    vars: Vec<Tensor>,
}

/// How the operands reach the op, and the result the loss.
#[derive(Clone, Copy)]
enum Way<'a> {
    Direct,
    ThroughAnotherOp,
    /// One operand, by its place, replaced by a view of it.
    Replaced(usize, &'a Tensor),
    /// Two dimensions of the result change places.
    Transposed(usize, usize),
}

impl Truth {
    pub(super) fn of(case: &Case, objective: &Objective<'_>, inputs: &[Tensor]) -> Result<Self> {
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

impl<'a> Trial<'a> {
    pub(super) fn new(
        case: &'a Case,
        objective: &'a Objective<'a>,
        truth: &'a Truth,
        inputs: &'a [Tensor],
    ) -> Result<Self> {
        let vars = inputs
            .iter()
            .zip(&case.operands)
            .map(|(input, operand)| match operand.differentiable {
                true => Ok(Var::from_tensor(input)?.into_inner()),
                false => Ok(input.clone()),
            })
            .collect::<Result<_>>()?;
        Ok(Self { case, objective, truth, inputs, vars })
    }

    /// None where the condition does not apply.
    pub(super) fn under(&self, condition: Condition) -> Result<Option<Outcome>> {
        match condition {
            Condition::NonLeaf => self.one(condition, Way::ThroughAnotherOp).map(Some),
            Condition::Strided => self.strided(),
            Condition::TransposedAfter => self.transposed_after(),
            _ => self.one(condition, Way::Direct).map(Some),
        }
    }

    fn strided(&self) -> Result<Option<Outcome>> {
        let mut worst = None::<Outcome>;
        for place in self.case.differentiable() {
            for (how, view) in layouts::strided(&self.vars[place])? {
                let mut outcome = self.one(Condition::Strided, Way::Replaced(place, &view))?;
                if outcome.verdict > Verdict::Panics {
                    let which = words::operand(self.case, place);
                    outcome.detail = format!("{which} {how}: {}", outcome.detail);
                }
                worst = Outcome::worst(worst, outcome);
            }
        }
        Ok(worst)
    }

    fn transposed_after(&self) -> Result<Option<Outcome>> {
        let weights = &self.objective.weights;
        let mut worst = None::<Outcome>;
        for (a, b) in layouts::transpositions(weights.rank()) {
            // With a dimension of 1, what is transposed may still be contiguous.
            if !weights.transpose(a, b)?.is_contiguous() {
                let outcome = self.one(Condition::TransposedAfter, Way::Transposed(a, b))?;
                worst = Outcome::worst(worst, outcome);
            }
        }
        Ok(worst)
    }

    fn one(&self, condition: Condition, way: Way<'_>) -> Result<Outcome> {
        let loss = match attempt(|| self.loss(condition, way)) {
            Ok(loss) => loss,
            Err(failed) => return Ok(in_pass("forward", failed)),
        };
        match attempt(|| loss.backward()) {
            Ok(grads) => self.judge(&grads, condition),
            Err(failed) => Ok(in_pass("backward", failed)),
        }
    }

    fn loss(&self, condition: Condition, way: Way<'_>) -> Result<Tensor> {
        let operand = |i: usize| match way {
            Way::ThroughAnotherOp if self.case.operands[i].differentiable => {
                self.vars[i].affine(1.0, 0.0)
            }
            Way::Replaced(place, view) if place == i => Ok(view.clone()),
            _ => Ok(self.vars[i].clone()),
        };
        let operands = (0..self.vars.len()).map(operand).collect::<Result<Vec<_>>>()?;
        let loss = match way {
            Way::Transposed(a, b) => self.objective.transposed(&operands, (a, b))?,
            _ => self.objective.of(&operands)?,
        };
        match condition {
            Condition::ReusedBefore => self.second_use()?.to_dtype(loss.dtype())? + loss,
            Condition::ReusedAfter => &loss + self.second_use()?.to_dtype(loss.dtype())?,
            _ => Ok(loss),
        }
    }

    fn second_use(&self) -> Result<Tensor> {
        let term = |i: usize| (self.vars[i].sqr()? * SECOND_USE)?.sum_all();
        let terms = self.case.differentiable().map(term).collect::<Result<Vec<_>>>()?;
        Tensor::stack(&terms, 0)?.sum_all()
    }

    /// The gradients that arrived against the slopes.
    fn judge(&self, grads: &GradStore, condition: Condition) -> Result<Outcome> {
        let reused = matches!(condition, Condition::ReusedBefore | Condition::ReusedAfter);
        let mut sum = 0.0;
        let mut outcome = Outcome::correct();
        for place in self.case.differentiable() {
            let slopes = &self.truth.slopes[place];
            let arrived = grads.get(&self.vars[place]);
            if let Some(grad) = arrived
                && grad.dims() != self.vars[place].dims()
            {
                let detail =
                    format!("a gradient {:?} for {:?}", grad.dims(), self.vars[place].dims());
                outcome = outcome.with(Outcome::new(Verdict::Wrong, detail));
                continue;
            }
            let second: Vec<f64> = match reused {
                true => values(&self.inputs[place])?.iter().map(|x| 2.0 * SECOND_USE * x).collect(),
                false => vec![0.0; slopes.len()],
            };
            // What the op itself contributed.
            let own: Vec<f64> = match arrived {
                Some(grad) => values(grad)?.iter().zip(&second).map(|(g, s)| g - s).collect(),
                None => vec![0.0; slopes.len()],
            };
            sum += own.iter().sum::<f64>();
            // A gradient that is there and zero is wrong; one that is not there is cut. With a second use only the
            // latter can be told from the numbers, where nothing at all came through.
            outcome = outcome.with(self.judge_one(place, &own, arrived.is_some(), reused));
        }
        if let (Verdict::Correct, Some(right)) = (outcome.verdict, self.truth.of_all)
            && (sum - right).abs() > self.tolerance() * right.abs().max(1.0)
        {
            let (sum, right) = (words::number(sum), words::number(right));
            let detail =
                format!("ties: the gradients add up to {sum}, the slope of all is {right}");
            outcome = Outcome::new(Verdict::Wrong, detail);
        }
        Ok(outcome)
    }

    fn judge_one(&self, place: usize, own: &[f64], arrived: bool, reused: bool) -> Outcome {
        let slopes = &self.truth.slopes[place];
        let largest = slopes.iter().map(|slope| slope.middle().abs()).fold(0.0, f64::max);
        let near = |a: f64, b: f64| (a - b).abs() <= self.tolerance() * largest.max(1.0);
        let bad: Vec<(f64, f64)> = own
            .iter()
            .zip(slopes)
            .filter(|(own, slope)| !slope.admits(**own, near))
            .map(|(own, slope)| (*own, slope.middle()))
            .collect();
        let nothing = own.iter().all(|own| near(*own, 0.0));
        if bad.is_empty() && (arrived || near(largest, 0.0)) {
            Outcome::correct()
        } else if !arrived || (reused && nothing) {
            let which = words::operand(self.case, place);
            let detail = format!("{which} gets none (slopes up to {})", words::rough(largest));
            Outcome::new(Verdict::Cut, detail)
        } else {
            Outcome::new(Verdict::Wrong, words::wrong(self.case, place, &bad, own.len()))
        }
    }

    /// Relative to the largest slope. candle's own constants for gelu have six digits.
    fn tolerance(&self) -> f64 {
        if self.case.single_precision { 5e-3 } else { 1e-6 }
    }
}

impl Slope {
    fn middle(self) -> f64 {
        match self {
            Self::Smooth(slope) => slope,
            Self::Kink(left, right) => (left + right) / 2.0,
        }
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
