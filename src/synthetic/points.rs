//! Points in the plane.

use candle_core::{Device, Tensor};

use super::at_least;
use crate::{Result, Seed};

/// Round clouds of points, one a class, with their centres on the unit circle.
///
/// Returns the points, f32 `[classes * per_class, 2]`, and the class of each, u32 `[classes * per_class]`, class by
/// class. The clouds are discs that do not touch: lines separate them, so the best cross-entropy is 0, and a linear
/// model reaches it.
///
/// ```
/// use candling::{Seed, synthetic};
///
/// let (x, y) = synthetic::blobs(Seed::new(1), 3, 16)?;
/// assert_eq!((x.dims(), y.dims()), (&[48, 2][..], &[48][..]));
/// # candling::Result::Ok(())
/// ```
///
/// # Errors
///
/// `classes` or `per_class` of 0.
pub fn blobs(seed: Seed, classes: usize, per_class: usize) -> Result<(Tensor, Tensor)> {
    at_least([("classes", classes, 1), ("per_class", per_class, 1)])?;
    // Two centres are 2 sin(pi / classes) apart; discs of less than half of that do not touch.
    let gap = if classes == 1 { 1.0 } else { libm::sin(std::f64::consts::PI / classes as f64) };
    let n = classes * per_class;
    let units = seed.units("blobs", 2 * n);
    let mut points = Vec::with_capacity(2 * n);
    let mut labels = Vec::with_capacity(n);
    for (i, unit) in units.chunks_exact(2).enumerate() {
        let class = i / per_class;
        let (y, x) = libm::sincos(std::f64::consts::TAU * class as f64 / classes as f64);
        // The root makes the points spread evenly over the disc.
        let radius = 0.6 * gap * unit[0].sqrt();
        let (dy, dx) = libm::sincos(std::f64::consts::TAU * unit[1]);
        points.extend([(x + radius * dx) as f32, (y + radius * dy) as f32]);
        labels.push(class as u32);
    }
    Ok((
        Tensor::from_vec(points, (n, 2), &Device::Cpu)?,
        Tensor::from_vec(labels, n, &Device::Cpu)?,
    ))
}

/// Points in four squares; those of opposite squares are of one class.
///
/// Returns the points, f32 `[n, 2]` with coordinates in `-1..1` and none within 0.1 of an axis, and the class of each,
/// u32 `[n]`: 0 where the coordinates have one sign, else 1. The squares take turns, so that the classes come up equally
/// often. The best cross-entropy is 0; the best of every linear model is near ln 2.
///
/// ```
/// use candling::{Seed, synthetic};
///
/// let (x, y) = synthetic::xor(Seed::new(1), 32)?;
/// assert_eq!((x.dims(), y.dims()), (&[32, 2][..], &[32][..]));
/// # candling::Result::Ok(())
/// ```
///
/// # Errors
///
/// `n` of 0.
pub fn xor(seed: Seed, n: usize) -> Result<(Tensor, Tensor)> {
    at_least([("n", n, 1)])?;
    let units = seed.units("xor", 2 * n);
    let mut points = Vec::with_capacity(2 * n);
    let mut labels = Vec::with_capacity(n);
    for (i, unit) in units.chunks_exact(2).enumerate() {
        let (right, up) = (i % 2 == 0, i / 2 % 2 == 0);
        let place = |unit: f64, positive: bool| {
            let distance = 0.1 + 0.9 * unit;
            (if positive { distance } else { -distance }) as f32
        };
        points.extend([place(unit[0], right), place(unit[1], up)]);
        labels.push(u32::from(right != up));
    }
    Ok((
        Tensor::from_vec(points, (n, 2), &Device::Cpu)?,
        Tensor::from_vec(labels, n, &Device::Cpu)?,
    ))
}
