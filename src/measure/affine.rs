//! Points on a line through an input, and how far a function is from a straight line on them.

use candle_core::{DType, Device, Result, Tensor};

use super::values::to_f64_vec;
use crate::Seed;

/// Inputs `a * x + (1 - a) * y`: the members that can be combined are, the others stay.
pub(crate) struct Line {
    x: Vec<Member>,
}

struct Member {
    own: Tensor,
    /// In f64; `None` for a member that stays as it is.
    values: Option<Vec<f64>>,
}

/// How far a member may be taken apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Distance {
    /// In units of the member's own standard deviation.
    Own(f64),
    /// In absolute units.
    Absolute(f64),
}

impl Line {
    /// Integers have no combinations, infinite values none that is finite. A member of two values beside others is a mask.
    pub(crate) fn new(x: &[Tensor]) -> Result<Self> {
        let read = x.iter().map(|own| {
            let floats = own.dtype().is_float().then(|| to_f64_vec(own)).transpose()?;
            Ok(floats.filter(|values| values.iter().all(|v| v.is_finite())))
        });
        let mut values = read.collect::<Result<Vec<_>>>()?;
        let is_mask = |values: &Option<Vec<f64>>| values.as_ref().is_some_and(|v| two_values(v));
        if values.iter().any(|v| v.is_some() && !is_mask(v)) {
            values.iter_mut().filter(|v| is_mask(v)).for_each(|v| *v = None);
        }
        let own = x.iter().map(|t| t.detach().contiguous());
        let members = own.zip(values).map(|(own, values)| Ok(Member { own: own?, values }));
        Ok(Self { x: members.collect::<Result<_>>()? })
    }

    /// Whether any member can be combined.
    pub(crate) fn is_one(&self) -> bool {
        self.x.iter().any(|member| member.values.is_some())
    }

    /// The standard deviation of the members that are combined, as an average; where it is 0, their size.
    pub(crate) fn scale(&self) -> f64 {
        let scales: Vec<f64> =
            self.x.iter().filter_map(|m| m.values.as_deref()).map(scale).collect();
        scales.iter().sum::<f64>() / scales.len().max(1) as f64
    }

    /// The input itself.
    pub(crate) fn start(&self) -> Vec<Tensor> {
        self.x.iter().map(|member| member.own.clone()).collect()
    }

    /// Another input that far away, in a random direction.
    pub(crate) fn other(&self, distance: Distance, seed: Seed) -> Result<Vec<Tensor>> {
        self.map(|i, own, values| {
            let by = match distance {
                Distance::Own(units) => units * scale(values),
                Distance::Absolute(by) => by,
            };
            let normal =
                seed.normal(&format!("input {i}"), values.len(), DType::F64, &Device::Cpu)?;
            let moved = values.iter().zip(normal.to_vec1::<f64>()?).map(|(v, n)| v + by * n);
            as_one_of(own, moved.collect())
        })
    }

    /// `a * x + (1 - a) * y`, added up in f64 and rounded once.
    pub(crate) fn combined(&self, a: f64, y: &[Tensor]) -> Result<Vec<Tensor>> {
        self.map(|i, own, values| {
            let y = to_f64_vec(&y[i])?;
            as_one_of(own, values.iter().zip(y).map(|(x, y)| a * x + (1.0 - a) * y).collect())
        })
    }

    fn map(&self, f: impl Fn(usize, &Tensor, &[f64]) -> Result<Tensor>) -> Result<Vec<Tensor>> {
        let members = self.x.iter().enumerate();
        members
            .map(|(i, member)| match &member.values {
                None => Ok(member.own.clone()),
                Some(values) => f(i, &member.own, values),
            })
            .collect()
    }
}

/// For every output value `f(a x + (1 - a) y) - (a f(x) + (1 - a) f(y))`.
pub(crate) fn bends(at_x: &[f64], at_y: &[f64], between: &[f64], a: f64) -> Vec<f64> {
    let ends = at_x.iter().zip(at_y);
    ends.zip(between).map(|((x, y), z)| z - (a * x + (1.0 - a) * y)).collect()
}

fn as_one_of(own: &Tensor, values: Vec<f64>) -> Result<Tensor> {
    let values = Tensor::from_vec(values, own.shape(), &Device::Cpu)?;
    let values = match own.dtype() {
        // candle converts f64 to every format but the narrowest.
        DType::F8E4M3 => values.to_dtype(DType::F32)?.to_dtype(DType::F8E4M3)?,
        dtype => values.to_dtype(dtype)?,
    };
    values.to_device(own.device())
}

fn two_values(values: &[f64]) -> bool {
    let Some(first) = values.first() else { return true };
    let Some(other) = values.iter().find(|v| *v != first) else { return true };
    values.iter().all(|v| v == first || v == other)
}

fn scale(values: &[f64]) -> f64 {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    match deviation > 0.0 {
        true => deviation,
        false if mean != 0.0 => mean.abs(),
        false => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_combined_and_ids_and_masks_stay() -> Result<()> {
        let x = Tensor::new(&[[1f32, 2.0], [3.0, 5.0]], &Device::Cpu)?;
        let mask = Tensor::new(&[[1f32, 0.0], [1.0, 1.0]], &Device::Cpu)?;
        let ids = Tensor::new(&[[1u32, 0], [7, 1]], &Device::Cpu)?;
        let line = Line::new(&[x.clone(), mask.clone(), ids.clone()])?;
        let y = line.other(Distance::Own(2.0), Seed::new(1))?;
        assert_eq!(to_f64_vec(&y[1])?, to_f64_vec(&mask)?);
        assert_eq!(to_f64_vec(&y[2])?, to_f64_vec(&ids)?);
        let half = to_f64_vec(&line.combined(0.5, &y)?[0])?;
        for ((x, y), half) in to_f64_vec(&x)?.iter().zip(to_f64_vec(&y[0])?).zip(half) {
            assert!(((x + y) / 2.0 - half).abs() < 1e-6 && (x - y).abs() > 1e-3);
        }
        assert!(Line::new(std::slice::from_ref(&mask))?.is_one(), "bits alone are an input");
        assert!(!Line::new(&[ids])?.is_one());
        let masked = Tensor::new(&[0f32, f32::NEG_INFINITY], &Device::Cpu)?;
        assert!(!Line::new(&[masked])?.is_one());
        Ok(())
    }

    #[test]
    fn a_straight_line_does_not_bend() {
        let f = |x: f64| 3.0 * x - 1.0;
        assert_eq!(bends(&[f(1.0)], &[f(5.0)], &[f(-3.0)], 2.0), [0.0]);
        assert_eq!(bends(&[1.0], &[25.0], &[9.0], 0.5), [-4.0]);
    }
}
