//! The same rows in a batch of another size.

use candle_core::Tensor;

use super::Probed;
use crate::{
    Result, Seed,
    measure::{
        noise::{epsilon, inner_format, nudged, short_format},
        perturb::largest_difference,
        values::{is_floating, to_f64_vec},
    },
};

/// Some rows of the batch in a batch of their own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) first: usize,
    pub(crate) rows: usize,
}

/// What the function made of them.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The row whose output is the furthest from what it is in the full batch, by how much, and how large it is there.
    /// Zeros for integers, which are compared by dims only.
    Apart {
        row: usize,
        difference: f64,
        size: f64,
    },
    Dims(Vec<usize>),
    Error(String),
}

/// Calls the function on a part of the batch.
pub(crate) fn part(probed: &mut Probed<'_, '_>, part: Part) -> Result<Outcome> {
    let Part { first, rows } = part;
    let input = probed.base()?;
    let input = input.iter().map(|member| member.narrow(0, first, rows)?.copy());
    let input = input.collect::<candle_core::Result<Vec<_>>>()?;
    let output = match probed.call(&input) {
        Ok(output) => output,
        Err(failure) => return Ok(Outcome::Error(failure.source_text())),
    };
    let mut expected = probed.own().dims().to_vec();
    expected[0] = rows;
    if output.dims() != expected {
        return Ok(Outcome::Dims(output.dims().to_vec()));
    }
    let mut worst = Outcome::Apart { row: first, difference: 0.0, size: 0.0 };
    if !is_floating(output.dtype()) {
        return Ok(worst);
    }
    let own = probed.own().narrow(0, first, rows)?;
    let mut most = 0.0;
    for row in 0..rows {
        let (difference, size) = largest_difference(&own, &output, 0, row)?;
        if difference > most || difference.is_nan() {
            worst = Outcome::Apart { row: first + row, difference, size };
            most = if difference.is_nan() { f64::INFINITY } else { difference };
        }
    }
    Ok(worst)
}

/// How far the output of a row may be from itself in another batch by rounding alone, at the least: what a deep network
/// that takes ids, which have no last bit to move, was seen to have. 1e-4 of the largest output in f32; half precision is
/// its own noise, a few units in the last place.
pub(crate) fn least_rounding(own: &Tensor) -> Result<f64> {
    let Some(epsilon) = epsilon(own.dtype()) else { return Ok(0.0) };
    Ok(units(epsilon) * epsilon * largest(to_f64_vec(own)?.into_iter()))
}

/// How many last places: half precision is its own noise.
fn units(epsilon: f64) -> f64 {
    if epsilon < HALF { 1024.0 } else { 32.0 }
}

/// The last place of f16.
const HALF: f64 = 1.0 / 1024.0;

/// The last place of the coarsest format that the function is seen to compute in: a model in half precision may take ids
/// and return probabilities in f32. It shows in its outputs, where they are all short; in the graph behind them; or when
/// the input can be rounded to that format without a change.
fn coarsest(probed: &mut Probed<'_, '_>, own: &[f64]) -> Result<f64> {
    let dtype = probed.own().dtype();
    let Some(returned) = epsilon(dtype) else { return Ok(0.0) };
    let nodes = probed.with_graph()?;
    let inside = nodes.sorted_nodes().into_iter().filter_map(|node| epsilon(node.dtype()));
    let seen = inside.fold(short_format(own, returned), f64::max);
    if seen >= HALF {
        return Ok(seen);
    }
    let (base, output) = (probed.base()?, probed.own().clone());
    let movable: Vec<Option<f64>> = base.iter().map(|member| epsilon(member.dtype())).collect();
    let rounded = inner_format(&mut |x| probed.call(x), &base, &movable, &output, seen)?;
    Ok(rounded.unwrap_or(seen))
}

/// The change when every float of the input moves by its last bit is the rounding of one step; a batch of another width
/// runs other kernels, which round every sum of the network otherwise. So many times the one allows for the other.
const ROUNDINGS: f64 = 64.0;

/// How far it may be on this function: measured by moving every float of the input by its last bit.
pub(crate) fn rounding(probed: &mut Probed<'_, '_>) -> Result<f64> {
    let base = probed.base()?;
    let own = to_f64_vec(probed.own())?;
    let mut most: f64 = 0.0;
    if base.iter().any(|member| is_floating(member.dtype())) {
        for seed in 0..2 {
            let moved = base.iter().enumerate();
            let moved = moved.map(|(i, t)| nudged(t, Seed::new(seed), &format!("input {i}")));
            let output = probed.call(&moved.collect::<candle_core::Result<Vec<_>>>()?)?;
            let output = to_f64_vec(&output)?;
            most = most.max(largest(own.iter().zip(&output).map(|(a, b)| a - b)));
        }
    }
    let epsilon = coarsest(probed, &own)?;
    Ok(ROUNDINGS * most + units(epsilon) * epsilon * largest(own.into_iter()))
}

/// Masked logits are infinite, and no measure of anything.
fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.map(f64::abs).filter(|v| v.is_finite()).fold(0.0, f64::max)
}
