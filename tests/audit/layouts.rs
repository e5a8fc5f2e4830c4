//! The same values, laid out in memory in another way.

use candle_core::{Result, Tensor};

/// A view, and a contiguous tensor of the same values.
pub(crate) struct View {
    pub(crate) how: String,
    pub(crate) view: Tensor,
    pub(crate) contiguous: Tensor,
}

/// Pairs of dimensions to exchange: the last two, the first two, the outermost.
pub(crate) fn transpositions(rank: usize) -> Vec<(usize, usize)> {
    match rank {
        0 | 1 => vec![],
        2 => vec![(0, 1)],
        _ => vec![(rank - 2, rank - 1), (0, 1), (0, rank - 1)],
    }
}

/// Non-contiguous views of a tensor, each by differentiable ops: a gradient finds its way back to the tensor.
pub(crate) fn strided(x: &Tensor) -> Result<Vec<(String, Tensor)>> {
    let mut views = Vec::new();
    for (a, b) in transpositions(x.rank()) {
        let how = format!("transposed {a},{b}");
        views.push((how, x.transpose(a, b)?.contiguous()?.transpose(a, b)?));
    }
    if x.rank() > 0 {
        let last = x.rank() - 1;
        let n = x.dim(last)?;
        let around = x.detach();
        let wide = Tensor::cat(&[&(&around * 7.3)?, x, &(&around * -3.1)?], last)?;
        views.push((format!("narrowed {last}"), wide.narrow(last, n, n)?));
    }
    // With a dimension of 1, what is transposed may still be contiguous.
    views.retain(|(_, view)| !view.is_contiguous());
    Ok(views)
}

/// Those, a view with an offset, and one that repeats its first slice in each dimension.
pub(crate) fn all(x: &Tensor) -> Result<Vec<View>> {
    let mut views: Vec<View> = strided(x)?
        .into_iter()
        .map(|(how, view)| View { how, view, contiguous: x.clone() })
        .collect();
    if x.rank() > 0 {
        let n = x.dim(0)?;
        let long = Tensor::cat(&[&(x * 7.3)?, x, &(x * -3.1)?], 0)?;
        let view = long.narrow(0, n, n)?;
        views.push(View { how: "offset".to_owned(), view, contiguous: x.clone() });
    }
    for dim in 0..x.rank() {
        let view = x.narrow(dim, 0, 1)?.broadcast_as(x.shape())?;
        let contiguous = view.force_contiguous()?;
        views.push(View { how: format!("broadcast {dim}"), view, contiguous });
    }
    Ok(views)
}
