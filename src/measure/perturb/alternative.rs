//! Other values of the same kind.

use candle_core::{DType, Device, Result, Tensor};

use crate::{Seed, measure::values::to_f64_vec};

/// For every element another value of the kind that the tensor holds; `None` where no other value can be known.
///
/// - Floats move by a quarter to three quarters of the tensor's range, round its end, so that probabilities stay in
///   `[0, 1]` and positive numbers positive, and no two elements move by the same amount: a normalisation does not see a
///   constant shift.
/// - Floats of two values (a mask of 0 and minus infinity, a bit) become the other one.
/// - Integers become another of the values that are there, since any other may be no token of the vocabulary; a tensor
///   of one value `v` takes those of `0..v`.
///
/// Each element differs from its own value, but for a rounding in half precision.
pub(crate) fn alternative(tensor: &Tensor, seed: Seed, label: &str) -> Result<Option<Tensor>> {
    // 0 for -0: the other zero would be no other value.
    let own: Vec<f64> = to_f64_vec(tensor)?.into_iter().map(|value| value + 0.0).collect();
    let draws = seed.units(label, own.len());
    let Some(values) = other_values(&own, &draws, tensor.dtype().is_float()) else {
        return Ok(None);
    };
    let values = Tensor::from_vec(values, tensor.shape(), &Device::Cpu)?;
    let values = match tensor.dtype() {
        // candle converts f64 to every format but the narrowest.
        DType::F8E4M3 => values.to_dtype(DType::F32)?.to_dtype(DType::F8E4M3)?,
        dtype => values.to_dtype(dtype)?,
    };
    values.to_device(tensor.device()).map(Some)
}

fn other_values(own: &[f64], draws: &[f64], floating: bool) -> Option<Vec<f64>> {
    let distinct = few_distinct(own, if floating { 2 } else { usize::MAX });
    let pairs = own.iter().zip(draws);
    match distinct.as_deref() {
        Some([]) => None,
        Some([only]) if floating => {
            let only = if only.is_finite() { *only } else { 0.0 };
            let size = only.abs().max(1.0);
            Some(pairs.map(|(_, u)| only + size * (u - 0.5 + 0.5f64.copysign(u - 0.5))).collect())
        }
        Some([only]) if *only >= 1.0 => Some(pairs.map(|(_, u)| (u * only).floor()).collect()),
        Some([_]) => None,
        Some(values) => {
            let n = values.len();
            let other = |own: &f64, u: &f64| {
                let at = values.binary_search_by(|v| v.total_cmp(own)).unwrap_or(0);
                let by = 1 + ((u * (n - 1) as f64) as usize).min(n - 2);
                values[(at + by) % n]
            };
            Some(pairs.map(|(own, u)| other(own, u)).collect())
        }
        None => {
            let finite = || own.iter().copied().filter(|v| v.is_finite());
            let first = finite().next()?;
            let (low, high) = finite().fold((first, first), |(low, high), v| {
                (if v < low { v } else { low }, if v > high { v } else { high })
            });
            let range = if high > low { high - low } else { low.abs().max(1.0) };
            let moved = |own: f64, u: f64| {
                // An infinite value among others stands at the end of the range.
                let at = (own.clamp(low, high) - low) / range + 0.25 + 0.5 * u;
                // Below 2; `fract` is a call where the processor's own rounding is not compiled in.
                let at = if at >= 1.0 { at - 1.0 } else { at };
                low + at * range
            };
            Some(pairs.map(|(own, u)| moved(*own, *u)).collect())
        }
    }
}

/// The distinct values in order; `None` where there are more than `most`.
fn few_distinct(values: &[f64], most: usize) -> Option<Vec<f64>> {
    let mut distinct: Vec<f64> = Vec::new();
    if most == usize::MAX {
        distinct.extend(values);
        distinct.sort_by(f64::total_cmp);
        distinct.dedup();
        return Some(distinct);
    }
    for value in values {
        if let Err(at) = distinct.binary_search_by(|v| v.total_cmp(value)) {
            if distinct.len() == most {
                return None;
            }
            distinct.insert(at, *value);
        }
    }
    Some(distinct)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: &Device = &Device::Cpu;
    const SEED: Seed = Seed::new(1);

    #[test]
    fn every_element_becomes_another_of_its_kind() -> Result<()> {
        let x = SEED.uniform("x", 0.0..1.0, (8, 5), DType::F32, CPU)?;
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            let x = x.to_dtype(dtype)?;
            let own = to_f64_vec(&x)?;
            let other = to_f64_vec(&alternative(&x, SEED, "a")?.unwrap())?;
            let (low, high) =
                (own.iter().copied().fold(1.0, f64::min), own.iter().copied().fold(0.0, f64::max));
            for (own, other) in own.iter().zip(&other) {
                assert!(own != other && (low..=high).contains(other), "{dtype:?}: {own} {other}");
            }
        }
        let ids = Tensor::new(&[[3u32, 7, 7], [2, 3, 2]], CPU)?;
        let other = alternative(&ids, SEED, "a")?.unwrap();
        for (own, other) in to_f64_vec(&ids)?.iter().zip(to_f64_vec(&other)?) {
            assert!(*own != other && [2.0, 3.0, 7.0].contains(&other));
        }
        Ok(())
    }

    #[test]
    fn two_values_change_places_and_one_gets_company() -> Result<()> {
        let mask = Tensor::new(&[0f32, f32::NEG_INFINITY], CPU)?;
        let other = alternative(&mask, SEED, "a")?.unwrap().to_vec1::<f32>()?;
        assert_eq!(other, [f32::NEG_INFINITY, 0.0]);
        let zeros = Tensor::new(&[0f32, -0.0, -0.0, 0.0], CPU)?;
        let other = to_f64_vec(&alternative(&zeros, SEED, "a")?.unwrap())?;
        assert!(other.iter().all(|v| *v != 0.0), "{other:?}");
        let both_ends = Tensor::new(&[1f32, f32::INFINITY, f32::NEG_INFINITY], CPU)?;
        let other = to_f64_vec(&alternative(&both_ends, SEED, "a")?.unwrap())?;
        assert!(other.iter().all(|v| v.is_finite() && *v != 1.0), "{other:?}");
        let same = Tensor::new(&[4u32, 4, 4], CPU)?;
        assert!(to_f64_vec(&alternative(&same, SEED, "a")?.unwrap())?.iter().all(|v| *v < 4.0));
        for (constant, known) in [
            (Tensor::zeros(4, DType::U32, CPU)?, false),
            (Tensor::zeros(0, DType::F32, CPU)?, false),
            (Tensor::zeros(4, DType::F32, CPU)?, true),
        ] {
            assert_eq!(alternative(&constant, SEED, "a")?.is_some(), known);
        }
        let zeros = Tensor::zeros(50, DType::F32, CPU)?;
        let other = to_f64_vec(&alternative(&zeros, SEED, "a")?.unwrap())?;
        assert!(other.iter().all(|v| v.abs() >= 0.5 && v.abs() <= 1.0));
        Ok(())
    }
}
