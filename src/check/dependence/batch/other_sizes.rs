//! The same rows in batches of other sizes.

use candle_core::Tensor;

use crate::{
    Cause, Finding, Result,
    measure::{
        batch::{HALF, Outcome, Part, Probed, coarsest_format, moved_by_last_bits, part},
        noise::{epsilon, size},
        values::to_f64_vec,
    },
    verdict::number,
};

/// The change when every float of the input moves by its last bit is the rounding of one step; a batch of another width
/// runs other kernels, which round every sum of the network otherwise. So many times the one allows for the other.
const ROUNDINGS: f64 = 64.0;

/// What other batch sizes showed.
pub(super) struct OtherSizes {
    /// The sizes in which every row had the output it has in the full batch.
    pub(super) same: Vec<usize>,
    /// The function cannot take, or answers otherwise shaped, a batch of another size.
    pub(super) refused: Vec<Finding>,
    /// A row has another output there.
    pub(super) differs: Vec<Finding>,
}

/// A row alone, the last one alone, and an odd number of rows: what a hidden batch size, a `squeeze` and a division by the
/// number of rows cannot stand.
pub(super) fn other_sizes(probed: &mut Probed<'_, '_>) -> Result<OtherSizes> {
    let n = probed.rows();
    let mut parts = vec![Part { first: 0, rows: 1 }, Part { first: n - 1, rows: 1 }];
    match n {
        ..=2 => {}
        3 => parts.push(Part { first: 0, rows: 2 }),
        _ => parts.push(Part { first: 0, rows: 3 }),
    }
    let mut seen = OtherSizes { same: Vec::new(), refused: Vec::new(), differs: Vec::new() };
    let (least, mut allowed) = (least_rounding(probed.own())?, None);
    let mut failed: Vec<usize> = Vec::new();
    for at in parts {
        if failed.contains(&at.rows) {
            continue;
        }
        let place = match at.rows {
            1 => "a batch of one".to_owned(),
            rows => format!("a batch of {rows}"),
        };
        let (finding, is_refusal) = match part(probed, at)? {
            Outcome::Error(error) => {
                let error = error.lines().next().unwrap_or_default().to_owned();
                let evidence = format!("the function returns an error: {error}");
                (Finding::confirmed(Cause::BatchSizeFixed, evidence).at(place), true)
            }
            Outcome::Dims(dims) => {
                let mut expected = probed.own().dims().to_vec();
                expected[0] = at.rows;
                let evidence = format!("the output has dims {dims:?} where {expected:?} fit");
                let advice =
                    "take the batch size from the input, and name the dimension of a `squeeze`";
                (
                    Finding::confirmed(Cause::BatchSizeFixed, evidence).at(place).advice_is(advice),
                    true,
                )
            }
            Outcome::Apart { row, difference, size } => {
                // Nearly all functions are below what needs no measurement.
                if difference <= least {
                    seen.same.push(at.rows);
                    continue;
                }
                let limit = match allowed {
                    Some(limit) => limit,
                    None => *allowed.insert(rounding(probed)?),
                };
                if difference <= limit {
                    seen.same.push(at.rows);
                    continue;
                }
                let evidence = format!(
                    "the output of row {row} is {} away from what it is in the batch of {n}, where its size is {}; \
                     rounding explains {}",
                    number(difference),
                    number(size),
                    number(limit),
                );
                let advice = "look for a division by the number of rows, and for a `squeeze` or a branch that depends on it";
                (
                    Finding::confirmed(Cause::BatchSizeFixed, evidence).at(place).advice_is(advice),
                    false,
                )
            }
        };
        failed.push(at.rows);
        match is_refusal {
            true => seen.refused.push(finding),
            false => seen.differs.push(finding),
        }
    }
    seen.same.dedup();
    seen.same.retain(|rows| !failed.contains(rows));
    Ok(seen)
}

/// How far the output of a row may be from itself in another batch by rounding alone, at the least: what a deep network
/// that takes ids, which have no last bit to move, was seen to have.
fn least_rounding(own: &Tensor) -> Result<f64> {
    match epsilon(own.dtype()) {
        Some(epsilon) => Ok(units(epsilon) * epsilon * size(&to_f64_vec(own)?)),
        None => Ok(0.0),
    }
}

/// How far it may be on this function: measured by moving every float of the input by its last bit, in the format that it
/// computes in.
fn rounding(probed: &mut Probed<'_, '_>) -> Result<f64> {
    let epsilon = coarsest_format(probed)?;
    let least = units(epsilon) * epsilon * size(&to_f64_vec(probed.own())?);
    Ok(ROUNDINGS * moved_by_last_bits(probed)? + least)
}

/// How many last places of the largest output: 1e-4 of it in f32; half precision is its own noise, a few places.
fn units(epsilon: f64) -> f64 {
    if epsilon < HALF { 1024.0 } else { 32.0 }
}
