//! Rounding that looks like a dependence.

use std::collections::BTreeSet;

use candle_core::{Tensor, Var};

use super::{
    cuts::{Crossing, Rule},
    probes::{Along, Probes},
};
use crate::{
    Result, Seed,
    check::function::Function,
    measure::{backward::backward, noise::epsilon, perturb::differences, values::is_floating},
};

/// A change of so many last places, as a share of the output, may be rounding.
const ROUNDINGS: f64 = 16.0;

/// Of so many outputs the gradient is asked.
const ASKED: usize = 16;

/// Whether outputs move by rounding alone, and none depends on the values it must not see: positions that are grouped by
/// their values (the experts of a mixture) are multiplied in groups, and the width of a group decides which kernel does it.
///
/// The gradient tells this from a small leak: it does not round to zero. It is asked only where it sees all that the output
/// depends on: `f` keeps its graph, the input is of floats, and what has no gradient does not move the output either.
pub(super) fn is_rounding(
    f: &mut Function<'_>,
    probes: &mut Probes<'_, '_>,
    along: Along,
    rule: Rule,
    crossings: &[Crossing],
) -> Result<bool> {
    let Some(epsilon) = epsilon(probes.base().dtype()) else { return Ok(false) };
    let limit = ROUNDINGS * epsilon;
    let x = probes.input()?;
    let usable = |t: &Tensor| is_floating(t.dtype()) && t.rank() > along.dim;
    if crossings.is_empty()
        || crossings.iter().any(|crossing| crossing.share > limit)
        || !x.iter().all(usable)
    {
        return Ok(false);
    }
    let vars = x.iter().map(Var::from_tensor).collect::<candle_core::Result<Vec<_>>>()?;
    let members: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    probes.calls += 1;
    let output = f(&members)?;
    let leaking = crossings.iter().flat_map(|c| c.outputs.iter().map(|t| (c.row, *t)));
    let leaking: BTreeSet<(usize, usize)> = leaking.collect();
    let sizes = probes.sizes()?;
    for (row, t) in leaking.iter().copied().step_by(leaking.len().div_ceil(ASKED)) {
        let cell = output.narrow(0, row, 1)?.narrow(along.output_dim, t, 1)?;
        let projection =
            Seed::new(0).normal("projection", cell.shape(), cell.dtype(), cell.device())?;
        let Ok(grads) = backward(&(cell * projection)?.sum_all()?) else { return Ok(false) };
        let mut seen = vec![false; probes.inputs()];
        for var in &vars {
            let Some(grad) = grads.get(var) else { continue };
            let reached = differences(grad, &grad.zeros_like()?, along.dim)?;
            for (cell, _) in reached.iter().enumerate().filter(|(_, size)| **size != 0.0) {
                let (other, s) = (cell / probes.inputs(), cell % probes.inputs());
                if other != row || !rule.allows(t, s) {
                    return Ok(false);
                }
                seen[s] = true;
            }
        }
        let unseen = |s: usize| rule.allows(t, s) && !seen[s];
        let at = row * probes.outputs() + t;
        if !seen.contains(&true) || probes.moved_alone(0, row, &unseen)?[at] > limit * sizes[at] {
            return Ok(false);
        }
    }
    Ok(true)
}
