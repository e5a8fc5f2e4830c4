//! Images.

use candle_core::{Device, Tensor};
use rand::RngCore;

use super::at_least;
use crate::{Result, Seed};

/// Images of one bar each, lying or standing, at a random place.
///
/// Returns the images, f32 `[n, 1, size, size]`, 1 on the bar and 0 beside it, and u32 `[n]`: 0 for a lying bar, 1 for a
/// standing one, by turns. All images have the same number of bright pixels, and no pixel tells the classes apart by
/// itself: what a convolution is for. The best cross-entropy is 0; of the mean brightness alone, ln 2.
///
/// ```
/// use candling::{Seed, synthetic};
///
/// let (x, y) = synthetic::moving_bars(Seed::new(1), 16, 6)?;
/// assert_eq!((x.dims(), y.dims()), (&[16, 1, 6, 6][..], &[16][..]));
/// # candling::Result::Ok(())
/// ```
///
/// # Errors
///
/// `n` of 0, `size` below 2.
pub fn moving_bars(seed: Seed, n: usize, size: usize) -> Result<(Tensor, Tensor)> {
    at_least([("n", n, 1), ("size", size, 2)])?;
    let mut rng = seed.rng("bars");
    let mut pixels = vec![0f32; n * size * size];
    for (i, image) in pixels.chunks_exact_mut(size * size).enumerate() {
        let at = ((u64::from(rng.next_u32()) * size as u64) >> 32) as usize;
        for along in 0..size {
            let pixel = if i % 2 == 0 { at * size + along } else { along * size + at };
            image[pixel] = 1.0;
        }
    }
    let labels: Vec<u32> = (0..n).map(|i| (i % 2) as u32).collect();
    Ok((
        Tensor::from_vec(pixels, (n, 1, size, size), &Device::Cpu)?,
        Tensor::from_vec(labels, n, &Device::Cpu)?,
    ))
}
