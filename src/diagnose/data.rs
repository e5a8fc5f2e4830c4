//! Can the batch be fitted at all?
//!
//! Cost: one pass over the rows of the batch.

use super::{Case, Trajectory};
use crate::{Cause, Finding, Result, measure::rows::contradictions, verdict::count};

pub(super) fn findings(case: &Case<'_, '_>) -> Result<Vec<Finding>> {
    let Some(target) = case.batch.target() else {
        return Ok(Vec::new());
    };
    // A loss that grows has another trouble than its floor.
    let held_up = matches!(
        case.trajectory,
        Trajectory::Plateau | Trajectory::FloorAboveZero | Trajectory::Oscillating
    );
    if !held_up || target.rank() == 0 {
        return Ok(Vec::new());
    }
    let found = contradictions(case.batch.input(), target)?;
    let Some(pair) = found.first() else {
        return Ok(Vec::new());
    };
    let evidence = format!(
        "{} the input of an earlier row and another target: no function fits both",
        match found.len() {
            1 => "1 row has".to_owned(),
            n => format!("{} have", count(n, "row")),
        }
    );
    let place = format!("rows {} and {}", pair.first, pair.second);
    Ok(vec![Finding::confirmed(Cause::LabelsContradictory, evidence).at(place)])
}
