//! A training on one batch, and what was seen on the way.

use candle_core::{Tensor, backprop::GradStore};

use super::{
    scan::is_finite,
    values::{norm, same_bits, scalar},
};
use crate::{
    Batch, Failure, Learner, Result, Snapshot,
    learner::{Evaluation, Seen, Stepper},
};

/// How long to train, and when to stop before that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) steps: usize,
    /// Stop as soon as the loss is at or below this.
    pub(crate) target: f64,
}

/// What a training was: its losses, its gradients, and where it ended.
pub(crate) struct Training {
    /// The loss before each step, and after the last.
    pub(crate) losses: Vec<f64>,
    /// The loss at the end in evaluation mode, where the learner has modes.
    pub(crate) evaluated: Option<f64>,
    /// Per trainable variable, in the learner's order.
    pub(crate) gradients: Vec<Gradient>,
    /// The model's output before the first step; `None` where the closure owns its data.
    pub(crate) first_output: Option<Tensor>,
    /// Whether a gradient could flow: the graph that output and loss carry.
    pub(crate) tracked: Tracked,
    /// Where the first value that is not finite was seen.
    pub(crate) broken: Option<Broken>,
    pub(crate) learning_rate: f64,
}

/// What one variable's gradient was.
#[derive(Clone, Debug)]
pub(crate) struct Gradient {
    pub(crate) name: String,
    /// Whether any step had one.
    pub(crate) arrived: bool,
    /// Its norm at the first step; `None` where there was none.
    pub(crate) first_norm: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tracked {
    pub(crate) output: bool,
    pub(crate) loss: bool,
}

/// The step at which the loss stopped being finite, and what else was not finite then.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Broken {
    pub(crate) step: usize,
    pub(crate) output: bool,
    /// Variables that are not finite, in the learner's order.
    pub(crate) variables: Vec<String>,
    /// Variables whose gradient of the step before was not finite.
    pub(crate) gradients: Vec<String>,
}

impl Training {
    pub(crate) fn steps(&self) -> usize {
        self.losses.len() - 1
    }

    pub(crate) fn first(&self) -> f64 {
        self.losses[0]
    }

    /// The loss at the end: in evaluation mode where that is lower, since dropout alone can hold the other up.
    pub(crate) fn last(&self) -> f64 {
        let last = self.losses[self.losses.len() - 1];
        self.evaluated.map_or(last, |evaluated| evaluated.min(last))
    }
}

/// In evaluation mode the loss is looked at every so many steps, and at the end.
const EVALUATE_EVERY: usize = 10;

/// Trains the learner's variables on the batch, in place. The caller keeps a snapshot.
pub(crate) fn train(
    learner: &Learner<'_>,
    batch: &Batch,
    plan: Plan,
    first: Evaluation,
    optimizer: &mut dyn Stepper,
) -> Result<Training> {
    let mut training = Training {
        losses: vec![scalar(&first.loss)?],
        evaluated: None,
        gradients: (learner.trainable())
            .map(|(name, _)| Gradient { name: name.to_owned(), arrived: false, first_norm: None })
            .collect(),
        tracked: Tracked {
            output: first.output.as_ref().is_some_and(Tensor::track_op),
            loss: first.loss.track_op(),
        },
        first_output: first.output.as_ref().map(Tensor::detach),
        broken: None,
        learning_rate: optimizer.learning_rate(),
    };
    let mut now = first;
    let mut grads: Option<GradStore> = None;
    for step in 0..=plan.steps {
        let loss = training.losses[step];
        if !loss.is_finite() {
            training.broken = Some(broken(learner, &now, grads.as_ref(), step)?);
            break;
        }
        let is_last = step == plan.steps;
        if learner.has_modes() && (is_last || step % EVALUATE_EVERY == 0) {
            let evaluated = learner.evaluate(batch, false).map_err(|f| at_step(f, step))?;
            training.evaluated = Some(scalar(&evaluated.loss)?);
        }
        if is_last || training.last() <= plan.target {
            break;
        }
        // Gradients and graph are as large as the model and its activations: none outlives its use, so that the
        // allocator hands the same memory out again, which is a good part of a step's time.
        drop(grads.take());
        let arrived = (now.loss.backward())
            .map_err(|e| at_step(Failure::from_candle("the backward pass", e), step))?;
        drop(now);
        (optimizer.step(&arrived))
            .map_err(|e| at_step(Failure::from_candle("the optimizer's step", e), step))?;
        note(&mut training.gradients, learner, &arrived, optimizer.seen(), step)?;
        grads = Some(arrived);
        now = learner.evaluate(batch, true).map_err(|f| at_step(f, step + 1))?;
        training.losses.push(scalar(&now.loss)?);
    }
    Ok(training)
}

/// Which gradients arrived, and their norms at the first step: from the optimizer's own pass where it made one.
fn note(
    gradients: &mut [Gradient],
    learner: &Learner<'_>,
    grads: &GradStore,
    seen: Option<&[Option<Seen>]>,
    step: usize,
) -> Result<()> {
    for (at, (gradient, (_, var))) in gradients.iter_mut().zip(learner.trainable()).enumerate() {
        let Some(arrived) = grads.get(var.as_tensor()) else {
            continue;
        };
        gradient.arrived = true;
        if step == 0 {
            gradient.first_norm = Some(match seen.and_then(|seen| seen[at]) {
                Some(seen) => seen.squared_norm.sqrt(),
                None => norm(arrived)?,
            });
        }
    }
    Ok(())
}

fn broken(
    learner: &Learner<'_>,
    now: &Evaluation,
    grads: Option<&GradStore>,
    step: usize,
) -> Result<Broken> {
    let mut broken = Broken {
        step,
        output: match &now.output {
            Some(output) => !is_finite(output)?,
            None => false,
        },
        variables: Vec::new(),
        gradients: Vec::new(),
    };
    for (name, var) in learner.variables() {
        if !is_finite(var.as_tensor())? {
            broken.variables.push(name.clone());
        }
        if let Some(grad) = grads.and_then(|grads| grads.get(var.as_tensor()))
            && !is_finite(grad)?
        {
            broken.gradients.push(name.clone());
        }
    }
    Ok(broken)
}

fn at_step(failure: Failure, step: usize) -> Failure {
    match step {
        0 => failure,
        _ => failure.fact("step", step.to_string()),
    }
}

/// The variables whose bits are not those of the snapshot.
pub(crate) fn moved_since(snapshot: &Snapshot) -> Result<Vec<String>> {
    let mut moved = Vec::new();
    for (name, var, before) in snapshot.values() {
        if !same_bits(var.as_tensor(), before)? {
            moved.push(name.to_owned());
        }
    }
    Ok(moved)
}
