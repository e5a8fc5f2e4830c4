//! Every assertion that applies to a model as it is, beside the one that its entry is for.
//!
//! `assert_healthy!` runs the rest of them: finite values, modes, dependence, gradients, the first loss, a fit.

use candle_nn::{AdamW, Optimizer};
use candling::{
    Failure, FailureKind, Result,
    candle_core::Error,
    check::{
        AccumulationEquivalent, Initialized, LearnsFromInput, LossDecreases, StepUpdates,
        TrainEvalModes,
    },
};

use super::{entry::Subject, optimizers::adam, steps::loops::free};

type Check = fn(&Subject) -> Result<()>;

/// By name. What cannot be asked of a model is `NotRun` or `Vacuous`.
const CHECKS: &[(&str, Check)] = &[
    ("initialized", initialized),
    ("train_eval_modes", train_eval_modes),
    ("loss_decreases", loss_decreases),
    ("step_updates", step_updates),
    ("accumulation_equivalent", accumulation_equivalent),
    ("learns_from_input", learns_from_input),
];

/// Where an assertion fails by right, and a user would not have it, by the entry's id.
const DECLARED: &[(&str, &str, &str)] = &[
    ("F18g", "accumulation_equivalent", "the loss compares pairs of rows"),
    ("E25", "accumulation_equivalent", "InfoNCE compares all rows"),
    ("E25b", "accumulation_equivalent", "InfoNCE compares all rows"),
    ("E26", "accumulation_equivalent", "NT-Xent compares all rows"),
    ("E28", "accumulation_equivalent", "Dice is a ratio of two sums over the batch"),
    ("G17", "step_updates", "evaluation reads averages, which plain AdamW does not move"),
];

/// The failures of a clean twin: false alarms, by the assertion's name.
pub(crate) fn alarms(id: &str, subject: &Subject) -> Vec<(&'static str, Failure)> {
    let declared = |name: &str| DECLARED.iter().any(|(at, check, _)| (*at, *check) == (id, name));
    let asked = CHECKS.iter().filter(|(name, _)| !declared(name));
    let failed = asked.filter_map(|(name, check)| match check(subject) {
        Err(failure) if failure.kind() == FailureKind::Violated => Some((*name, failure)),
        _ => None,
    });
    failed.collect()
}

/// Zeros are declared by name: a list of variables does not say which are meant.
fn initialized(subject: &Subject) -> Result<()> {
    let names = subject.learner.variables().iter().map(|(name, _)| name.clone());
    let options = Initialized::new().allow_zero(names);
    let options = subject.allowed.iter().fold(options, |o, cause| o.allow(*cause));
    options.check(subject.learner.variables()).map(drop)
}

fn train_eval_modes(subject: &Subject) -> Result<()> {
    let options = subject.allowed.iter().fold(TrainEvalModes::new(), |o, cause| o.allow(*cause));
    match subject.batch.input() {
        [x] => options.check(&subject.learner, x).map(drop),
        [a, b] => options.check(&subject.learner, &[a.clone(), b.clone()]).map(drop),
        _ => Ok(()),
    }
}

fn loss_decreases(subject: &Subject) -> Result<()> {
    let options = subject.allowed.iter().fold(LossDecreases::new(), |o, cause| o.allow(*cause));
    options.check(&subject.learner, &subject.batch).map(drop)
}

/// AdamW without decay, since the loss may hold a penalty. Half precision would swallow its steps.
fn step_updates(subject: &Subject) -> Result<()> {
    let (learner, batch) = (&subject.learner, &subject.batch);
    if learner
        .variables()
        .iter()
        .any(|(_, var)| var.dtype().is_float() && var.dtype().size_in_bytes() < 4)
    {
        return Ok(());
    }
    let loss = || learner.loss(batch).map_err(Error::wrap);
    let mut optimizer = AdamW::new(free(learner), adam(1e-3))?;
    let step = || optimizer.backward_step(&loss()?);
    let frozen = learner.variables().iter().filter(|(name, _)| learner.is_frozen(name));
    let options = StepUpdates::new().frozen(frozen.map(|(name, _)| name.clone())).loss(loss);
    let options = subject.allowed.iter().fold(options, |o, cause| o.allow(*cause));
    options.check(learner.variables(), step).map(drop)
}

fn accumulation_equivalent(subject: &Subject) -> Result<()> {
    let options =
        subject.allowed.iter().fold(AccumulationEquivalent::new(), |o, cause| o.allow(*cause));
    options.check(&subject.learner, &subject.batch).map(drop)
}

fn learns_from_input(subject: &Subject) -> Result<()> {
    let options = subject.allowed.iter().fold(LearnsFromInput::new(), |o, cause| o.allow(*cause));
    options.check(&subject.learner, &subject.batch).map(drop)
}
