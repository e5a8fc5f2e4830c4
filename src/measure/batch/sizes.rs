//! The same rows in a batch of another size.

use super::Probed;
use crate::{
    Result, Seed,
    measure::{
        noise::{epsilon, inner_format, nudged, short_format, size},
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

/// The largest change of an output value when every float of the input moves by its last bit; masks left out.
pub(crate) fn moved_by_last_bits(probed: &mut Probed<'_, '_>) -> Result<f64> {
    let base = probed.base()?;
    let own = to_f64_vec(probed.own())?;
    let size = size(&own);
    let mut most: f64 = 0.0;
    if base.iter().any(|member| is_floating(member.dtype())) {
        for seed in 0..2 {
            let moved = base.iter().enumerate();
            let moved = moved.map(|(i, t)| nudged(t, Seed::new(seed), &format!("input {i}")));
            let output = probed.call(&moved.collect::<candle_core::Result<Vec<_>>>()?)?;
            let output = to_f64_vec(&output)?;
            // Masked logits are infinite, or of a size of their own.
            let changes = own.iter().zip(&output).filter(|(a, _)| a.abs() <= size);
            let changes = changes.map(|(a, b)| (a - b).abs()).filter(|change| change.is_finite());
            most = changes.fold(most, f64::max);
        }
    }
    Ok(most)
}

/// The last place of f16.
pub(crate) const HALF: f64 = 1.0 / 1024.0;

/// The last place of the coarsest format that the function is seen to compute in: a model in half precision may take ids
/// and return probabilities in f32. It shows in its outputs, where they are all short; in the graph behind them; or when
/// the input can be rounded to that format without a change.
pub(crate) fn coarsest_format(probed: &mut Probed<'_, '_>) -> Result<f64> {
    let Some(returned) = epsilon(probed.own().dtype()) else { return Ok(0.0) };
    let own = to_f64_vec(probed.own())?;
    let nodes = probed.with_graph()?;
    let inside = nodes.sorted_nodes().into_iter().filter_map(|node| epsilon(node.dtype()));
    let seen = inside.fold(short_format(&own, returned), f64::max);
    if seen >= HALF {
        return Ok(seen);
    }
    let (base, output) = (probed.base()?, probed.own().clone());
    let movable: Vec<Option<f64>> = base.iter().map(|member| epsilon(member.dtype())).collect();
    let rounded = inner_format(&mut |x| probed.call(x), &base, &movable, &output, seen)?;
    Ok(rounded.unwrap_or(seen))
}
