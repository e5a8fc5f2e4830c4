//! A column of predictions against a row of targets.

use super::{
    Seen,
    closure::Loss,
    form::Accepted,
    probes::{Aim, Probes},
    value::digits,
};
use crate::{
    Cause, Finding, Result,
    measure::{losses::Reference, noise::epsilon},
};

/// `(rows, 1)` against `(rows)`, and the other way round: right, or an error.
///
/// Not asked of a loss whose dims the contract names: it is called with these alone.
pub(super) fn judge(
    loss: &mut Loss<'_>,
    probes: &Probes<'_>,
    accepted: &Accepted,
    seen: &mut Vec<Seen>,
) -> Result<()> {
    let contract = probes.contract;
    let named = contract.shape.is_some() || contract.target_shape.is_some();
    if named || !probes.kind.is_elementwise() || probes.rows < 2 {
        return Ok(());
    }
    let epsilon = epsilon(contract.dtype).unwrap_or(f64::EPSILON);
    let dims: [(&[usize], &[usize]); 2] = [(&[1], &[]), (&[], &[1])];
    for (shape, target_shape) in dims {
        let probes = probes.shaped(shape, target_shape);
        let probe = probes.probe(Aim::Random, probes.rows)?;
        let Ok(value) = loss.value(&probe.prediction, &probe.target) else { continue };
        let point = &probe.point;
        let near = accepted.tolerance(point, epsilon);
        if (value - accepted.value(point)).abs() <= near {
            continue;
        }
        let reference = Reference { crossed: true, ..accepted.reference.clone() };
        let crossed = Accepted { reference, ..accepted.clone() };
        let by_pairs = (value - crossed.value(point)).abs() <= crossed.tolerance(point, epsilon);
        let dims = format!("{:?} against {:?}", probe.prediction.dims(), probe.target.dims());
        let mut evidence = match by_pairs {
            true => {
                format!("{dims} gives exactly the loss of every prediction against every target")
            }
            false => {
                format!("{dims} gives {}, not {}", digits(value), digits(accepted.value(point)))
            }
        };
        let perfect = probes.probe(Aim::Perfect, probes.rows)?;
        if let Ok(cost) = loss.value(&perfect.prediction, &perfect.target) {
            evidence = format!("{evidence}; a perfect prediction costs {} there", digits(cost));
        }
        seen.push(Seen::new(
            format!("the loss takes {dims}, and broadcasts them"),
            Finding::confirmed(Cause::LossBroadcast, evidence).advice_is(
                "take `-` and `*`, which refuse other dims, for the `broadcast_` operations; or name the dims the loss is \
                 used with, `contract.shape([1]).target_shape([])`",
            ),
        ));
        return Ok(());
    }
    Ok(())
}
