//! Is the output able to reach the targets?
//!
//! Cost: one pass over the output at the start and at the end.

use super::{Case, Trajectory};
use crate::{
    Cause, Finding, Result,
    measure::{
        rows::differ,
        values::{extent, to_f64_vec},
    },
    verdict::number,
};

pub(super) fn findings(case: &Case<'_, '_>) -> Result<Vec<Finding>> {
    let (Some(first), Some(last)) = (&case.training.first_output, case.last_output()) else {
        return Ok(Vec::new());
    };
    if !matches!(case.trajectory, Trajectory::Plateau | Trajectory::FloorAboveZero) {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let varied = case.batch.input().iter().map(differ).collect::<candle_core::Result<Vec<_>>>()?;
    if varied.contains(&true) && last.rank() > 0 && !differ(first)? && !differ(last)? {
        found.push(Finding::confirmed(
            Cause::OutputConstant,
            "the rows of the input differ, those of the output are equal, before and after training",
        ));
    }
    found.extend(bounded(case, &to_f64_vec(first)?, &to_f64_vec(last)?)?);
    Ok(found)
}

/// The ranges of the usual last activations: sigmoid and softmax, tanh, ReLU.
const RANGES: [(f64, f64); 3] = [(0.0, 1.0), (-1.0, 1.0), (0.0, f64::INFINITY)];

fn bounded(case: &Case<'_, '_>, first: &[f64], last: &[f64]) -> Result<Option<Finding>> {
    let Some(target) = case.batch.target().filter(|t| t.dtype().is_float()) else {
        return Ok(None);
    };
    let both: Vec<f64> = first.iter().chain(last).copied().collect();
    let (Some((low, high)), Some((least, most))) = (extent(&both), extent(&to_f64_vec(target)?))
    else {
        return Ok(None);
    };
    let fits = |(bottom, top): &(f64, f64)| low >= *bottom && high <= *top;
    Ok(RANGES.iter().find(|range| fits(range)).and_then(|(bottom, top)| {
        // Far enough outside to matter, next to the range's or the targets' own width.
        let outside = (bottom - least).max(most - top);
        (outside > 0.1 * (most - least)).then(|| {
            Finding::possible(
                Cause::OutputBounded,
                format!(
                    "the outputs stay in [{}, {}], the targets reach from {} to {}",
                    number(low),
                    number(high),
                    number(least),
                    number(most),
                ),
            )
        })
    }))
}
