//! One tensor's values in memory, several ways.

use candle_core::{D, DType, Device, Tensor};

use crate::Failure;

/// How a tensor lies in memory. From simple to not: a failing property shrinks to the first that still fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// Row after row, the storage to itself.
    Contiguous,
    /// A slice in the last dimension of a larger tensor: it starts behind the beginning of its storage, and its rows have
    /// gaps. What surrounds it is NaN, or the largest integer of its dtype, so that a read outside of it is seen.
    Narrowed,
    /// The last two dimensions swapped in memory: `x.t()?.contiguous()?.t()?`.
    Transposed,
    /// One row expanded over the first dimension, whose stride is 0. All rows are then equal to the first one.
    Broadcast,
}

impl Layout {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Contiguous, Self::Narrowed, Self::Transposed, Self::Broadcast];

    /// The tensor in this layout, with the same dimensions and values; by [`Broadcast`](Layout::Broadcast) with the first
    /// row in place of every other.
    ///
    /// A tensor without elements stays as it is; a dimension of size 1 leaves fewer gaps.
    ///
    /// ```
    /// use candling::{prelude::*, strategies::Layout};
    ///
    /// let x = Seed::new(1).normal("x", (2, 3), DType::F32, &Device::Cpu)?;
    /// let transposed = Layout::Transposed.of(&x)?;
    /// assert!(!transposed.is_contiguous());
    /// assert_close!(transposed, x, tolerance = Tolerance::exact());
    /// # candling::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// A tensor of too low a rank: `Transposed` needs two dimensions, `Narrowed` and `Broadcast` one.
    pub fn of(self, tensor: &Tensor) -> candle_core::Result<Tensor> {
        if !self.fits(tensor.rank()) {
            let failure = Failure::bad_argument(
                "tensor",
                format_args!("of rank {}", tensor.rank()),
                format_args!("rank {} or more for {self:?}", self.lowest_rank()),
            );
            return Err(candle_core::Error::Msg(failure.headline().to_owned()));
        }
        if tensor.elem_count() == 0 {
            return Ok(tensor.clone());
        }
        match self {
            Self::Contiguous => tensor.contiguous(),
            Self::Narrowed => {
                let mut border = tensor.dims().to_vec();
                border.pop();
                border.push(1);
                let border = Tensor::full(unlikely(tensor.dtype()), border, &Device::Cpu)?
                    .to_dtype(tensor.dtype())?
                    .to_device(tensor.device())?;
                Tensor::cat(&[&border, &tensor.contiguous()?, &border], D::Minus1)?.narrow(
                    D::Minus1,
                    1,
                    tensor.dim(D::Minus1)?,
                )
            }
            Self::Transposed => tensor.t()?.contiguous()?.t(),
            Self::Broadcast => tensor.narrow(0, 0, 1)?.contiguous()?.broadcast_as(tensor.shape()),
        }
    }

    fn lowest_rank(self) -> usize {
        match self {
            Self::Contiguous => 0,
            Self::Narrowed | Self::Broadcast => 1,
            Self::Transposed => 2,
        }
    }

    pub(super) fn fits(self, rank: usize) -> bool {
        rank >= self.lowest_rank()
    }
}

/// A value that no result of finite numbers, and no index, survives.
fn unlikely(dtype: DType) -> f64 {
    match dtype {
        DType::U8 => u8::MAX.into(),
        DType::U32 => u32::MAX.into(),
        _ if dtype.is_float() => f64::NAN,
        // The cast saturates at the largest of the dtype.
        _ => i64::MAX as f64,
    }
}
