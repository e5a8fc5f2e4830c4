//! What goes into a model, and a batch of it.

use candle_core::Tensor;

use crate::inputs::{Inputs, cases::Cases};

/// What a model takes: one tensor, or several (`[ids, mask]`), each with the batch as its first dimension.
///
/// Checks that perturb an input perturb every member together, so a model with several inputs is still seen row by row.
pub trait Input: Clone + sealed::Sealed + Inputs + Cases<Input = Self> {
    /// The tensors, in order.
    fn members(&self) -> &[Tensor];

    /// The inverse of [`members`](Input::members); `None` where the number of tensors is another.
    fn from_members(members: &[Tensor]) -> Option<Self>;
}

impl Input for Tensor {
    fn members(&self) -> &[Tensor] {
        std::slice::from_ref(self)
    }

    fn from_members(members: &[Tensor]) -> Option<Self> {
        match members {
            [only] => Some(only.clone()),
            _ => None,
        }
    }
}

impl<const N: usize> Input for [Tensor; N] {
    fn members(&self) -> &[Tensor] {
        self
    }

    fn from_members(members: &[Tensor]) -> Option<Self> {
        members.to_vec().try_into().ok()
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for candle_core::Tensor {}
    impl<const N: usize> Sealed for [candle_core::Tensor; N] {}
}

/// An input and its targets: `(&x, &y)`, `(&[ids, mask], &y)`, or `()` for a learner whose closure owns its data.
///
/// Tensors are handles: a batch shares their storage.
#[derive(Clone, Debug)]
pub struct Batch {
    input: Vec<Tensor>,
    target: Option<Tensor>,
}

impl Batch {
    fn new<I: Input>(input: &I, target: &Tensor) -> Self {
        Self { input: input.members().to_vec(), target: Some(target.clone()) }
    }

    /// The members of the input; empty for `()`.
    pub fn input(&self) -> &[Tensor] {
        &self.input
    }

    /// The targets; `None` for `()`.
    pub fn target(&self) -> Option<&Tensor> {
        self.target.as_ref()
    }

    /// The number of rows: the first dimension of the input. `None` for `()` and for a scalar input.
    pub fn rows(&self) -> Option<usize> {
        self.input.first()?.dims().first().copied()
    }

    pub(crate) fn of_members(input: Vec<Tensor>, target: Tensor) -> Self {
        Self { input, target: Some(target) }
    }

    pub(crate) fn with_input(&self, input: Vec<Tensor>) -> Self {
        Self { input, target: self.target.clone() }
    }
}

impl<I: Input> From<(&I, &Tensor)> for Batch {
    fn from((input, target): (&I, &Tensor)) -> Self {
        Self::new(input, target)
    }
}

impl<I: Input> From<&(&I, &Tensor)> for Batch {
    fn from((input, target): &(&I, &Tensor)) -> Self {
        Self::new(*input, target)
    }
}

impl<I: Input> From<(I, Tensor)> for Batch {
    fn from((input, target): (I, Tensor)) -> Self {
        Self::new(&input, &target)
    }
}

impl<I: Input> From<&(I, Tensor)> for Batch {
    fn from((input, target): &(I, Tensor)) -> Self {
        Self::new(input, target)
    }
}

impl From<()> for Batch {
    fn from((): ()) -> Self {
        Self { input: Vec::new(), target: None }
    }
}

impl From<&Batch> for Batch {
    fn from(batch: &Batch) -> Self {
        batch.clone()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn every_spelling_of_a_batch_is_the_same_batch() -> candle_core::Result<()> {
        let x = Tensor::zeros((3, 2), DType::F32, &Device::Cpu)?;
        let y = Tensor::zeros(3, DType::U32, &Device::Cpu)?;
        let pair = (x.clone(), y.clone());
        for batch in [
            Batch::from((&x, &y)),
            Batch::from(&(&x, &y)),
            Batch::from(&pair),
            Batch::from(pair.clone()),
            Batch::from((&[x.clone(), x.clone()], &y)),
        ] {
            assert_eq!(batch.rows(), Some(3));
            assert_eq!(batch.target().map(Tensor::dims), Some(&[3][..]));
        }
        assert_eq!(Batch::from(()).rows(), None);
        Ok(())
    }

    #[test]
    fn members_make_the_input_again_only_in_the_right_number() -> candle_core::Result<()> {
        let x = Tensor::zeros((3, 2), DType::F32, &Device::Cpu)?;
        let two = [x.clone(), x.clone()];
        assert!(<[Tensor; 2]>::from_members(two.members()).is_some());
        assert!(<[Tensor; 3]>::from_members(two.members()).is_none());
        assert!(Tensor::from_members(two.members()).is_none());
        Ok(())
    }
}
