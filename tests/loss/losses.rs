//! Losses as candle's users write them.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::{loss, ops};

pub(super) fn stable_bce(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let tail = (x.abs()?.neg()?.exp()? + 1.0)?.log()?;
    ((x.relu()? - (x * y)?)? + tail)?.mean_all()
}

/// The cost of each label, flat.
pub(super) fn by_label(logits: &Tensor, y: &Tensor) -> Result<Tensor> {
    let scores = ops::log_softmax(&logits.flatten_to(logits.rank() - 2)?, 1)?;
    scores.gather(&y.flatten_all()?.unsqueeze(1)?, 1)?.squeeze(1)?.neg()
}

/// Label smoothing, its weights for the label's own class and for every other.
pub(super) fn smoothed(
    own: f64,
    other: f64,
    classes: usize,
) -> impl Fn(&Tensor, &Tensor) -> Result<Tensor> {
    move |logits, y| {
        let hot = one_hot(y, classes, logits.dtype())?.affine(own - other, other)?;
        (hot * ops::log_softmax(logits, 1)?)?.sum(1)?.mean_all()?.neg()
    }
}

/// By comparison: a label outside is a row of zeros.
pub(super) fn one_hot(y: &Tensor, classes: usize, dtype: DType) -> Result<Tensor> {
    let all = Tensor::arange(0u32, classes as u32, y.device())?.to_dtype(y.dtype())?;
    y.unsqueeze(1)?.broadcast_eq(&all.unsqueeze(0)?)?.to_dtype(dtype)
}

/// Label 0 is padding.
pub(super) fn masked(logits: &Tensor, tags: &Tensor) -> Result<Tensor> {
    let losses = by_label(logits, tags)?;
    let real = tags.flatten_all()?.ne(0u32)?.to_dtype(losses.dtype())?;
    (losses * &real)?.sum_all()? / real.sum_all()?
}

pub(super) fn weighted(logits: &Tensor, y: &Tensor, weights: &[f64]) -> Result<Tensor> {
    let weights = Tensor::new(weights, logits.device())?.to_dtype(logits.dtype())?;
    let of_rows = weights.index_select(y, 0)?;
    (by_label(logits, y)? * &of_rows)?.sum_all()? / of_rows.sum_all()?
}

pub(super) fn unit(x: &Tensor) -> Result<Tensor> {
    x.broadcast_div(&(x.sqr()?.sum_keepdim(1)? + 1e-12)?.sqrt()?)
}

pub(super) fn info_nce(a: &Tensor, b: &Tensor, temperature: f64) -> Result<Tensor> {
    let logits = (unit(a)?.matmul(&unit(b)?.t()?)? / temperature)?;
    loss::cross_entropy(&logits, &Tensor::arange(0u32, a.dim(0)? as u32, a.device())?)
}

/// SimCLR's.
pub(super) fn nt_xent(a: &Tensor, b: &Tensor, temperature: f64, masked: bool) -> Result<Tensor> {
    let n = a.dim(0)? as u32;
    let pool = Tensor::cat(&[unit(a)?, unit(b)?], 0)?;
    let scores = (pool.matmul(&pool.t()?)? / temperature)?;
    let scores = match masked {
        true => {
            let own = Tensor::eye(2 * n as usize, scores.dtype(), scores.device())?;
            (scores - (own * 1e9)?)?
        }
        false => scores,
    };
    let partners: Vec<u32> = (0..2 * n).map(|i| (i + n) % (2 * n)).collect();
    loss::cross_entropy(&scores, &Tensor::new(partners, a.device())?)
}

pub(super) fn kl(log_p: &Tensor, q: &Tensor) -> Result<Tensor> {
    (q * (q.log()? - log_p)?)?.sum(D::Minus1)?.mean_all()
}
