//! Directions in which a tensor is moved.

use candle_core::{DType, Device, Result, Tensor};

use super::{Slopes, Slot, gradient_or_zeros, scale};
use crate::{Seed, measure::values::to_f64_vec};

/// A step of every entry, each of the same length, and the gradient it is compared with.
///
/// Entries of equal length weigh every entry of the gradient alike: one wrong among millions is not drowned by a large
/// component elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Direction {
    steps: Vec<f64>,
    gradient: Vec<f64>,
    size: f64,
}

impl Direction {
    /// Uphill in every entry: the sign of the gradient, drawn where that is zero. The slope is then the sum of all
    /// absolute entries, and no two right ones cancel: a gradient that is off by a factor is off by that factor here.
    pub(crate) fn uphill(slot: &Slot, seed: Seed) -> crate::Result<Self> {
        let drawn = signs(slot, seed)?;
        let gradient = gradient_or_zeros(slot)?;
        let scale = scale(&to_f64_vec(&slot.value)?);
        let sign = |(g, drawn): (&f64, f64)| if *g == 0.0 { drawn } else { g.signum() };
        let steps = gradient.iter().zip(drawn).map(|pair| scale * sign(pair)).collect();
        let size = scale * gradient.iter().map(|g| g.abs()).sum::<f64>();
        Ok(Self { steps, gradient, size })
    }

    /// A random sign for every entry. Errors that cancel along one such direction do not along another; and since right
    /// entries cancel too, a single wrong one shows even in a large tensor.
    pub(crate) fn random(slot: &Slot, seed: Seed) -> crate::Result<Self> {
        let gradient = gradient_or_zeros(slot)?;
        let scale = scale(&to_f64_vec(&slot.value)?);
        let steps = signs(slot, seed)?.into_iter().map(|sign| scale * sign).collect();
        // The slope along it is of the size of the gradient's norm.
        let size = scale * gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        Ok(Self { steps, gradient, size })
    }

    /// The direction, still outside a range of entries.
    fn within(&self, range: std::ops::Range<usize>) -> Self {
        let keep = |(at, step): (usize, &f64)| if range.contains(&at) { *step } else { 0.0 };
        let steps = self.steps.iter().enumerate().map(keep).collect();
        Self { steps, gradient: self.gradient.clone(), size: self.size }
    }

    pub(crate) fn along_gradient(&self) -> f64 {
        self.gradient.iter().zip(&self.steps).map(|(g, step)| g * step).sum()
    }

    /// What the slope is compared with when it is judged.
    pub(crate) fn size_of_gradient(&self) -> f64 {
        self.size
    }

    pub(super) fn moved(&self, own: &Tensor, step: f64) -> Result<Tensor> {
        let steps = self.steps.iter().map(|s| s * step).collect::<Vec<f64>>();
        let steps = Tensor::from_vec(steps, own.shape(), &Device::Cpu)?;
        // Added in f64: a sum in f32 would round the step before it is measured.
        (own.to_device(&Device::Cpu)?.to_dtype(DType::F64)? + steps)?
            .to_dtype(own.dtype())?
            .to_device(own.device())
    }

    fn step_of(&self, entry: usize) -> f64 {
        self.steps[entry]
    }
}

fn signs(slot: &Slot, seed: Seed) -> Result<Vec<f64>> {
    let drawn =
        seed.uniform(&slot.name, -1.0..1.0, slot.value.elem_count(), DType::F64, &Device::Cpu)?;
    Ok(drawn.to_vec1::<f64>()?.into_iter().map(|v| if v < 0.0 { -1.0 } else { 1.0 }).collect())
}

/// One entry whose gradient is wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Entry {
    /// Its place in row-major order.
    pub(crate) at: usize,
    pub(crate) analytic: f64,
    pub(crate) numeric: f64,
}

/// Halves a direction along which the slopes differ until one entry is left: the half with the larger error each time.
///
/// `None` where the error sinks into rounding before that.
pub(crate) fn bisect(
    slopes: &mut Slopes<'_>,
    slot: usize,
    direction: &Direction,
    step: f64,
) -> crate::Result<Option<Entry>> {
    let (mut low, mut high) = (0, direction.steps.len());
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        let mut error = |range: std::ops::Range<usize>| -> crate::Result<f64> {
            let half = direction.within(range);
            Ok((slopes.central(slot, &half, step)? - half.along_gradient()).abs())
        };
        let (left, right) = (error(low..middle)?, error(middle..high)?);
        if left.max(right) <= slopes.rounding_at(step) {
            return Ok(None);
        }
        if left >= right {
            high = middle;
        } else {
            low = middle;
        }
    }
    let own = direction.within(low..high);
    let length = direction.step_of(low);
    let numeric = slopes.central(slot, &own, step)? / length;
    Ok(Some(Entry { at: low, analytic: direction.gradient[low], numeric }))
}
