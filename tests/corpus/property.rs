//! The assertions on dependence and on properties: those that take a function and its input.

use candling::{
    Input, Result,
    candle_core::{self, Tensor},
    check::{self, Side},
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
            (Some((f, x)), _) => self.of_tensor(subject, |x: &Tensor| f(x), x),
            (None, [x]) => self.of_tensor(subject, |x: &Tensor| forward(subject, x), x),
            (None, [x, _]) if self.is_of_padding() => {
                let masked =
                    |x: &Tensor, mask: &Tensor| forward(subject, &[x.clone(), mask.clone()]);
                let side = match self {
                    Self::LeftPaddingInvariant => Side::Left,
                    _ => Side::Right,
                };
                check::PaddingInvariant::new().side(side).check(masked, x).map(drop)
            }
            (None, [a, b]) => {
                let x = [a.clone(), b.clone()];
                self.of(subject, |x: &[Tensor; 2]| forward(subject, x), &x)
            }
            (None, members) => panic!("no entry has a model of {} inputs", members.len()),
        }
    }

    fn of_tensor(
        self,
        subject: &Subject,
        f: impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
        x: &Tensor,
    ) -> Result<()> {
        match (self, &subject.beside) {
            (Self::CacheConsistent, Beside::Step(step)) => {
                check::CacheConsistent::new().check(f, step, x).map(drop)
            }
            (Self::Invariant, Beside::Change(change)) => {
                check::Invariant::new().check(f, x, change).map(drop)
            }
            (Self::Equivariant, Beside::Changes(change, output)) => {
                check::Equivariant::new().check(f, x, (change, output)).map(drop)
            }
            (Self::Equivalent, Beside::Other(other)) => {
                check::Equivalent::new().check(f, other, x).map(drop)
            }
            (Self::Sensitive, Beside::Change(change)) => {
                check::Sensitive::new().every_row(true).check(f, x, change).map(drop)
            }
            _ => self.of(subject, f, x),
        }
    }

    fn of<I: Input>(
        self,
        subject: &Subject,
        f: impl FnMut(&I) -> candle_core::Result<Tensor>,
        x: &I,
    ) -> Result<()> {
        match (self, &subject.beside) {
            (Self::BatchIndependent, _) => {
                let allowed = subject.allowed.iter();
                let options = allowed.fold(check::BatchIndependent::new(), |o, c| o.allow(*c));
                options.check(f, x).map(drop)
            }
            (Self::Causal, _) => check::Causal::new().check(f, x).map(drop),
            (Self::StrictlyCausal, _) => check::Causal::new().strict(true).check(f, x).map(drop),
            (Self::Dependence, Beside::Allowed(mask)) => {
                check::Dependence::new().check(f, x, mask).map(drop)
            }
            (Self::UsesInput, _) => check::UsesInput::new().check(f, x).map(drop),
            (Self::PositionSensitive, _) => check::PositionSensitive::new().check(f, x).map(drop),
            (Self::Deterministic, _) => {
                let allowed = subject.allowed.iter();
                let options = allowed.fold(check::Deterministic::new(), |o, c| o.allow(*c));
                options.check(f, x).map(drop)
            }
            (Self::LayoutInvariant, _) => check::LayoutInvariant::new().check(f, x).map(drop),
            (Self::Nonlinear, _) => check::Nonlinear::new().check(f, x).map(drop),
            _ => panic!("an entry for {self:?} lacks what it is about"),
        }
    }

    fn is_of_padding(self) -> bool {
        matches!(self, Self::PaddingInvariant | Self::LeftPaddingInvariant)
    }
}

fn forward<I: Input>(subject: &Subject, x: &I) -> candle_core::Result<Tensor> {
    subject.learner.forward(x).map_err(|failure| candle_core::Error::msg(failure.text()))
}
