//! Running statistics as moving averages: by how much they move, and where they come to rest.

use candle_core::{DType, Tensor, Var};

use super::Statistic;
use crate::{
    Result, Snapshot,
    check::modes::passes::Passes,
    measure::{
        values::{extent, to_f64_vec},
        vectors::length,
    },
};

/// So many passes are tried for statistics that stay where they are.
const LEFT_OUT: usize = 16;

#[derive(Clone, Copy)]
pub(super) struct Measured {
    pub(super) moves: bool,
    pub(super) momentum: Option<f64>,
}

/// What a training pass makes of statistics that are far off, at `a` and at `2 a`: the batch's own statistic comes out the
/// same, so that the difference is `(1 - momentum) a`. `None` where the pass fails on such values.
///
/// A cumulative average, which divides by the number of passes, replaces its statistics in the first one. Two passes go
/// before.
pub(super) fn momenta(
    passes: &Passes<'_, '_>,
    statistics: &[(String, Var)],
) -> Result<Vec<Option<Measured>>> {
    let none = || vec![None; statistics.len()];
    passes.restore()?;
    for _ in 0..2 {
        if passes.forward(passes.x, true).is_err() {
            return Ok(none());
        }
    }
    let mut far = Vec::with_capacity(statistics.len());
    for (_, var) in statistics {
        let values = to_f64_vec(var.as_tensor())?;
        let size = extent(&values).map_or(1.0, |(low, high)| low.abs().max(high.abs()));
        // In half precision larger numbers would be out of range.
        let times = if var.dtype() == DType::F16 { 64.0 } else { 1024.0 };
        far.push(times * if size.is_finite() { size.max(1.0) } else { 1.0 });
    }
    // From the same state each time: what is counted is put back.
    let state = Snapshot::take(passes.learner.variables())?;
    let far_off = |times: f64| -> Result<Option<Vec<Vec<f64>>>> {
        let mut values: Vec<Vec<f64>> = Vec::new();
        // A layer that is left out at random moves its statistics in some passes alone.
        for _ in 0..LEFT_OUT {
            state.restore()?;
            for ((_, var), far) in statistics.iter().zip(&far) {
                let to = Tensor::full(far * times, var.shape(), &candle_core::Device::Cpu)?;
                var.set(&to.to_dtype(var.dtype())?.to_device(var.device())?)?;
            }
            if passes.forward(passes.x, true).is_err() {
                return Ok(None);
            }
            let mut all_moved = true;
            for (at, ((_, var), far)) in statistics.iter().zip(&far).enumerate() {
                let now = to_f64_vec(var.as_tensor())?;
                let stays = |values: &[f64]| values.iter().all(|v| *v == far * times);
                match values.get_mut(at) {
                    None => values.push(now),
                    Some(before) if stays(before) => *before = now,
                    Some(_) => {}
                }
                all_moved &= !stays(&values[at]);
            }
            if all_moved {
                break;
            }
        }
        Ok(Some(values))
    };
    let (Some(once), Some(twice)) = (far_off(1.0)?, far_off(2.0)?) else { return Ok(none()) };
    let mut measured = Vec::with_capacity(statistics.len());
    for ((once, twice), far) in once.iter().zip(&twice).zip(&far) {
        let [moves_once, moves_twice] = [(once, 1.0), (twice, 2.0)]
            .map(|(values, times)| values.iter().any(|v| *v != times * far));
        let moves = moves_once || moves_twice;
        let kept: Vec<f64> = once.iter().zip(twice).map(|(a, b)| (b - a) / far).collect();
        // Of a moving average all elements move by one law. `far` is rounded into the statistic's format, whose coarsest,
        // bf16, keeps a share to 0.4 %, twice over in a difference; another law is off by its own size.
        let momentum = extent(&kept)
            .filter(|(low, high)| (high - low).abs() <= 0.02 && low.is_finite())
            .map(|(low, high)| 1.0 - (low + high) / 2.0)
            .map(|m| (m * 1e3).round() / 1e3)
            .filter(|_| moves_once && moves_twice);
        measured.push(Some(Measured { moves, momentum }));
    }
    Ok(measured)
}

/// How far evaluation is from training when every moving average is at its fixed point, `old + (new - old) / momentum` of
/// one pass. A running variance may be the biased one or, of `n` values, `n / (n - 1)` times as large.
pub(super) fn settled_gap(
    passes: &Passes<'_, '_>,
    statistics: &[Statistic],
    training: &Tensor,
) -> Result<Option<f64>> {
    let averages = statistics.iter().filter_map(|s| Some((s, s.momentum.filter(|m| *m > 0.0)?)));
    let averages: Vec<(&Statistic, f64)> = averages.collect();
    if averages.is_empty() {
        return Ok(None);
    }
    passes.restore()?;
    let mut fixed = Vec::with_capacity(averages.len());
    for (statistic, _) in &averages {
        fixed.push(statistic.var.as_tensor().copy()?.detach());
    }
    if passes.forward(passes.x, true).is_err() {
        return Ok(None);
    }
    for ((statistic, momentum), old) in averages.iter().zip(&mut fixed) {
        let step = (statistic.var.as_tensor().copy()?.detach() - &*old)?;
        *old = (&*old + (step / *momentum)?)?;
    }
    let wanted = to_f64_vec(training)?;
    let size = length(&wanted);
    let rows = passes.rows() as f64;
    let mut nearest: Option<f64> = None;
    for of_variance in [1.0, (rows - 1.0) / rows] {
        passes.restore()?;
        for ((statistic, _), fixed) in averages.iter().zip(&fixed) {
            let is_variance = statistic.name.ends_with("running_var");
            statistic.var.set(&(fixed * if is_variance { of_variance } else { 1.0 })?)?;
        }
        let Ok(output) = passes.forward(passes.x, false) else { return Ok(None) };
        if output.dims() != training.dims() {
            return Ok(None);
        }
        let squares =
            to_f64_vec(&output)?.iter().zip(&wanted).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        let gap = squares.sqrt() / size;
        nearest = Some(nearest.map_or(gap, |nearest| nearest.min(gap)));
    }
    Ok(nearest.filter(|gap| gap.is_finite()))
}
