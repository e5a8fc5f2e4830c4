//! The checks on a learner's forward closure, each where it applies.

use candle_core::Tensor;

use crate::{
    Cause, Failure, FailureKind, Learner, Result,
    check::{
        BatchIndependent, Causal, Deterministic, TrainEvalModes, UsesInput, function::guarded,
    },
    learner::is_running_statistic,
    variables::{RestoreOnDrop, Snapshot},
};

pub(super) struct Functions<'f, 'a> {
    learner: &'f Learner<'a>,
    input: &'f [Tensor],
    allowed: &'f [Cause],
    /// A forward pass may move running statistics.
    _guard: RestoreOnDrop,
}

impl<'f, 'a> Functions<'f, 'a> {
    pub(super) fn new(
        learner: &'f Learner<'a>,
        input: &'f [Tensor],
        allowed: &'f [Cause],
    ) -> Result<Self> {
        let guard = Snapshot::take(learner.variables())?.guard();
        Ok(Self { learner, input, allowed, _guard: guard })
    }

    fn forward(&self, input: &[Tensor]) -> Result<Tensor> {
        guarded("the forward closure", || self.learner.output(input, false))
    }

    /// Active dropout in a closure without modes is one of training.
    pub(super) fn deterministic(&self) -> Option<Result<()>> {
        let options = self.allowed.iter().fold(Deterministic::new(), |o, cause| o.allow(*cause));
        let outcome = options.judge(&mut |x| self.forward(x), self.input).map(drop);
        let random = |f: &Failure| f.cause() == Some(Cause::DropoutInEval);
        applicable(outcome).filter(|outcome| match outcome {
            Err(failure) => self.learner.has_modes() || !random(failure),
            Ok(()) => true,
        })
    }

    /// Batch norm in a closure without modes may be in training mode, where it mixes rows by design. A model may be made
    /// for the very batch it trains on, so that other sizes are not asked for.
    pub(super) fn batch_independent(&self) -> Option<Result<()>> {
        let names = self.learner.variables().iter().map(|(name, _)| name);
        if !self.learner.has_modes() && names.into_iter().any(|name| is_running_statistic(name)) {
            return None;
        }
        let options = BatchIndependent::new().allow(Cause::BatchSizeFixed);
        let options = self.allowed.iter().fold(options, |o, cause| o.allow(*cause));
        applicable(options.run(&mut |x| self.forward(x), self.input).map(drop))
    }

    /// Token ids may be padding, and of several inputs one may mask another: what such an input does not move is no fault.
    /// Nor are the last lines of an image that a convolution moving in steps does not reach; nor is an output that nothing
    /// moves before training: heads and gates that start at zero are intended.
    pub(super) fn uses_input(&self) -> Option<Result<()>> {
        match self.input {
            [only] if only.dtype().is_float() => {
                let options = UsesInput::new().may_cut_ends();
                let options = self.allowed.iter().fold(options, |o, cause| o.allow(*cause));
                let constant = |f: &Failure| f.cause() == Some(Cause::OutputConstant);
                applicable(options.run(&mut |x| self.forward(x), self.input).map(drop))
                    .filter(|outcome| !outcome.as_ref().is_err_and(constant))
            }
            _ => None,
        }
    }

    /// Asked for: whatever keeps it from being judged is told.
    pub(super) fn causal(&self) -> Result<()> {
        let options = self.allowed.iter().fold(Causal::new(), |o, cause| o.allow(*cause));
        options.run(&mut |x| self.forward(x), self.input).map(drop)
    }

    /// No rate of dropout is declared here: numbers of known mistakes fail alone.
    pub(super) fn train_eval_modes(&self) -> Option<Result<()>> {
        if !self.learner.has_modes() {
            return None;
        }
        let options = self.allowed.iter().fold(TrainEvalModes::new(), |o, cause| o.allow(*cause));
        applicable(options.run(self.learner, self.input).map(drop))
    }
}

/// A check that proves nothing here, or cannot run, does not apply.
pub(super) fn applicable(outcome: Result<()>) -> Option<Result<()>> {
    match &outcome {
        Err(failure) if failure.kind() != FailureKind::Violated => None,
        _ => Some(outcome),
    }
}
