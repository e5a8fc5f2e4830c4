//! Is a gradient the slope of its function? Backward against central differences, a direction at a time.
//!
//! One direction compares all entries of a variable at once: `dL/dh` of `x + h * d` against `<gradient, d>`. The steps
//! form a ladder. A smooth function agrees on its first rung; a kink between the two sides of a step (a ReLU, a maximum)
//! is passed by on a lower one; a kink at the very point shows as two slopes, one on each side, that no shorter step
//! brings together. What disagrees on every rung, where the rungs agree among themselves and their sides with each other,
//! is a wrong gradient.

mod direction;
mod function;
mod jump;
mod learner;
mod verify;

use candle_core::{DType, Tensor, backprop::GradStore};

use super::{
    noise::{epsilon, nudged},
    values::to_f64_vec,
    vectors::root_mean_square,
};
use crate::{Result, Seed};

use direction::{Direction, bisect};

pub(crate) use direction::Entry;
pub(crate) use function::{Deviation, OfFunction, Way};
pub(crate) use jump::{FAR, jumps};
pub(crate) use learner::{OfLearner, repeatable_mode, traced};
pub(crate) use verify::{Compared, verify};

/// A scalar function of named tensors, with the gradient that a backward pass gave for each.
pub(crate) trait Objective {
    fn slots(&self) -> &[Slot];

    /// The function with one of its tensors replaced, the others as they are.
    fn value(&mut self, slot: usize, replaced: &Tensor) -> Result<f64>;

    /// The format that values are computed in: the coarser of the tensor's and the result's.
    fn dtype(&self) -> DType;

    /// Goes to another point nearby, and takes the gradients there: kinks at the very point are left behind.
    fn go_elsewhere(&mut self, seed: Seed) -> Result<()>;
}

/// One tensor that the function depends on.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) value: Tensor,
    /// Row-major; `None` where the backward pass gave none.
    pub(crate) gradient: Option<Vec<f64>>,
}

/// How finely a format can be judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fineness {
    /// What a right gradient may be off by, as a share of its own size.
    pub(crate) tolerance: f64,
    /// The lengths of the steps, as shares of the tensor's root mean square, the longest first.
    pub(crate) steps: [f64; 3],
    /// How many random directions are looked along, besides uphill. An error that is a fair part of the gradient hides
    /// along one in a few of them where the tolerance is as coarse as f32's; in f64 along next to none.
    pub(crate) directions: usize,
}

impl Fineness {
    /// In f64 the constants of candle's `gelu` backward pass, of six digits, are off by 2e-7: 1e-6 is above them and
    /// below any bug. In f32 a step short enough to stay on one side of most kinks leaves two digits.
    ///
    /// The steps are about the cube root of the format's epsilon, where the errors of truncation and of rounding meet
    /// (Press et al., *Numerical Recipes*, section 5.7), and less.
    pub(crate) fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F64 => Some(Self { tolerance: 1e-6, steps: [1e-5, 1e-6, 1e-7], directions: 1 }),
            DType::F32 => Some(Self { tolerance: 2e-2, steps: [1e-2, 1e-3, 1e-4], directions: 3 }),
            _ => None,
        }
    }
}

/// What the comparison along one direction found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Agreement {
    Agrees,
    /// A kink at the very point: the gradient lies between the slopes on its two sides.
    Kink,
    /// The function is flat on every short step and moves on a long one, or jumps on the way: a staircase, whose gradient is
    /// made up on purpose (a straight-through estimator) or not at all.
    Staircase,
    /// The rungs of the ladder agree with each other and not with the gradient.
    Differs,
    /// The rungs do not agree with each other, or rounding hides them.
    Unclear,
}

/// The slope of the function and that of the gradient along one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Comparison {
    pub(crate) agreement: Agreement,
    /// `<gradient, direction>`.
    pub(crate) analytic: f64,
    /// By central differences, on the rung that decided.
    pub(crate) numeric: f64,
    /// What the two may be apart.
    pub(crate) allowed: f64,
    /// The step that decided.
    pub(crate) step: f64,
}

/// Central differences of an objective at its own point.
pub(crate) struct Slopes<'o> {
    objective: &'o mut dyn Objective,
    pub(crate) fineness: Fineness,
    /// The function at its own point.
    base: f64,
    /// How far rounding alone moves the function.
    rounding: f64,
    pub(crate) evaluations: usize,
}

/// Rounding moves the two sides of a difference independently, each by perhaps twice what a few nudges showed.
const ROUNDINGS: f64 = 4.0;

impl<'o> Slopes<'o> {
    /// Measures how much of the objective is rounding, by moving each tensor by at most its last bit.
    pub(crate) fn new(objective: &'o mut dyn Objective, fineness: Fineness) -> Result<Self> {
        let slots = objective.slots().len();
        let first = objective.slots()[0].value.clone();
        let base = objective.value(0, &first)?;
        let mut rounding = epsilon(objective.dtype()).unwrap_or(0.0) * base.abs();
        // A handful of tensors tells the noise of all: it arises where the values are summed up.
        for slot in (0..slots).step_by(slots.div_ceil(4)) {
            let name = objective.slots()[slot].name.clone();
            let moved = nudged(&objective.slots()[slot].value, Seed::new(0), &name)?;
            rounding = rounding.max((objective.value(slot, &moved)? - base).abs());
        }
        Ok(Self { objective, fineness, base, rounding, evaluations: 1 + slots.min(4) })
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        self.objective.slots()
    }

    /// Compares the slopes of one tensor along a direction.
    pub(crate) fn compare(&mut self, slot: usize, direction: &Direction) -> Result<Comparison> {
        let analytic = direction.along_gradient();
        let share = self.fineness.tolerance * direction.size_of_gradient();
        let mut rungs: Vec<Rung> = Vec::new();
        for step in self.fineness.steps {
            let rung = self.rung(slot, direction, step)?;
            let allowed = share + rung.rounding;
            let decided = |agreement| Comparison {
                agreement,
                analytic,
                numeric: rung.central,
                allowed,
                step,
            };
            if (rung.central - analytic).abs() <= allowed {
                // A step so short that rounding covers what a longer one was off by cannot tell.
                if rungs.last().is_some_and(|longer| (longer.central - analytic).abs() <= allowed) {
                    break;
                }
                return Ok(decided(Agreement::Agrees));
            }
            rungs.push(rung);
        }
        // Beside a gradient of zero, or one much too small, the slope itself tells what is small.
        let slope = rungs.iter().map(|rung| rung.central.abs()).fold(0.0, f64::max);
        let share_of_slope = share.max(self.fineness.tolerance * slope);
        let agreeing = rungs.windows(2).find(|pair| pair[0].agrees_with(&pair[1], share_of_slope));
        let last = rungs[rungs.len() - 1];
        // Of two rungs that agree with each other the longer step is the less noisy.
        let rung = agreeing.map_or(last, |pair| pair[0]);
        let allowed = share + rung.rounding;
        let agreement = if rungs.len() < 2 || self.is_lost(&rungs, analytic) {
            Agreement::Unclear
        } else if rungs.windows(2).all(|pair| pair[0].has_kink_as(&pair[1], share_of_slope)) {
            match last.brackets(analytic, share + last.rounding) {
                true => Agreement::Kink,
                false => Agreement::Unclear,
            }
        } else if agreeing.is_none() {
            Agreement::Unclear
        } else if self.is_staircase(slot, direction, rung.central, &rungs)? {
            Agreement::Staircase
        } else {
            Agreement::Differs
        };
        Ok(Comparison { agreement, analytic, numeric: rung.central, allowed, step: rung.step })
    }

    /// Whether no step moved a bit of the function, and none should have moved a bit of a number of size one: a loss of
    /// next to zero has its last digits rounded off on the way, where they were those of larger numbers.
    fn is_lost(&self, rungs: &[Rung], analytic: f64) -> bool {
        let unmoved = rungs.iter().all(|rung| rung.ahead == 0.0 && rung.behind == 0.0);
        let epsilon = epsilon(self.objective.dtype()).unwrap_or(0.0);
        unmoved && analytic.abs() * self.fineness.steps[0] <= epsilon
    }

    /// Whether the function is flat on short steps and not on long ones.
    fn is_staircase(
        &mut self,
        slot: usize,
        direction: &Direction,
        slope: f64,
        rungs: &[Rung],
    ) -> Result<bool> {
        let own = self.objective.slots()[slot].value.clone();
        let noise = ROUNDINGS * self.rounding;
        // Flat on the longest step, where rounding weighs least.
        if slope.abs() <= rungs[0].rounding {
            self.evaluations += 1;
            let far = self.objective.value(slot, &direction.moved(&own, 1.0)?)?;
            return Ok((far - self.base).abs() > noise);
        }
        let is_flat_at =
            |rung: &Rung| rung.central.abs() <= rung.rounding && slope.abs() > 4.0 * rung.rounding;
        Ok(rungs.iter().any(is_flat_at))
    }

    /// Whether the function jumps on the way to a step of so many times the tensor's own size.
    fn has_a_jump(&mut self, slot: usize, direction: &Direction, reach: f64) -> Result<bool> {
        let own = self.objective.slots()[slot].value.clone();
        let (objective, evaluations) = (&mut self.objective, &mut self.evaluations);
        let mut at = |way: f64| {
            *evaluations += 1;
            objective.value(slot, &direction.moved(&own, way)?)
        };
        jump::jumps(&mut at, reach, ROUNDINGS * self.rounding)
    }

    /// The slope along a direction at one step, by central differences.
    pub(crate) fn central(&mut self, slot: usize, direction: &Direction, step: f64) -> Result<f64> {
        Ok(self.rung(slot, direction, step)?.central)
    }

    /// What rounding does to a slope at this step.
    pub(crate) fn rounding_at(&self, step: f64) -> f64 {
        ROUNDINGS * self.rounding / step
    }

    fn rung(&mut self, slot: usize, direction: &Direction, step: f64) -> Result<Rung> {
        let own = &self.objective.slots()[slot].value;
        let (ahead, behind) = (direction.moved(own, step)?, direction.moved(own, -step)?);
        let ahead = self.objective.value(slot, &ahead)?;
        let behind = self.objective.value(slot, &behind)?;
        self.evaluations += 2;
        Ok(Rung {
            step,
            central: (ahead - behind) / (2.0 * step),
            ahead: (ahead - self.base) / step,
            behind: (self.base - behind) / step,
            rounding: self.rounding_at(step),
        })
    }
}

/// The slopes at one length of step.
#[derive(Clone, Copy, Debug)]
struct Rung {
    step: f64,
    central: f64,
    /// One-sided, ahead and behind.
    ahead: f64,
    behind: f64,
    /// How much of a slope is rounding.
    rounding: f64,
}

impl Rung {
    fn agrees_with(&self, next: &Rung, share: f64) -> bool {
        (self.central - next.central).abs() <= 2.0 * share + self.rounding + next.rounding
    }

    fn brackets(&self, slope: f64, allowed: f64) -> bool {
        let (low, high) = (self.ahead.min(self.behind), self.ahead.max(self.behind));
        (low - allowed..=high + allowed).contains(&slope)
    }

    /// Whether the slopes on the two sides differ here and stay as far apart on the next rung: curvature brings them
    /// together as the step does.
    fn has_kink_as(&self, next: &Rung, share: f64) -> bool {
        let (own, later) = ((self.ahead - self.behind).abs(), (next.ahead - next.behind).abs());
        later > share + 2.0 * next.rounding && later > 0.5 * own
    }
}

/// The coarser of two formats, by what they keep of a number.
pub(super) fn coarser(a: DType, b: DType) -> DType {
    let rank = |dtype| match dtype {
        DType::F64 => 4,
        DType::F32 => 3,
        DType::F16 => 2,
        DType::BF16 => 1,
        _ => 0,
    };
    if rank(a) <= rank(b) { a } else { b }
}

fn slot(name: String, tensor: &Tensor, grads: &GradStore) -> Result<Slot> {
    let gradient = grads.get(tensor).map(to_f64_vec).transpose()?;
    Ok(Slot { name, value: tensor.copy()?.detach(), gradient })
}

/// The coarsest float format that anything between the result and the variables is computed in.
fn coarsest(root: &Tensor) -> DType {
    root.sorted_nodes().iter().fold(root.dtype(), |dtype, node| match node.dtype().is_float() {
        true => coarser(dtype, node.dtype()),
        false => dtype,
    })
}

/// How far a point nearby is, as a share of each entry: far beyond any step, and no change of what is looked at.
const NEARBY: f64 = 1e-2;

/// A point nearby: every entry moved by a share of itself, zeros by a share of what the tensor holds on average.
fn nearby(value: &Tensor, seed: Seed, label: &str) -> candle_core::Result<Tensor> {
    let own = to_f64_vec(value)?;
    let drawn = seed.normal(label, own.len(), DType::F64, &candle_core::Device::Cpu)?;
    let scale = scale(&own);
    let moved = own.iter().zip(drawn.to_vec1::<f64>()?).map(|(own, drawn)| match *own == 0.0 {
        true => NEARBY * scale * drawn,
        false => own * (1.0 + NEARBY * drawn),
    });
    Tensor::from_vec(moved.collect::<Vec<f64>>(), value.shape(), &candle_core::Device::Cpu)?
        .to_dtype(value.dtype())?
        .to_device(value.device())
}

/// The values of a gradient in row-major order, zeros where there is none.
pub(crate) fn gradient_or_zeros(slot: &Slot) -> Result<Vec<f64>> {
    Ok(match &slot.gradient {
        Some(gradient) => gradient.clone(),
        None => vec![0.0; slot.value.elem_count()],
    })
}

/// The root mean square, or a hundredth where that is next to zero: a bias of zeros is moved too.
fn scale(values: &[f64]) -> f64 {
    root_mean_square(values).max(1e-2)
}

#[cfg(test)]
mod tests;
