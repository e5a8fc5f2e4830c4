use candle_core::{DType, Device, Tensor};
use rand::RngCore;

use super::at_least;
use crate::{Result, Seed};

/// Intertwined spirals: `classes` arms of `per_class` points in the plane.
///
/// Returns the points, f32 `[classes * per_class, 2]` within the unit disc, and the arm of each, u32
/// `[classes * per_class]`, arm by arm. No line separates the arms, but each point has one label: the best
/// cross-entropy is 0.
///
/// ```
/// use candling::{Seed, synthetic};
///
/// let (x, y) = synthetic::spirals(Seed::new(1), 3, 16)?;
/// assert_eq!((x.dims(), y.dims()), (&[48, 2][..], &[48][..]));
/// # candling::Result::Ok(())
/// ```
///
/// # Errors
///
/// `classes` or `per_class` of 0.
pub fn spirals(seed: Seed, classes: usize, per_class: usize) -> Result<(Tensor, Tensor)> {
    at_least([("classes", classes, 1), ("per_class", per_class, 1)])?;
    let mut rng = seed.rng("spirals");
    let mut points = Vec::with_capacity(2 * classes * per_class);
    let mut labels = Vec::with_capacity(classes * per_class);
    for class in 0..classes {
        for i in 0..per_class {
            let along = (i as f64 + 1.0) / per_class as f64;
            let unit = (rng.next_u32() as f64 + 0.5) / (1u64 << 32) as f64;
            // Arms start evenly round the centre; three quarters of a turn along each take it through its neighbours'
            // sectors. A little noise off the arm.
            let angle = std::f64::consts::TAU * (class as f64 / classes as f64 + 0.75 * along)
                + 0.2 * (unit - 0.5);
            let (sin, cos) = libm::sincos(angle);
            points.extend([(along * cos) as f32, (along * sin) as f32]);
            labels.push(class as u32);
        }
    }
    let n = classes * per_class;
    let x = Tensor::from_vec(points, (n, 2), &Device::Cpu)?.to_dtype(DType::F32)?;
    Ok((x, Tensor::from_vec(labels, n, &Device::Cpu)?))
}
