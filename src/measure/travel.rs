//! How far a training carried the variables.

use candle_core::Result;

use super::values::to_f64_vec;
use crate::Snapshot;

/// The distance from the snapshot to the variables' values now, in units of the snapshot's own norm.
pub(crate) fn since(before: &Snapshot) -> Result<f64> {
    let (mut distance, mut size) = (0.0f64, 0.0f64);
    for (_, var, kept) in before.values().filter(|(_, var, _)| var.dtype().is_float()) {
        let (now, then) = (to_f64_vec(var.as_tensor())?, to_f64_vec(kept)?);
        distance += now.iter().zip(&then).map(|(now, then)| (now - then).powi(2)).sum::<f64>();
        size += then.iter().map(|v| v * v).sum::<f64>();
    }
    Ok((distance / size.max(f64::MIN_POSITIVE)).sqrt())
}
