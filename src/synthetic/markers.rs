//! Samples that carry their own number through a data pipeline.

use candle_core::{Device, Tensor};
use rand::RngCore;

use super::at_least;
use crate::{Failure, Result, Seed};

/// Samples that say which they are, for `assert_pipeline!`: a pipeline is run over them instead
/// of over the data.
///
/// Returns inputs, f32 `[n, dims..]`, and targets, u32 `[n]`. The target of sample `i` is `i`. All values of its input are
/// one number, which is no other sample's: in (0, 1), as scaled pixels are, evenly spaced over the samples, in an order
/// without a pattern, so that neither a shift nor a reversal of the targets goes unseen. Flips, crops, and every affine
/// normalisation (of all values, of channels, of features) keep it readable.
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
    let (dims, size) = shape(n, &dims.into())?;
    let values: Vec<f32> =
        codes(n).into_iter().flat_map(|code| std::iter::repeat_n(value(code, n), size)).collect();
    let ids: Vec<u32> = (0..n as u32).collect();
    Ok((Tensor::from_vec(values, dims, &Device::Cpu)?, Tensor::from_vec(ids, n, &Device::Cpu)?))
}

/// Marker samples whose targets are pictures as the inputs are: for pipelines of images and masks, which have to be
/// flipped and cropped together.
///
/// Returns f32 `[n, dims..]` twice, equal. Sample `i` is its number, as in [`markers`], plus one random texture, the same
/// for all samples and of mean 0: whatever moves one picture and not the other shows. To be used with
/// `assert_pipeline!(.., aligned = true)`.
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
    let (dims, size) = shape(n, &dims.into())?;
    if size < 16 {
        return Err(Failure::bad_argument(
            "dims",
            format_args!("{:?}", &dims[1..]),
            "16 elements or more: a smaller texture may look like its own mirror image",
        ));
    }
    let units = Seed::new(0).units("texture", size);
    let mean = units.iter().sum::<f64>() / size as f64;
    let values: Vec<f32> = codes(n)
        .into_iter()
        .flat_map(|code| units.iter().map(move |u| (f64::from(value(code, n)) + u - mean) as f32))
        .collect();
    let x = Tensor::from_vec(values, dims, &Device::Cpu)?;
    Ok((x.clone(), x.copy()?))
}

fn shape(n: usize, dims: &candle_core::Shape) -> Result<(Vec<usize>, usize)> {
    at_least([("n", n, 1)])?;
    if dims.elem_count() == 0 {
        let was = format!("{:?}", dims.dims());
        return Err(Failure::bad_argument("dims", was, "at least one element"));
    }
    Ok((std::iter::once(n).chain(dims.dims().iter().copied()).collect(), dims.elem_count()))
}

/// The number of a code. Half a step off the grid's lines: truncated to a whole, `n * value` is the code.
fn value(code: usize, n: usize) -> f32 {
    ((code as f64 + 0.5) / n as f64) as f32
}

/// The code of each sample: a fixed permutation (Fisher and Yates) that is far from every affine function.
pub(crate) fn codes(n: usize) -> Vec<usize> {
    let mut codes: Vec<usize> = (0..n).collect();
    let mut rng = Seed::new(0).rng("markers");
    for i in (1..n).rev() {
        let j = (u128::from(rng.next_u64()) * (i as u128 + 1) >> 64) as usize;
        codes.swap(i, j);
    }
    codes
}
