//! Operations with a backward pass written by hand, in every way it may be wrong. All are defined by f64 functions.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, D, Layout, Result, Shape, Tensor, WithDType, bail,
};

/// One output for each input.
pub(super) struct Elementwise {
    pub(super) name: &'static str,
    pub(super) value: fn(f64) -> f64,
    /// The derivative at the input, as the user has it.
    pub(super) derivative: fn(&Tensor) -> Result<Tensor>,
}

impl CustomOp1 for Elementwise {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = values(storage, layout)?.into_iter().map(self.value).collect();
        Ok((stored_as(storage, values)?, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some((grad * (self.derivative)(x)?)?))
    }
}

/// The same value; a gradient that is multiplied on its way back.
pub(super) struct ScaleGradient(pub(super) f64);

impl CustomOp1 for ScaleGradient {
    fn name(&self) -> &'static str {
        "scale-gradient"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((stored_as(storage, values(storage, layout)?)?, layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some((grad * self.0)?))
    }
}

/// What a backward pass makes of the gain's gradient.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Gain {
    /// Summed over all rows, as is right.
    Summed,
    Averaged,
    Zeros,
    Forgotten,
}

/// `x * gain`, a gain for each value of the last dimension.
pub(super) struct Gained(pub(super) Gain);

impl CustomOp2 for Gained {
    fn name(&self) -> &'static str {
        "gained"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        of_x: &Layout,
        gain: &CpuStorage,
        of_gain: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (mut values, gain) = (values(x, of_x)?, values(gain, of_gain)?);
        for row in values.chunks_exact_mut(gain.len()) {
            row.iter_mut().zip(&gain).for_each(|(value, gain)| *value *= gain);
        }
        Ok((stored_as(x, values)?, of_x.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gain: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let of_x = grad.broadcast_mul(gain)?;
        let rows = (grad * x)?.reshape(((), gain.dim(D::Minus1)?))?;
        let of_gain = match self.0 {
            Gain::Summed => Some(rows.sum(0)?),
            Gain::Averaged => Some(rows.mean(0)?),
            Gain::Zeros => Some(gain.zeros_like()?),
            Gain::Forgotten => None,
        };
        Ok((Some(of_x), of_gain))
    }
}

/// A product of two matrices.
pub(super) struct Product {
    /// The gradient of the second is transposed: where that is square, every shape fits.
    pub(super) transposed: bool,
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        of_a: &Layout,
        b: &CpuStorage,
        of_b: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((rows, inner), (_, columns)) = (of_a.shape().dims2()?, of_b.shape().dims2()?);
        let (left, right) = (values(a, of_a)?, values(b, of_b)?);
        let entry = |i: usize| -> f64 {
            let (row, column) = (i / columns, i % columns);
            (0..inner).map(|k| left[row * inner + k] * right[k * columns + column]).sum()
        };
        let product = (0..rows * columns).map(entry).collect();
        Ok((stored_as(a, product)?, Shape::from((rows, columns))))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let of_a = grad.matmul(&b.t()?.contiguous()?)?;
        let of_b = match self.transposed {
            true => grad.t()?.contiguous()?.matmul(a)?,
            false => a.t()?.contiguous()?.matmul(grad)?,
        };
        Ok((Some(of_a), Some(of_b)))
    }
}

fn values(storage: &CpuStorage, layout: &Layout) -> Result<Vec<f64>> {
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("not contiguous") };
    Ok(match storage {
        CpuStorage::F32(values) => values[start..end].iter().map(|v| f64::from(*v)).collect(),
        CpuStorage::F64(values) => values[start..end].to_vec(),
        _ => bail!("f32 or f64 is wanted"),
    })
}

/// In the dtype of `like`.
fn stored_as(like: &CpuStorage, values: Vec<f64>) -> Result<CpuStorage> {
    Ok(match like {
        CpuStorage::F32(_) => CpuStorage::F32(values.into_iter().map(f32::from_f64).collect()),
        _ => CpuStorage::F64(values),
    })
}
