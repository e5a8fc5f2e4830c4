//! One input or many.

use crate::Input;

/// What two functions are compared on: an [`Input`] (a tensor, `[Tensor; N]`), or a reference to one.
pub trait Inputs: cases::Cases {}

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
