//! A data loader: shuffled batches of an epoch.

use candling::prelude::*;

const BATCH: usize = 8;

/// The batches of an epoch, in an order of its own. Images and labels are shuffled alike, unless only images are.
pub(crate) fn batches(
    x: &Tensor,
    y: &Tensor,
    epoch: usize,
    labels_too: bool,
) -> candle_core::Result<Vec<(Tensor, Tensor)>> {
    let n = x.dim(0)?;
    let keys = Seed::new(1).split(&format!("epoch {epoch}"));
    let keys = keys.uniform("keys", 0.0..1.0, n, DType::F32, x.device())?;
    let order = keys.arg_sort_last_dim(true)?;
    let x = x.index_select(&order, 0)?;
    let y = if labels_too { y.index_select(&order, 0)? } else { y.clone() };
    let batch = |from: usize| {
        let size = BATCH.min(n - from);
        Ok((x.narrow(0, from, size)?, y.narrow(0, from, size)?))
    };
    (0..n).step_by(BATCH).map(batch).collect()
}
