//! Functions with noise of a known size.

use candle_core::{DType, Device, Tensor};

use super::at_least;
use crate::{
    Failure, Result, Seed,
    measure::vectors::{dot, length, root_mean_square},
};

/// A linear function of normal features, with noise.
///
/// Returns the features, f32 `[n, features]`, and the targets, f32 `[n, 1]`. The noise is normal, made orthogonal to a
/// constant and to every feature, and scaled: the least squares fit is then the function itself, and the best mean
/// squared error of every linear model on these very rows is `noise`² (to the rounding of f32), not merely on average.
/// A model that learns rows by heart goes below it.
///
/// ```
/// use candling::{Seed, synthetic};
///
/// let (x, y) = synthetic::linear_regression(Seed::new(1), 64, 3, 0.1)?;
/// assert_eq!((x.dims(), y.dims()), (&[64, 3][..], &[64, 1][..]));
/// # candling::Result::Ok(())
/// ```
///
/// # Errors
///
/// `features` of 0, `n` below `features + 2` (nothing is left for the noise), a `noise` that is negative or not finite.
pub fn linear_regression(
    seed: Seed,
    n: usize,
    features: usize,
    noise: f64,
) -> Result<(Tensor, Tensor)> {
    at_least([("features", features, 1), ("n", n, features + 2)])?;
    let cpu = &Device::Cpu;
    let normal = |label: &str, n: usize| -> Result<Vec<f64>> {
        Ok(seed.normal(label, n, DType::F64, cpu)?.to_vec1()?)
    };
    // Rounded before anything is made of them, so that the function is exact in what the model sees.
    let x: Vec<f32> = normal("features", n * features)?.into_iter().map(|v| v as f32).collect();
    let weights = normal("weights", features + 1)?;
    let mut columns: Vec<Vec<f64>> = vec![vec![1.0; n]];
    columns.extend((0..features).map(|j| (0..n).map(|i| f64::from(x[i * features + j])).collect()));
    let noise = scaled(orthogonal(normal("noise", n)?, columns), noise)?;
    let y: Vec<f32> = x
        .chunks_exact(features)
        .zip(noise)
        .map(|(row, noise)| {
            let linear: f64 = row.iter().zip(&weights[1..]).map(|(x, w)| f64::from(*x) * w).sum();
            (weights[0] + linear + noise) as f32
        })
        .collect();
    Ok((Tensor::from_vec(x, (n, features), cpu)?, Tensor::from_vec(y, (n, 1), cpu)?))
}

/// One period of a sine, with noise.
///
/// Returns the places, f32 `[n, 1]`, uniform in `-pi..pi`, and `sin(x)` with normal noise, f32 `[n, 1]`. The noise is
/// scaled so that the mean squared error of the sine itself on these very rows is `noise`² (to the rounding of f32). A
/// model that learns rows by heart goes below it.
///
/// ```
/// use candling::{Seed, synthetic};
///
/// let (x, y) = synthetic::sine_regression(Seed::new(1), 64, 0.0)?;
/// assert_eq!((x.dims(), y.dims()), (&[64, 1][..], &[64, 1][..]));
/// # candling::Result::Ok(())
/// ```
///
/// # Errors
///
/// `n` of 0, a `noise` that is negative or not finite.
pub fn sine_regression(seed: Seed, n: usize, noise: f64) -> Result<(Tensor, Tensor)> {
    at_least([("n", n, 1)])?;
    let cpu = &Device::Cpu;
    let pi = std::f64::consts::PI;
    let x: Vec<f32> =
        seed.units("places", n).into_iter().map(|u| (pi * (2.0 * u - 1.0)) as f32).collect();
    let noise = scaled(seed.normal("noise", n, DType::F64, cpu)?.to_vec1()?, noise)?;
    let y: Vec<f32> =
        x.iter().zip(noise).map(|(x, noise)| (libm::sin(f64::from(*x)) + noise) as f32).collect();
    Ok((Tensor::from_vec(x, (n, 1), cpu)?, Tensor::from_vec(y, (n, 1), cpu)?))
}

/// What is left of a vector without its parts along the columns (modified Gram and Schmidt).
fn orthogonal(mut vector: Vec<f64>, columns: Vec<Vec<f64>>) -> Vec<f64> {
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(columns.len());
    for mut column in columns {
        basis.iter().for_each(|unit| without(&mut column, unit));
        let norm = length(&column);
        column.iter_mut().for_each(|v| *v /= norm.max(f64::MIN_POSITIVE));
        basis.push(column);
    }
    basis.iter().for_each(|unit| without(&mut vector, unit));
    vector
}

fn without(vector: &mut [f64], unit: &[f64]) {
    let along = dot(vector, unit);
    vector.iter_mut().zip(unit).for_each(|(v, u)| *v -= along * u);
}

/// The vector with a root mean square of `noise`.
fn scaled(mut vector: Vec<f64>, noise: f64) -> Result<Vec<f64>> {
    if !(noise >= 0.0 && noise.is_finite()) {
        return Err(Failure::bad_argument("noise", noise, "a finite number, 0 or above"));
    }
    let rms = root_mean_square(&vector);
    vector.iter_mut().for_each(|v| *v *= noise / rms.max(f64::MIN_POSITIVE));
    Ok(vector)
}
