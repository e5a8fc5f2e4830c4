//! One input or many.

use candle_core::Tensor;

use crate::{Failure, Input, Result};

/// What a function is judged on: an [`Input`] (a tensor, `[Tensor; N]`), or many of them, drawn by a strategy of
/// `candling::strategies`.
///
/// A strategy's cases are pure functions of the strategy: the same on every run. A failure is that of the smallest case
/// found that fails in the same way, and carries the line of Rust that makes it again. The report is the last case's.
pub trait Inputs: cases::Cases {}

/// Judges every case of `inputs`; the last one's report.
pub(crate) fn judged<R>(
    inputs: &impl Inputs,
    judge: &mut dyn FnMut(&[Tensor]) -> Result<R>,
) -> Result<R> {
    let mut last = None;
    inputs.judge_each(&mut |x| {
        last = Some(judge(x)?);
        Ok(())
    })?;
    last.ok_or_else(|| Failure::vacuous("there was no input to judge"))
}

pub(crate) mod cases {
    use candle_core::Tensor;

    use crate::{Input, Result};

    /// Cases to be judged one by one. Not for other crates: what makes cases also shrinks them.
    pub trait Cases {
        /// What the functions take.
        type Input: Input;

        /// Judges every case up to the first that fails, and says how many there were. A failure of many cases carries
        /// the simplest that still fails, and what leads back to it.
        fn judge_each(&self, judge: &mut dyn FnMut(&[Tensor]) -> Result<()>) -> Result<usize>;
    }
}

macro_rules! one_input {
    ($([$($generic:tt)*] $input:ty)*) => {
        $(
            impl<$($generic)*> Inputs for $input {}

            impl<$($generic)*> cases::Cases for $input {
                type Input = Self;

                fn judge_each(
                    &self,
                    judge: &mut dyn FnMut(&[candle_core::Tensor]) -> crate::Result<()>,
                ) -> crate::Result<usize> {
                    judge(self.members()).map(|()| 1)
                }
            }
        )*
    };
}

one_input! {
    [] candle_core::Tensor
    [const N: usize] [candle_core::Tensor; N]
}

#[cfg(feature = "proptest")]
mod drawn {
    use candle_core::Tensor;

    use super::{Inputs, cases};
    use crate::{
        Result, Seed,
        strategies::{Group, Tensors},
    };

    impl Inputs for Tensors {}

    impl cases::Cases for Tensors {
        type Input = Tensor;

        fn judge_each(&self, judge: &mut dyn FnMut(&[Tensor]) -> Result<()>) -> Result<usize> {
            self.group().judge_each(Seed::new(0), judge)
        }
    }

    impl<const N: usize> Inputs for Group<[Tensor; N]> {}

    impl<const N: usize> cases::Cases for Group<[Tensor; N]> {
        type Input = [Tensor; N];

        fn judge_each(&self, judge: &mut dyn FnMut(&[Tensor]) -> Result<()>) -> Result<usize> {
            Group::judge_each(self, Seed::new(0), judge)
        }
    }
}

impl<X: Inputs> Inputs for &X {}

impl<X: Inputs> cases::Cases for &X {
    type Input = X::Input;

    fn judge_each(
        &self,
        judge: &mut dyn FnMut(&[candle_core::Tensor]) -> crate::Result<()>,
    ) -> crate::Result<usize> {
        (**self).judge_each(judge)
    }
}
