//! Samples that carry their own number through a data pipeline.

use candle_core::{Device, Tensor};
use rand::RngCore;

use super::at_least;
use crate::{Failure, Result, Seed};

/// Samples that say which they are, for [`assert_pipeline!`](crate::assert_pipeline): a pipeline is run over them instead
/// of over the data.
///
/// Returns inputs, f32 `[n, dims..]`, and targets, u32 `[n]`. The target of sample `i` is `i`. All values of its input are
/// near one number, which is no other sample's: in (0, 1), as scaled pixels are, evenly spaced over the samples, in an
/// order without a pattern, so that neither a shift nor a reversal of the targets goes unseen. On it lies a faint texture,
/// the same for all samples, by which augmentations are told apart. Flips, crops, and every affine normalisation (of all
/// values, of channels, of features) keep the number readable.
///
/// For a pipeline of bytes: `(x * 255.)?.to_dtype(DType::U8)?`, up to 100 samples. For token ids: `(x * n as
/// f64)?.to_dtype(DType::U32)?`, which are `0..n`. Few samples are best: 16 to 64.
///
/// ```
/// use candling::synthetic;
///
/// let (x, y) = synthetic::markers(32, (1, 8, 8))?;
/// assert_eq!((x.dims(), y.dims()), (&[32, 1, 8, 8][..], &[32][..]));
/// # candling::Result::Ok(())
/// ```
///
/// # Errors
///
/// `n` of 0, or dimensions without an element.
pub fn markers(n: usize, dims: impl Into<candle_core::Shape>) -> Result<(Tensor, Tensor)> {
    let x = inputs(n, &dims.into())?;
    let ids: Vec<u32> = (0..n as u32).collect();
    Ok((x, Tensor::from_vec(ids, n, &Device::Cpu)?))
}

/// Marker samples whose targets are pictures as the inputs are: for pipelines of images and masks, which have to be
/// flipped and cropped together.
///
/// Returns f32 `[n, dims..]` twice, equal: the inputs of [`markers`]. Whatever moves one picture and not the other shows in
/// the texture. To be used with `assert_pipeline!(.., aligned = true)`.
///
/// ```
/// use candling::synthetic;
///
/// let (image, mask) = synthetic::marker_pictures(32, (1, 8, 8))?;
/// assert_eq!(image.dims(), mask.dims());
/// # candling::Result::Ok(())
/// ```
///
/// # Errors
///
/// `n` of 0, or dimensions of fewer than 16 elements.
pub fn marker_pictures(n: usize, dims: impl Into<candle_core::Shape>) -> Result<(Tensor, Tensor)> {
    let dims: candle_core::Shape = dims.into();
    if dims.elem_count() < 16 {
        return Err(Failure::bad_argument(
            "dims",
            format_args!("{:?}", dims.dims()),
            "16 elements or more: a smaller texture may look like its own mirror image",
        ));
    }
    let x = inputs(n, &dims)?;
    Ok((x.clone(), x.copy()?))
}

fn inputs(n: usize, dims: &candle_core::Shape) -> Result<Tensor> {
    at_least([("n", n, 1)])?;
    let size = dims.elem_count();
    if size == 0 {
        let was = format!("{:?}", dims.dims());
        return Err(Failure::bad_argument("dims", was, "at least one element"));
    }
    // Half a step of the numbers, so that no part of the texture reaches halfway to another number.
    let texture: Vec<f64> = match size {
        1 => vec![0.0],
        _ => Seed::new(0).units("texture", size).into_iter().map(|u| (u - 0.5) * 0.5).collect(),
    };
    let value = |code: usize, texture: f64| ((code as f64 + 0.5 + texture) / n as f64) as f32;
    let values: Vec<f32> = codes(n)
        .into_iter()
        .flat_map(|code| texture.iter().map(move |texture| value(code, *texture)))
        .collect();
    let dims: Vec<usize> = std::iter::once(n).chain(dims.dims().iter().copied()).collect();
    Ok(Tensor::from_vec(values, dims, &Device::Cpu)?)
}

/// The code of each sample: a fixed permutation (Fisher and Yates) that is far from every affine function.
pub(crate) fn codes(n: usize) -> Vec<usize> {
    let mut codes: Vec<usize> = (0..n).collect();
    let mut rng = Seed::new(0).rng("markers");
    for i in (1..n).rev() {
        let j = ((u128::from(rng.next_u64()) * (i as u128 + 1)) >> 64) as usize;
        codes.swap(i, j);
    }
    codes
}
