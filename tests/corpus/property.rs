//! The assertions on dependence and on properties: those that take a function and its input.

use candling::{
    Input, Result,
    candle_core::{self, Tensor},
};

use super::entry::{Forward, Subject};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Property {
    BatchIndependent,
    Causal,
    /// An output may not depend on the input at its own position either.
    StrictlyCausal,
    Dependence,
    UsesInput,
    CacheConsistent,
    PaddingInvariant,
    /// With the padding before what is real.
    LeftPaddingInvariant,
    PositionSensitive,
    Invariant,
    Equivariant,
    Equivalent,
    Sensitive,
    Deterministic,
    LayoutInvariant,
    Nonlinear,
}

/// A pass with a cache: the tokens, and how many came before them.
pub(crate) type Step = Box<dyn Fn(&Tensor, usize) -> candle_core::Result<Tensor>>;

/// What a property is about, beside the function and its input.
pub(crate) enum Beside {
    Nothing,
    /// Which outputs may depend on which inputs.
    Allowed(Tensor),
    Step(Step),
    /// Another implementation of the function.
    Other(Forward),
    /// What is done to the input.
    Change(Forward),
    /// What is done to the input, and what the output then does.
    Changes(Forward, Forward),
}

impl Property {
    pub(crate) fn check(self, subject: &Subject) -> Result<()> {
        match (&subject.part, subject.batch.input()) {
            (Some((f, x)), _) => self.of(subject, |x: &Tensor| f(x), x),
            (None, [x]) => self.of(subject, |x: &Tensor| forward(subject, x), x),
            (None, [a, b]) => {
                let x = [a.clone(), b.clone()];
                self.of(subject, |x: &[Tensor; 2]| forward(subject, x), &x)
            }
            (None, members) => panic!("no entry has a model of {} inputs", members.len()),
        }
    }

    fn of<I: Input>(
        self,
        subject: &Subject,
        f: impl FnMut(&I) -> candle_core::Result<Tensor>,
        x: &I,
    ) -> Result<()> {
        let first = &x.members()[0];
        let _ = (subject, f, first);
        Err(candle_core::Error::Msg("not there yet".to_owned()).into())
    }
}

fn forward<I: Input>(subject: &Subject, x: &I) -> candle_core::Result<Tensor> {
    subject.learner.forward(x).map_err(|failure| candle_core::Error::msg(failure.text()))
}
