//! Losses of the difference between output and target.

use candle_core::Tensor;

use super::{Band, FAR_OFF, FITTED, OFF, bad};
use crate::{Result, measure::values::to_f64_vec, verdict::number};

/// A loss of the difference between output and target.
#[derive(Clone, Copy, Debug)]
pub(super) enum Distance {
    Squared,
    Absolute,
    Huber(f64),
}

impl Distance {
    fn of(self, difference: f64) -> f64 {
        let size = difference.abs();
        match self {
            Self::Squared => size * size,
            Self::Absolute => size,
            Self::Huber(delta) if size <= delta => 0.5 * size * size,
            Self::Huber(delta) => delta * (size - 0.5 * delta),
        }
    }
}

/// The loss of the best constant output of each column: its mean for squares, its median for the others.
fn best_constant(values: &[f64], columns: usize, distance: Distance) -> f64 {
    let mut sum = 0.0;
    for at in 0..columns {
        let mut column: Vec<f64> = values.iter().skip(at).step_by(columns).copied().collect();
        column.sort_by(f64::total_cmp);
        let center = match distance {
            Distance::Squared => column.iter().sum::<f64>() / column.len().max(1) as f64,
            _ => column.get(column.len() / 2).copied().unwrap_or(0.0),
        };
        sum += column.iter().map(|y| distance.of(y - center)).sum::<f64>();
    }
    sum / values.len() as f64
}

pub(super) fn of_distance(targets: &Tensor, distance: Distance) -> Result<Band> {
    if targets.elem_count() == 0 {
        return Err(bad(
            format!("of targets of dims {:?}, empty", targets.dims()),
            "at least one target",
        ));
    }
    if let Distance::Huber(delta) = distance
        && !(delta > 0.0 && delta.is_finite())
    {
        return Err(bad(format!("a Huber loss of delta {delta}"), "a finite number above 0"));
    }
    let values = to_f64_vec(targets)?;
    if values.iter().any(|value| !value.is_finite()) {
        return Err(bad("of targets with NaN or infinite values", "finite targets"));
    }
    let mean =
        |of: &dyn Fn(f64) -> f64| values.iter().map(|y| of(*y)).sum::<f64>() / values.len() as f64;
    let at = |y: f64| distance.of(y);
    let center = mean(&at);
    let columns = targets.elem_count() / targets.dims().first().copied().unwrap_or(1).max(1);
    let fitted = best_constant(&values, columns.max(1), distance);
    let ends = (mean(&|y: f64| at(y.abs() + OFF)), mean(&|y: f64| at(y.abs() + FAR_OFF)));
    let of = match distance {
        Distance::Squared => "the mean square of the targets, of an output of 0".to_owned(),
        Distance::Absolute => "the mean size of the targets, of an output of 0".to_owned(),
        Distance::Huber(delta) => {
            format!("the Huber loss of an output of 0, delta {}", number(delta))
        }
    };
    let mut band = Band::new(of, center, FITTED * fitted, ends);
    if fitted < 0.5 * center {
        band.best_constant = Some(fitted);
        band.advice = Some(
            "bring the targets to mean 0 and standard deviation 1, or start the last bias at their mean",
        );
    }
    Ok(band)
}
