//! The same values, lying otherwise in memory.

use candle_core::{Result, Tensor};

/// A way to lie in memory that is not row after row from the start of the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// Two dimensions change places in memory.
    Transposed(usize, usize),
    /// The first dimension lies innermost, the last outermost.
    Reversed,
    /// The last dimension lies outermost, the others as they are.
    LastOutermost,
    /// The first dimension lies innermost, the others as they are.
    FirstInnermost,
    /// A part, along one dimension, of a storage with other values on both sides.
    Narrowed(usize),
    /// Every second value of a storage, with another one after each.
    Strided,
}

impl View {
    /// Every view that a tensor of `rank` dimensions can have, each in another order or place.
    pub(crate) fn all(rank: usize) -> Vec<Self> {
        let mut views = Vec::new();
        for i in 0..rank {
            views.extend((i + 1..rank).map(|j| Self::Transposed(i, j)));
        }
        if rank > 2 {
            views.extend([Self::LastOutermost, Self::FirstInnermost]);
        }
        if rank > 3 {
            views.push(Self::Reversed);
        }
        views.extend((0..rank).map(Self::Narrowed));
        views.push(Self::Strided);
        views
    }

    /// What has to be stored, contiguous, so that [`seen`](Self::seen) of it has the values of `tensor`; `around` has the
    /// values that lie about it, in the dims of `tensor`. `None` where `tensor` cannot lie so, or would lie as before.
    pub(crate) fn stored(self, tensor: &Tensor, around: &Tensor) -> Result<Option<Tensor>> {
        let rank = tensor.rank();
        let moves = |dims: &[usize]| dims.iter().filter(|dim| tensor.dims()[**dim] > 1).count() > 1;
        Ok(match self {
            Self::Transposed(_, j) if j >= rank => None,
            Self::Transposed(i, j) if !moves(&[i, j]) => None,
            Self::Narrowed(dim) if dim >= rank => None,
            Self::Narrowed(dim) => Some(Tensor::cat(&[around, tensor, around], dim)?),
            Self::Strided => Some(Tensor::stack(&[tensor, around], rank)?),
            _ => match self.order(rank) {
                Some(order) if moves(&order) => Some(tensor.permute(order)?.force_contiguous()?),
                _ => None,
            },
        })
    }

    /// The view of what is stored. A step of the graph, where `stored` is a variable.
    pub(crate) fn seen(self, stored: &Tensor) -> Result<Tensor> {
        match self {
            Self::Narrowed(dim) => {
                let len = stored.dim(dim)? / 3;
                stored.narrow(dim, len, len)
            }
            Self::Strided => {
                let last = stored.rank() - 1;
                stored.narrow(last, 0, 1)?.squeeze(last)
            }
            _ => match self.order(stored.rank()) {
                Some(order) => {
                    let mut back = vec![0; order.len()];
                    order.iter().enumerate().for_each(|(place, dim)| back[*dim] = place);
                    stored.permute(back)
                }
                None => Ok(stored.clone()),
            },
        }
    }

    /// The dimensions from the outermost in memory to the innermost.
    fn order(self, rank: usize) -> Option<Vec<usize>> {
        let mut order: Vec<usize> = (0..rank).collect();
        match self {
            Self::Transposed(i, j) if j < rank => order.swap(i, j),
            Self::Reversed => order.reverse(),
            Self::LastOutermost if rank > 0 => order.rotate_right(1),
            Self::FirstInnermost if rank > 0 => order.rotate_left(1),
            _ => return None,
        }
        Some(order)
    }
}

/// The tensor with one row, or position, along `dim` in place of all: as a view of one, with a stride of 0, and with
/// each in its own place. `None` where there is only one.
pub(crate) fn repeated(tensor: &Tensor, dim: usize) -> Result<Option<(Tensor, Tensor)>> {
    if dim >= tensor.rank() || tensor.dims()[dim] < 2 {
        return Ok(None);
    }
    let view = tensor.narrow(dim, 0, 1)?.force_contiguous()?.broadcast_as(tensor.dims())?;
    let stored = view.force_contiguous()?;
    Ok(Some((view, stored)))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::measure::values::same_bits;

    #[test]
    fn every_view_has_the_values_and_lies_otherwise() -> Result<()> {
        for dims in [&[4][..], &[2, 3], &[2, 3, 4], &[2, 3, 4, 5], &[2, 3, 2, 2, 3]] {
            let x = Tensor::arange(0f32, dims.iter().product::<usize>() as f32, &Device::Cpu)?;
            let x = x.reshape(dims)?;
            let around = (&x + 1000.0)?;
            let mut seen = Vec::new();
            for view in View::all(dims.len()) {
                let stored = view.stored(&x, &around)?.expect("all dims are above 1");
                let lies = view.seen(&stored)?;
                assert!(same_bits(&x, &lies)?, "{view:?} of {dims:?}");
                assert!(!lies.is_contiguous() || view == View::Narrowed(0), "{view:?} of {dims:?}");
                let layout = lies.layout().clone();
                assert!(!seen.contains(&layout), "{view:?} of {dims:?} lies as another");
                seen.push(layout);
            }
            let (view, stored) = repeated(&x, dims.len() - 1)?.expect("more than one");
            assert!(same_bits(&view, &stored)? && !view.is_contiguous());
        }
        let row = Tensor::zeros((1, 3), candle_core::DType::F32, &Device::Cpu)?;
        assert!(View::Transposed(0, 1).stored(&row, &row)?.is_none());
        assert!(repeated(&row, 0)?.is_none());
        Ok(())
    }
}
