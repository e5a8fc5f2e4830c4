//! What the corpus is made of: a bug beside its clean twin.

use candling::{
    Batch, Cause, Failure, Input, Learner, Result, Seed,
    candle_core::{self, Tensor},
    check::{self, Healthy, OverfitsBatch},
};

use super::property::{Beside, Property};

/// One bug of the master list, and the same model without it.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    /// The bug's id in the master list.
    pub(crate) id: &'static str,
    pub(crate) group: &'static str,
    /// The bug in one sentence.
    pub(crate) bug: &'static str,
    /// What the bug is: the cause that a perfect diagnosis puts first.
    pub(crate) cause: Cause,
    pub(crate) assertion: Assertion,
    pub(crate) buggy: fn(Seed) -> Result<Subject>,
    pub(crate) clean: fn(Seed) -> Result<Subject>,
    /// No assertion of today sees the bug; the one that will.
    pub(crate) missed_today: Option<&'static str>,
}

/// The assertion that a user would have in the test of such a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Assertion {
    OverfitsBatch,
    /// On the two tensors that the model's own test compares.
    Close,
    GradientsFlow,
    /// Against finite differences: for models with a backward pass written by hand, or operations of doubt.
    GradientsCorrect,
    UnitsAlive,
    /// On the forward pass, or on the part of the model that [`Subject::part`] names; with what stands beside it.
    Property(Property),
    /// The test that the subject brings, since it needs what only the user's code has: a step, a pipeline, a loss. It
    /// is of the assertion that is named.
    Test(&'static str),
    /// Everything that applies, by one assertion.
    Healthy,
}

/// One half of an entry: what assertions are given. It owns its model.
pub(crate) struct Subject {
    pub(crate) learner: Learner<'static>,
    pub(crate) batch: Batch,
    /// The loss of a fitted batch, where the loss has no floor at zero and a user has to name it.
    pub(crate) loss_below: Option<f64>,
    /// A result of the user's own code, and what it must be.
    pub(crate) compared: Option<(Tensor, Tensor)>,
    /// What a property is asserted of, where it is not the forward pass on the batch: a part of the model, and its input.
    pub(crate) part: Option<(Forward, Tensor)>,
    /// What the property is about, beside the function and its input.
    pub(crate) beside: Beside,
    /// The user's own test, for [`Assertion::Test`].
    pub(crate) test: Option<Test>,
    /// Intended here, and declared as such in the test.
    pub(crate) allowed: Vec<Cause>,
}

/// What a test asserts of the subject's learner and batch, and of what it holds itself.
pub(crate) type Test = Box<dyn Fn(&Learner<'static>, &Batch) -> Result<()>>;
pub(crate) type Forward = Box<dyn Fn(&Tensor) -> candle_core::Result<Tensor>>;

impl Subject {
    pub(crate) fn new(learner: Learner<'static>, batch: impl Into<Batch>) -> Self {
        Self {
            learner,
            batch: batch.into(),
            loss_below: None,
            compared: None,
            part: None,
            beside: Beside::Nothing,
            test: None,
            allowed: Vec::new(),
        }
    }

    /// For a learner whose closure owns its data.
    pub(crate) fn owning(learner: Learner<'static>) -> Self {
        Self::new(learner, ())
    }

    /// For a model that is not trained here: its weights are from a file, or its layers have no backward pass.
    pub(crate) fn inference<I: Input + 'static>(
        input: I,
        forward: impl FnMut(&I) -> candle_core::Result<Tensor> + 'static,
    ) -> Self {
        let unused = input.members()[0].clone();
        Self::new(Learner::forward_only(forward), (input, unused))
    }

    pub(crate) fn part(
        mut self,
        input: Tensor,
        f: impl Fn(&Tensor) -> candle_core::Result<Tensor> + 'static,
    ) -> Self {
        self.part = Some((Box::new(f), input));
        self
    }

    pub(crate) fn test<T>(
        mut self,
        test: impl Fn(&Learner<'static>, &Batch) -> Result<T> + 'static,
    ) -> Self {
        self.test = Some(Box::new(move |learner, batch| test(learner, batch).map(drop)));
        self
    }

    pub(crate) fn beside(mut self, beside: Beside) -> Self {
        self.beside = beside;
        self
    }

    pub(crate) fn allow(mut self, cause: Cause) -> Self {
        self.allowed.push(cause);
        self
    }

    pub(crate) fn compared(mut self, actual: Tensor, expected: Tensor) -> Self {
        self.compared = Some((actual, expected));
        self
    }

    pub(crate) fn loss_below(mut self, loss: f64) -> Self {
        self.loss_below = Some(loss);
        self
    }
}

impl Assertion {
    pub(crate) fn check(self, subject: &Subject) -> Result<()> {
        let Subject { learner, batch, .. } = subject;
        match self {
            Self::OverfitsBatch => {
                let mut options = OverfitsBatch::new();
                if let Some(loss) = subject.loss_below {
                    options = options.loss_below(loss);
                }
                options.check(learner, batch).map(drop)
            }
            Self::Close => {
                let (actual, expected) =
                    subject.compared.as_ref().expect("an entry for `close` has two tensors");
                check::Close::new().check(actual, expected).map(drop)
            }
            Self::GradientsFlow => check::GradientsFlow::new().check(learner, batch).map(drop),
            Self::GradientsCorrect => {
                check::GradientsCorrect::new().check(learner, batch).map(drop)
            }
            Self::UnitsAlive => check::UnitsAlive::new().check(learner, batch).map(drop),
            Self::Property(property) => property.check(subject),
            Self::Test(name) => match &subject.test {
                Some(test) => test(learner, batch),
                None => panic!("an entry for `{name}` has no test"),
            },
            Self::Healthy => {
                let allowed = subject.allowed.iter();
                let mut options = allowed.fold(Healthy::new(), |o, cause| o.allow(*cause));
                // It takes no target of the loss: a user leaves that check out of it.
                if subject.loss_below.is_some() {
                    options = options.skip(["overfits_batch"]);
                }
                options.check(learner, batch).map(drop)
            }
        }
    }
}

/// How an assertion took one half.
pub(crate) enum Verdict {
    Passed,
    Failed(Failure),
    /// candle panicked under the assertion, as its integer arithmetic does in the dev profile: red, and unnamed.
    Panicked,
}

impl Verdict {
    /// Builds a half and asserts on it. The half is built anew: an assertion may leave its model's own state changed.
    pub(crate) fn of(
        assertion: Assertion,
        half: fn(Seed) -> Result<Subject>,
        seed: Seed,
    ) -> Verdict {
        let run = || half(seed).and_then(|subject| assertion.check(&subject));
        match std::panic::catch_unwind(run) {
            Ok(Ok(())) => Self::Passed,
            Ok(Err(failure)) => Self::Failed(failure),
            Err(_) => Self::Panicked,
        }
    }

    /// Whether a buggy half's verdict counts as caught: a closure's plain error is no catch of the assertion's.
    pub(crate) fn is_caught(&self) -> bool {
        match self {
            Self::Passed => false,
            Self::Failed(failure) => {
                failure.kind() != candling::FailureKind::NotRun || failure.cause().is_some()
            }
            Self::Panicked => true,
        }
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        match self {
            Self::Failed(failure) => failure.cause(),
            _ => None,
        }
    }

    /// Whether a gradient that was cut is taken for an unused variable, or the other way round, in any finding.
    pub(crate) fn confuses(&self, cause: Cause) -> bool {
        let other = match cause {
            Cause::GradientCut => Cause::VariableUnused,
            Cause::VariableUnused => Cause::GradientCut,
            _ => return false,
        };
        match self {
            Self::Failed(failure) => failure.findings().iter().any(|f| f.cause() == other),
            _ => false,
        }
    }

    pub(crate) fn passed(&self) -> bool {
        matches!(self, Self::Passed)
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Passed => "passed".to_owned(),
            Self::Failed(failure) => failure.text(),
            Self::Panicked => "panicked".to_owned(),
        }
    }
}
