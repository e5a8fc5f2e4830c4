//! Does the training succeed when the biases start at zero?
//!
//! Cost: one training, only where a variable's first gradient is exactly zero and a bias is not. A bias that holds every
//! unit of a layer below zero kills it behind a ReLU: confirms or rules out [`Cause::UnitsDead`].

use candle_core::{Tensor, Var};

use super::{
    Outcome,
    lab::{Lab, Stop},
};
use crate::{Cause, Finding, Result, measure::values::to_f64_vec};

pub(super) fn run(lab: &Lab<'_, '_, '_>) -> Result<Outcome> {
    let case = lab.case;
    let dead = case.training.gradients.iter().find(|gradient| gradient.first_norm == Some(0.0));
    let Some(dead) = dead else { return Ok(Outcome::Nothing) };
    let mut biases: Vec<(&str, &Var)> = Vec::new();
    for (name, var, before) in case.before.values() {
        let is_bias = name == "bias" || name.ends_with(".bias");
        if is_bias && var.dtype().is_float() && to_f64_vec(before)?.iter().any(|v| *v != 0.0) {
            biases.push((name, var));
        }
    }
    if biases.is_empty() {
        return Ok(Outcome::Nothing);
    }
    case.before.restore()?;
    for (_, var) in &biases {
        var.set(&Tensor::zeros(var.shape(), var.dtype(), var.device())?)?;
    }
    let rerun = lab.rerun_from_here(case.learner, case.batch, None, Stop::AtTheGoal);
    case.before.restore()?;
    let Some(rerun) = rerun? else { return Ok(Outcome::Nothing) };
    Ok(match lab.is_cured(&rerun) {
        true => Outcome::Confirmed(
            Finding::confirmed(
                Cause::UnitsDead,
                format!(
                    "its first gradient is exactly zero; with the biases started at 0, {}",
                    rerun.way()
                ),
            )
            .at(dead.name.as_str()),
        ),
        false => Outcome::RuledOut(
            Cause::UnitsDead,
            format!("with the biases started at 0 it still goes {}", rerun.way()),
        ),
    })
}
