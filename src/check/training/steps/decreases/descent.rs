//! Does the loss fall against its gradient?

use candle_core::{DType, Tensor, Var};

use crate::{
    Batch, Learner, Result, Seed,
    learner::Evaluation,
    measure::{
        gradients::{self, Pass},
        noise::{epsilon, nudged},
        slope::{FAR, jumps},
        values::{norm, scalar, to_f64_vec},
    },
};

/// A learner on a batch, in a mode in which two evaluations agree.
pub(super) struct Place<'l, 'a> {
    learner: &'l Learner<'a>,
    batch: &'l Batch,
    train: bool,
    /// What a pass itself may change, as it was.
    kept: Vec<(Var, Tensor)>,
}

impl<'l, 'a> Place<'l, 'a> {
    pub(super) fn new(learner: &'l Learner<'a>, batch: &'l Batch, train: bool) -> Result<Self> {
        Ok(Self { learner, batch, train, kept: learner.untrained_values()? })
    }

    fn evaluate(&self) -> Result<Evaluation> {
        self.kept.iter().try_for_each(|(var, value)| var.set(value))?;
        self.learner.evaluate(self.batch, self.train)
    }

    pub(super) fn loss(&self) -> Result<f64> {
        Ok(scalar(&self.evaluate()?.loss)?)
    }

    pub(super) fn pass(&self) -> Result<Pass> {
        gradients::of_evaluation(self.learner, self.evaluate()?)
    }

    /// By how much the loss moves when every variable is moved by its last bit.
    pub(super) fn rounding(&self, loss: &Tensor) -> Result<f64> {
        let value = scalar(loss)?;
        let mut largest = epsilon(loss.dtype()).unwrap_or(0.0) * value.abs();
        let mut own = Vec::new();
        for (_, var) in self.learner.trainable() {
            own.push((var, var.as_tensor().copy()?));
        }
        for draw in 0..2 {
            for ((name, var), (_, value)) in self.learner.trainable().zip(&own) {
                var.set(&nudged(value, Seed::new(draw), name)?)?;
            }
            let there = self.loss();
            // The last first: a tied variable is there under two names.
            own.iter().rev().try_for_each(|(var, value)| var.set(value))?;
            let change = (there? - value).abs();
            largest = if change.is_finite() { largest.max(change) } else { largest };
        }
        Ok(largest)
    }
}

/// One variable's gradient, and the variable as it is.
pub(super) struct Slope {
    pub(super) name: String,
    var: Var,
    start: Vec<f64>,
    gradient: Vec<f64>,
    size: f64,
    length: f64,
}

impl Slope {
    fn is_fine(&self) -> bool {
        matches!(self.var.dtype(), DType::F32 | DType::F64)
    }
}

/// The slopes of the variables that a gradient other than zero arrives at.
pub(super) fn slopes(learner: &Learner<'_>, pass: &Pass) -> Result<Vec<Slope>> {
    let mut slopes: Vec<Slope> = Vec::new();
    for (name, var) in learner.trainable() {
        let Some(gradient) = pass.grads.get(var.as_tensor()) else { continue };
        let length = norm(gradient)?;
        // A tied variable is moved once.
        if length == 0.0 || slopes.iter().any(|slope| slope.var.id() == var.id()) {
            continue;
        }
        let entries = (var.elem_count() as f64).sqrt();
        slopes.push(Slope {
            name: name.to_owned(),
            var: var.clone(),
            start: to_f64_vec(var.as_tensor())?,
            gradient: to_f64_vec(gradient)?,
            // What begins at zero is moved as if it were small.
            size: norm(var.as_tensor())?.max(SMALL * entries),
            length,
        });
    }
    Ok(slopes)
}

/// The deviation of weights that start in +-1/sqrt(n) for 130 inputs; any length will do that others follow in quarters.
const SMALL: f64 = 0.05;

/// What steps against the gradient did to the loss, the longest first.
pub(super) struct Tried {
    /// The lengths tried above the noise: what the gradient says the loss falls by, and by what it fell.
    pub(super) steps: Vec<(f64, f64)>,
    /// The same for steps the other way, where the loss rose.
    against: Vec<(f64, f64)>,
    /// Whether one of them lowered the loss.
    pub(super) falls: bool,
    /// Whether the shortest step that should show clearly left the loss as it is.
    flat: bool,
    rounding: f64,
}

/// The longest step, as a share of what is moved: far enough to be seen in half precision.
const LONGEST: f64 = 0.5;

/// From one length to the next.
const SHORTER: f64 = 0.25;

/// So many lengths: down to 1e-6 of the variables' own size in f32, where rounding ends it before.
const LENGTHS: usize = 10;

/// A step that should lower the loss by less than so many times its rounding shows nothing.
const ABOVE_ROUNDING: f64 = 8.0;

/// The share of the promised fall that counts as one. A straight-through gradient promises more than is there, and a long
/// step on a curved loss keeps less.
const KEPT: f64 = 0.1;

impl Tried {
    /// Whether every step raises the loss, this way and the other.
    pub(super) fn rises_both_ways(&self) -> bool {
        let rises = |steps: &[(f64, f64)]| steps.iter().all(|(_, fall)| *fall < 0.0);
        !self.steps.is_empty() && rises(&self.steps) && rises(&self.against)
    }

    /// Whether the gradient points the wrong way: the loss never falls against it, and at two lengths or more it rises
    /// against it and falls along it, by as much. At a kink the two differ, however short the step.
    ///
    /// A staircase has no slope: there the way of the loss over its steps is all there is, and three lengths are asked for.
    pub(super) fn is_reversed(&self) -> bool {
        let (asked, symmetry) = if self.flat { (3, f64::INFINITY) } else { (2, KEPT) };
        let reversed = |promise: f64, against: f64, along: f64| {
            let apart = (against + along).abs();
            against <= -KEPT * promise
                && along >= KEPT * promise
                && apart <= symmetry * along + 4.0 * self.rounding
        };
        !self.falls && self.count(reversed) >= asked
    }

    /// Whether the gradient is the slope with its sign turned: at two lengths or more the loss rises by what it should have
    /// fallen by, and falls by that the other way. A gradient that is another one on purpose, past a stop of gradients as
    /// under a codebook, may point the other way, too, and is no mirror.
    fn is_mirrored(&self) -> bool {
        let mirrored = |promise: f64, against: f64, along: f64| {
            let allowed = MIRRORED * promise;
            4.0 * self.rounding <= allowed
                && (against + promise).abs() <= allowed
                && (along - promise).abs() <= allowed
        };
        !self.falls && self.count(mirrored) >= 2
    }

    fn count(&self, holds: impl Fn(f64, f64, f64) -> bool) -> usize {
        let pairs = self.steps.iter().zip(&self.against);
        pairs.filter(|((promise, against), (_, along))| holds(*promise, *against, *along)).count()
    }
}

/// What a mirrored slope may be off by, as a share of the promised fall: what a right one may in f32. The codebooks of 300
/// autoencoders had slopes of -86 % to -110 % of their gradients where they were near a mirror.
const MIRRORED: f64 = 0.02;

/// What a function without a slope may move by, as a share of the promised fall.
const STILL: f64 = 0.005;

/// Steps of the given variables together, each against its gradient and all of one relative length.
pub(super) fn try_steps(
    place: &Place<'_, '_>,
    slopes: &[&Slope],
    loss: f64,
    rounding: f64,
) -> Result<Tried> {
    let mut tried =
        Tried { steps: Vec::new(), against: Vec::new(), falls: false, flat: false, rounding };
    let size = slopes.iter().map(|s| s.size * s.size).sum::<f64>().sqrt();
    let length = slopes.iter().map(|s| s.length * s.length).sum::<f64>().sqrt();
    for at in 0..LENGTHS {
        let step = LONGEST * SHORTER.powi(at as i32) * size / length;
        let promise = step * length * length;
        if promise <= ABOVE_ROUNDING * rounding {
            break;
        }
        let fall = loss - moved_loss(place, slopes, -step)?;
        if fall >= KEPT * promise && fall > 4.0 * rounding {
            tried.falls = true;
            tried.steps.push((promise, fall));
            return Ok(tried);
        }
        let along = loss - moved_loss(place, slopes, step)?;
        // A step that leaves the loss as it is passes no step of a staircase.
        if fall.abs() > 4.0 * rounding {
            tried.steps.push((promise, fall));
            tried.against.push((promise, along));
        }
        if 4.0 * rounding <= STILL * promise {
            tried.flat = fall.abs() <= 4.0 * rounding;
        }
    }
    Ok(tried)
}

/// Whether the loss jumps somewhere as one variable goes along its gradient. What is right on this side of a jump is an
/// accident of where the jumps are.
fn jumps_far(place: &Place<'_, '_>, slope: &Slope, rounding: f64) -> bool {
    let mut at = |way: f64| moved_loss(place, &[slope], way * slope.size / slope.length);
    // So far away a loss need not be defined.
    FAR.into_iter().any(|reach| jumps(&mut at, reach, 4.0 * rounding).unwrap_or(false))
}

fn moved_loss(place: &Place<'_, '_>, slopes: &[&Slope], step: f64) -> Result<f64> {
    let set = |slope: &Slope, step: f64| -> Result<()> {
        let values: Vec<f64> =
            slope.start.iter().zip(&slope.gradient).map(|(v, g)| v + step * g).collect();
        let value = Tensor::from_vec(values, slope.var.shape(), &candle_core::Device::Cpu)?
            .to_dtype(slope.var.dtype())?
            .to_device(slope.var.device())?;
        Ok(slope.var.set(&value)?)
    };
    slopes.iter().try_for_each(|slope| set(slope, step))?;
    let there = place.loss();
    slopes.iter().try_for_each(|slope| set(slope, 0.0))?;
    there
}

/// What each variable does alone.
pub(super) struct Alone {
    /// Those whose gradient points the wrong way.
    pub(super) reversed: Vec<String>,
    /// The first that lowered the loss.
    pub(super) falls: Option<Tried>,
    /// How many showed anything. In half precision a step of one variable is lost.
    pub(super) judged: usize,
}

pub(super) fn alone(
    place: &Place<'_, '_>,
    slopes: &[Slope],
    loss: f64,
    rounding: f64,
) -> Result<Alone> {
    let mut alone = Alone { reversed: Vec::new(), falls: None, judged: 0 };
    for slope in slopes.iter().filter(|slope| slope.is_fine()) {
        let tried = try_steps(place, &[slope], loss, rounding)?;
        alone.judged += usize::from(!tried.steps.is_empty());
        let reversed = match tried.flat {
            true => tried.is_reversed(),
            false => tried.is_mirrored() && !jumps_far(place, slope, rounding),
        };
        if reversed {
            alone.reversed.push(slope.name.clone());
        }
        if tried.falls {
            alone.falls = alone.falls.or(Some(tried));
        }
    }
    Ok(alone)
}
