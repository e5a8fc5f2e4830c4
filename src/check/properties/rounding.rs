//! What rounding explains.

use candle_core::{DType, Tensor};

use crate::{
    Result, Tolerance,
    check::{
        function::Function,
        rounding::{SHARE, places},
    },
    measure::{
        compare::Bounds,
        noise::{self, Noise, epsilon},
        values::to_f64_vec,
    },
    verdict::number,
};

/// One unit in the last place of the input stands for one rounding. A network rounds at each of its operations; independent
/// roundings add as a random walk, and 64 of them in a row reach 8 times one.
const ROUNDINGS: f64 = 8.0;

/// How far two values may be apart, and why.
#[derive(Clone, Debug)]
pub(super) struct Allowed {
    pub(super) bounds: Bounds,
    /// Whether it was measured, and not given by the caller.
    pub(super) measured: bool,
    pub(super) reason: String,
}

impl Allowed {
    /// Of a caller's own tolerance.
    pub(super) fn given(tolerance: Tolerance, dtype: DType) -> Self {
        let (relative, absolute) = tolerance.bounds(dtype);
        let reason = "the tolerance is the one given".to_owned();
        Self { bounds: Bounds { relative, absolute }, measured: false, reason }
    }

    /// Of outputs that are equal bit for bit.
    pub(super) fn nothing() -> Self {
        let bounds = Bounds { relative: 0.0, absolute: 0.0 };
        Self { bounds, measured: true, reason: "equal bit for bit".to_owned() }
    }

    /// Of the noise on both sides of a comparison, of outputs with so many elements.
    ///
    /// A sum over `n` values in another order rounds `n` times at the size of its partial sums, a random walk of `sqrt(n)`
    /// (N. J. Higham and T. Mary, 2019). How many are summed is not known: as many as the input has for each output
    /// value, or as its longest dimension.
    pub(super) fn measured(sides: &[Noise], x: &[Tensor], outputs: usize) -> Self {
        let summed = x.iter().map(|tensor| {
            let longest = tensor.dims().iter().copied().max().unwrap_or(1);
            longest.max(tensor.elem_count() / outputs.max(1))
        });
        let summed = summed.max().unwrap_or(1) as f64;
        let epsilon = sides.iter().map(|noise| noise.epsilon).fold(0.0, f64::max);
        let least = match sides.iter().all(|noise| noise.nudged) {
            true => ROUNDINGS,
            // Where no input has a last place (token ids, masks), what the network makes of a rounding is not measured.
            false => places(epsilon).max(ROUNDINGS),
        };
        // A sum that candle does in a coarse format may lose that much, and is no rounding any more: it is a bug to see.
        let most = SHARE / epsilon;
        let times = summed.sqrt().min(most).max(least);
        Self::times(times, sides)
    }

    /// So many times the noise of the noisier side.
    pub(super) fn times(times: f64, sides: &[Noise]) -> Self {
        let largest = |of: fn(&Noise) -> f64| sides.iter().map(of).fold(0.0, f64::max);
        let moved = largest(|noise| noise.moved);
        let epsilon = largest(|noise| noise.epsilon);
        let place = largest(|noise| noise.epsilon * noise.typical);
        let bounds = Bounds { relative: times * epsilon, absolute: times * moved.max(place) };
        let reason = match (epsilon == 0.0, moved > place) {
            (true, _) if moved == 0.0 => "integers have no rounding".to_owned(),
            (_, true) => format!(
                "moving the input by its last place moves the output by {}; {} times that is allowed",
                number(moved),
                number(times),
            ),
            _ => format!(
                "the last place of the output is {}; {} times that is allowed",
                number(place),
                number(times),
            ),
        };
        Self { bounds, measured: true, reason }
    }
}

/// The last place of 1 in the coarser format of two tensors; 0 for integers.
pub(super) fn coarser(a: &Tensor, b: &Tensor) -> f64 {
    [a, b].into_iter().filter_map(|t| epsilon(t.dtype())).fold(0.0, f64::max)
}

pub(super) fn of(
    f: &mut Function<'_>,
    x: &[Tensor],
    base: &Tensor,
    coarsest: f64,
) -> Result<Noise> {
    noise::of_function(f, x, base, coarsest)
}

/// Both tensors in one dtype, so that their values can be compared.
pub(super) fn in_one_dtype(a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor)> {
    if a.dtype() == b.dtype() {
        return Ok((a.clone(), b.clone()));
    }
    let wide = |t: &Tensor| -> Result<Tensor> {
        Ok(Tensor::from_vec(to_f64_vec(t)?, t.shape(), &candle_core::Device::Cpu)?)
    };
    Ok((wide(a)?, wide(b)?))
}
