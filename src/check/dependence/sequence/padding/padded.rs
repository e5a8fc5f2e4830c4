//! Inputs with padding, and their masks.

use candle_core::{DType, Device, Result, Tensor};

use crate::measure::values::to_f64_vec;

/// Real rows of some lengths in a batch of one width.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// How many real positions each row has.
    pub(super) lengths: Vec<usize>,
    pub(super) width: usize,
    pub(super) left: bool,
}

impl Layout {
    /// Where the real positions of a row begin.
    pub(super) fn start(&self, row: usize) -> usize {
        if self.left { self.width - self.lengths[row] } else { 0 }
    }

    pub(super) fn mask(&self, dtype: DType, device: &Device) -> Result<Tensor> {
        let rows = (0..self.lengths.len()).flat_map(|row| {
            let real = self.start(row)..self.start(row) + self.lengths[row];
            (0..self.width).map(move |at| u8::from(real.contains(&at)))
        });
        let mask: Vec<u8> = rows.collect();
        Tensor::from_vec(mask, (self.lengths.len(), self.width), device)?.to_dtype(dtype)
    }

    /// The first positions of each row of `x`, with `pad` around them, of the width.
    pub(super) fn padded(&self, x: &Tensor, pad: &Pad<'_>) -> Result<Tensor> {
        let rows = (0..self.lengths.len()).map(|row| {
            let real = x.narrow(0, row, 1)?.narrow(1, 0, self.lengths[row])?;
            let missing = self.width - self.lengths[row];
            if missing == 0 {
                return real.contiguous();
            }
            let padding = pad.of(x, row, missing)?;
            match self.left {
                true => Tensor::cat(&[&padding, &real], 1),
                false => Tensor::cat(&[&real, &padding], 1),
            }
        });
        Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)?.contiguous()
    }
}

/// What stands in the padding.
pub(super) enum Pad<'p> {
    Value(f64),
    /// Values of another input of the shape, over and over.
    Other(&'p Tensor),
}

impl Pad<'_> {
    /// `[1, positions, ..]`.
    fn of(&self, x: &Tensor, row: usize, positions: usize) -> Result<Tensor> {
        let mut dims = x.dims().to_vec();
        (dims[0], dims[1]) = (1, positions);
        let count = dims.iter().product();
        let values = match self {
            Self::Value(value) => vec![*value; count],
            Self::Other(other) => {
                let own = to_f64_vec(&other.narrow(0, row, 1)?)?;
                own.into_iter().cycle().take(count).collect()
            }
        };
        let values = Tensor::from_vec(values, dims, &Device::Cpu)?;
        let values = match x.dtype() {
            // candle converts f64 to every format but the narrowest.
            DType::F8E4M3 => values.to_dtype(DType::F32)?.to_dtype(DType::F8E4M3)?,
            dtype => values.to_dtype(dtype)?,
        };
        values.to_device(x.device())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_and_padded_on_either_side() -> Result<()> {
        let x = Tensor::new(&[[1u32, 2, 3], [4, 5, 6]], &Device::Cpu)?;
        let other = (&x * 10.)?;
        let mut layout = Layout { lengths: vec![3, 1], width: 4, left: false };
        let ids = |layout: &Layout, pad| layout.padded(&x, &pad)?.to_vec2::<u32>();
        let mask = |layout: &Layout| layout.mask(DType::U8, &Device::Cpu)?.to_vec2::<u8>();
        assert_eq!(ids(&layout, Pad::Value(9.0))?, [[1, 2, 3, 9], [4, 9, 9, 9]]);
        assert_eq!(ids(&layout, Pad::Other(&other))?, [[1, 2, 3, 10], [4, 40, 50, 60]]);
        assert_eq!(mask(&layout)?, [[1, 1, 1, 0], [1, 0, 0, 0]]);
        layout.left = true;
        assert_eq!(ids(&layout, Pad::Value(9.0))?, [[9, 1, 2, 3], [9, 9, 9, 4]]);
        assert_eq!(mask(&layout)?, [[0, 1, 1, 1], [0, 0, 0, 1]]);
        Ok(())
    }
}
