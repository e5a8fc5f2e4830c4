//! Laws that are asked of the closure itself: of losses of the user's own, whose form candling does not know.

use candle_core::Tensor;

use super::{
    Seen,
    closure::Loss,
    probes::{Aim, Probe, Probes},
    value::digits,
};
use crate::{
    Cause, Contract, Failure, Finding, Result, Seed,
    contract::Law,
    measure::{losses::Kind, noise::epsilon, rows::rotate, values::is_floating},
    verdict::{count, listed, number, told_apart},
};

/// Two sums of one batch in another order, or of it twice: a few roundings of every term.
const ROUNDINGS: f64 = 64.0;

pub(super) fn judge(
    loss: &mut Loss<'_>,
    contract: &Contract,
    probes: Option<&Probes<'_>>,
    seen: &mut Vec<Seen>,
) -> Result<()> {
    if contract.laws.is_empty() {
        return Ok(());
    }
    let (prediction, target) = match probes {
        Some(probes) => {
            let probe = probes.probe(Aim::Random, probes.rows)?;
            (probe.prediction, probe.target)
        }
        // The longest batch tells most.
        None => {
            let examples = contract.examples.iter().filter(|e| e.prediction.rank() > 0);
            let longest = examples.max_by_key(|e| e.prediction.dims()[0]);
            let Some(example) = longest else {
                return Err(Failure::bad_argument(
                    "contract",
                    "one of scalars alone",
                    "an example with the batch as its first dimension",
                ));
            };
            (example.prediction.clone(), example.target.clone())
        }
    };
    let value = loss.value(&prediction, &target)?;
    if !value.is_finite() {
        return Ok(());
    }
    let laws = Laws {
        near: ROUNDINGS
            * epsilon(prediction.dtype()).unwrap_or(f64::EPSILON)
            * value.abs().max(1e-3),
        rows: prediction.dims()[0],
        prediction,
        target,
        value,
    };
    let has = |law: Law| contract.laws.contains(&law);
    if has(Law::EveryRowCounts) {
        seen.extend(laws.silent_rows(loss)?);
    }
    if has(Law::TargetMatters) {
        seen.extend(laws.target_ignored(loss)?);
    }
    if has(Law::RowOrder) {
        laws.row_order(loss, seen)?;
    }
    let whole = matches!(contract.kind(), Some(Kind::Batch(_)));
    if has(Law::Reduction) && !whole {
        laws.reduction(loss, contract.sum, seen)?;
    }
    if has(Law::NonNegative) && laws.value < -laws.near {
        seen.push(Seen::new(
            "the loss is below 0",
            Finding::confirmed(Cause::OutOfRange, format!("{} for a random batch", number(value))),
        ));
    }
    if has(Law::ShiftInvariant) {
        laws.shift(loss, seen)?;
    }
    if probes.is_none() && loss.gradient(&laws.prediction, &laws.target)?.is_none() {
        seen.push(Seen::new(
            "no gradient reaches the prediction: nothing can be trained by this loss",
            Finding::confirmed(Cause::LossDetached, "the backward pass returns no gradient for it"),
        ));
    }
    Ok(())
}

/// What a loss that no formula explains does not look at: rows, or the target.
pub(super) fn overlooked(loss: &mut Loss<'_>, probe: &Probe, value: f64) -> Result<Vec<Seen>> {
    let laws = Laws {
        prediction: probe.prediction.clone(),
        target: probe.target.clone(),
        rows: probe.prediction.dims()[0],
        value,
        near: 0.0,
    };
    let target = laws.target_ignored(loss)?;
    Ok(target.into_iter().chain(laws.silent_rows(loss)?).collect())
}

struct Laws {
    prediction: Tensor,
    target: Tensor,
    rows: usize,
    value: f64,
    near: f64,
}

impl Laws {
    /// Rows whose prediction moves nothing.
    fn silent_rows(&self, loss: &mut Loss<'_>) -> Result<Option<Seen>> {
        let noise = Seed::new(0).uniform(
            "another prediction",
            0.2..0.8,
            self.prediction.shape(),
            self.prediction.dtype(),
            self.prediction.device(),
        )?;
        // Between the prediction and one half: inside of whatever range the loss takes.
        let other = ((&self.prediction * 0.5)? + (noise * 0.25)?)?;
        // The bits of a loss in half precision are too few to show one row: its gradient has to be silent, too.
        let Some(gradient) = loss.gradient(&self.prediction, &self.target)? else {
            return Ok(None);
        };
        let row_len = gradient.len() / self.rows.max(1);
        let mut silent = Vec::new();
        for row in 0..self.rows {
            if gradient[row * row_len..(row + 1) * row_len].iter().any(|slope| *slope != 0.0) {
                continue;
            }
            let before = self.prediction.narrow(0, 0, row)?;
            let after = self.prediction.narrow(0, row + 1, self.rows - row - 1)?;
            let mut parts = vec![before, other.narrow(0, row, 1)?, after];
            parts.retain(|part| part.dims()[0] > 0);
            let moved = Tensor::cat(&parts, 0)?;
            if loss.value(&moved, &self.target)?.to_bits() == self.value.to_bits() {
                silent.push(row.to_string());
            }
        }
        if silent.is_empty() {
            return Ok(None);
        }
        let names: Vec<&str> = silent.iter().map(String::as_str).collect();
        let rows = if silent.len() == 1 { "row" } else { "rows" };
        let evidence = format!("another prediction in {rows} {} moves nothing", listed(&names));
        Ok(Some(Seen::new(
            format!("{} of {} do not count in the loss", silent.len(), count(self.rows, "row")),
            Finding::confirmed(Cause::LossIgnoresRows, evidence),
        )))
    }

    fn target_ignored(&self, loss: &mut Loss<'_>) -> Result<Option<Seen>> {
        if self.target.rank() == 0 || self.target.dims()[0] < 2 {
            return Ok(None);
        }
        let turned = rotate(&self.target, 1)?;
        let others = match is_floating(self.target.dtype()) {
            true => vec![turned, self.target.affine(-0.5, 0.5)?],
            false => vec![turned],
        };
        for other in others {
            if loss.value(&self.prediction, &other)?.to_bits() != self.value.to_bits() {
                return Ok(None);
            }
        }
        Ok(Some(Seen::new(
            "the loss does not depend on the target",
            Finding::confirmed(
                Cause::LossIgnoresTarget,
                format!("it is {} for other targets too, bit for bit", digits(self.value)),
            ),
        )))
    }

    fn row_order(&self, loss: &mut Loss<'_>, seen: &mut Vec<Seen>) -> Result<()> {
        if self.rows < 2 || self.target.dims().first() != Some(&self.rows) {
            return Ok(());
        }
        let turned = loss.value(&rotate(&self.prediction, 1)?, &rotate(&self.target, 1)?)?;
        if (turned - self.value).abs() > self.near {
            let (before, after) = told_apart(self.value, turned);
            seen.push(Seen::new(
                "the order of the rows changes the loss",
                Finding::confirmed(
                    Cause::NotInvariant,
                    format!("{before} -> {after} with predictions and targets rotated by one row"),
                ),
            ));
        }
        Ok(())
    }

    fn reduction(&self, loss: &mut Loss<'_>, sum: bool, seen: &mut Vec<Seen>) -> Result<()> {
        if self.target.rank() == 0 {
            return Ok(());
        }
        let twice = |t: &Tensor| Tensor::cat(&[t, t], 0);
        let doubled = loss.value(&twice(&self.prediction)?, &twice(&self.target)?)?;
        let expected = if sum { 2.0 * self.value } else { self.value };
        if (doubled - expected).abs() <= 2.0 * self.near {
            return Ok(());
        }
        let told = if (doubled - 2.0 * self.value).abs() <= 2.0 * self.near {
            "the loss is a sum over the batch, not a mean"
        } else if (doubled - self.value).abs() <= 2.0 * self.near {
            "the loss is a mean over the batch, not the sum that is declared"
        } else {
            "the loss is neither a mean over the batch nor a sum"
        };
        let evidence =
            format!("the batch given twice costs {}, once {}", digits(doubled), digits(self.value));
        let finding = Finding::confirmed(Cause::LossReduction, evidence);
        let finding = finding.advice_is(
            "use `mean_all`; a sum that is meant is declared, `contract.sum()`, and a loss that is neither, \
             `contract.without(Law::Reduction)`",
        );
        seen.push(Seen::new(told, finding));
        Ok(())
    }

    fn shift(&self, loss: &mut Loss<'_>, seen: &mut Vec<Seen>) -> Result<()> {
        let shifted = loss.value(&self.prediction.affine(1.0, 1.0)?, &self.target)?;
        if (shifted - self.value).abs() > self.near {
            let (before, after) = told_apart(self.value, shifted);
            seen.push(Seen::new(
                "one number added to all predictions changes the loss",
                Finding::confirmed(
                    Cause::NotInvariant,
                    format!("{before} -> {after} with 1 added"),
                ),
            ));
        }
        Ok(())
    }
}
