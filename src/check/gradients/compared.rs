//! From slopes to a verdict.

use candle_core::{DType, Tensor};

use super::{
    correct::{GradientsCorrectReport, fineness},
    precision::{first_line, in_f64, inputs, output, rebuilt},
    slopes_table::table,
    wrong::{explained, in_other_ways, wrong},
};
use crate::{
    Batch, Cause, Failure, Finding, Learner, Result, Snapshot,
    check::{arguments, call},
    diagnose::engine,
    measure::{
        graph::{Graph, operation},
        scan::is_finite,
        slope::{Agreement, Compared, Objective, OfFunction, OfLearner, verify},
        values::same_bits,
    },
    verdict::count,
};

/// Everything that was compared, with what is wrong in it.
#[derive(Debug)]
pub struct Judgement {
    compared: Vec<Compared>,
    evaluations: usize,
    dtype: DType,
    /// Why slopes were measured in f32.
    why_not_f64: Option<String>,
    findings: Vec<Finding>,
    /// `loss` or `function`.
    of: &'static str,
}

impl Judgement {
    /// The report, or the failure.
    pub(super) fn concluded(self, allowed: &[Cause]) -> Result<GradientsCorrectReport> {
        let findings = call::not_allowed(self.findings.clone(), allowed);
        if !findings.is_empty() {
            return Err(self.failure(findings));
        }
        let named = |agreement: Agreement| -> Vec<String> {
            let those = self.compared.iter().filter(|slot| slot.agreement == agreement);
            those.map(|slot| slot.name.clone()).collect()
        };
        let (kinks, mut unclear) = (named(Agreement::Kink), named(Agreement::Unclear));
        unclear.extend(named(Agreement::Staircase));
        if unclear.len() == self.compared.len() {
            let failure = Failure::vacuous("no slope could be told from kinks and rounding");
            return Err(self.with_table(failure).help(self.precision_help()));
        }
        let is_flat = |slot: &Compared| slot.comparison.numeric.abs() <= slot.comparison.allowed;
        if self.compared.iter().all(|slot| is_flat(slot) && slot.comparison.analytic == 0.0) {
            return Err(Failure::vacuous(format!(
                "the {} does not depend on {}: every slope is zero",
                self.of,
                if self.of == "loss" { "any variable" } else { "its input" },
            )));
        }
        Ok(GradientsCorrectReport {
            judged: self.compared.iter().map(|slot| slot.name.clone()).collect(),
            kinks,
            unclear,
            dtype: self.dtype,
            largest_error: self.compared.iter().map(|slot| slot.error).fold(0.0, f64::max),
            evaluations: self.evaluations,
        })
    }

    fn failure(&self, findings: Vec<Finding>) -> Failure {
        let wrong =
            self.compared.iter().filter(|slot| slot.agreement == Agreement::Differs).count();
        let headline = match (wrong, self.compared.len()) {
            (0, _) => {
                format!("the gradient of the {} depends on how its input comes to it", self.of)
            }
            (1, 1) => format!("the gradient is not the slope of the {}", self.of),
            _ => format!(
                "the gradient of {wrong} of {} is not the slope of the {}",
                count(self.compared.len(), if self.of == "loss" { "variable" } else { "input" }),
                self.of,
            ),
        };
        self.with_table(Failure::violated(headline)).with_findings(findings)
    }

    fn with_table(&self, failure: Failure) -> Failure {
        let why = self.why_not_f64.as_deref().map(|why| format!(", since {why}"));
        let measured = format!("in {}{}", self.dtype.as_str(), why.unwrap_or_default());
        failure.fact("gradients", table(&self.compared)).fact("slopes", measured)
    }

    fn precision_help(&self) -> &'static str {
        match self.dtype {
            DType::F64 => "look at another point: one that is on no kink",
            _ => {
                "give the check f64: a learner from `Learner::build`, or a function that takes f64 inputs"
            }
        }
    }
}

/// Judges a function by its float inputs.
pub(super) fn judge_function(
    f: &mut dyn FnMut(&[Tensor]) -> Result<Tensor>,
    members: &[Tensor],
    tolerance: Option<f64>,
) -> Result<Judgement> {
    inputs(members)?;
    let (once, again) = (f(members)?, f(members)?);
    output(&once)?;
    if !same_bits(&once, &again)? {
        return Err(Failure::not_run(
            "two calls of the function differ: its slope cannot be measured",
        )
        .help("fix the randomness: evaluation mode, or `Seed::seed_candle`"));
    }
    let (members, why_not_f64) = in_f64(f, members);
    let mut function = OfFunction::new(f, &members)?;
    let dtype = function.dtype();
    let fineness = fineness(dtype, tolerance)?;
    let (compared, evaluations) = verify(&mut function, fineness)?;
    let mut judgement = Judgement {
        compared,
        evaluations,
        dtype,
        why_not_f64,
        findings: Vec::new(),
        of: "function",
    };
    let graph = Graph::of(&function.root, &function.leaves);
    let mut wrong = wrong(&judgement.compared, "function");
    let in_itself = !wrong.is_empty();
    if !in_itself {
        wrong = in_other_ways(&mut function, &judgement.compared, fineness)?;
    }
    if !wrong.is_empty() {
        let defects = engine::defects(&graph, !in_itself)?;
        judgement.findings = explained(wrong, &defects, &graph, &[], &[]);
    }
    Ok(judgement)
}

/// Judges a learner by its trainable variables.
pub(super) fn judge_learner(
    learner: &Learner<'_>,
    batch: &Batch,
    tolerance: Option<f64>,
) -> Result<Judgement> {
    arguments::learner(learner)?;
    arguments::batch(learner, batch)?;
    let _guard = Snapshot::take(learner.variables())?.guard();
    arguments::evaluation(batch, &learner.evaluate(batch, true)?)?;
    match rebuilt(learner, batch) {
        Ok(Some((precise, batch))) => judge_variables(&precise, &batch, tolerance, None),
        Ok(None) => {
            let why = (learner.trainable().any(|(_, var)| var.dtype() != DType::F64))
                .then(|| "the learner is not one from `Learner::build`".to_owned());
            judge_variables(learner, batch, tolerance, why)
        }
        Err(failure) => {
            let why = format!("in f64 the model returns an error: {}", first_line(&failure));
            judge_variables(learner, batch, tolerance, Some(why))
        }
    }
}

fn judge_variables(
    learner: &Learner<'_>,
    batch: &Batch,
    tolerance: Option<f64>,
    why_not_f64: Option<String>,
) -> Result<Judgement> {
    let mut objective = OfLearner::new(learner, batch)?;
    let dtype = objective.dtype();
    let fineness = fineness(dtype, tolerance)?;
    if !is_finite(&objective.loss)? {
        return Err(Failure::not_run("the loss is not finite here: it has no slope")
            .finding(Finding::confirmed(Cause::NotFinite, "the loss is NaN or infinite")));
    }
    let (compared, evaluations) = verify(&mut objective, fineness)?;
    let why_not_f64 = why_not_f64.filter(|_| dtype != DType::F64);
    let mut judgement =
        Judgement { compared, evaluations, dtype, why_not_f64, findings: Vec::new(), of: "loss" };
    if judgement.compared.iter().any(|slot| slot.agreement == Agreement::Differs) {
        let graph = Graph::of(&objective.loss, learner.variables());
        judgement.compared = with_six_digits(judgement.compared, &graph)?;
        let wrong = wrong(&judgement.compared, "loss");
        if wrong.is_empty() {
            return Ok(judgement);
        }
        let right: Vec<&str> = (judgement.compared.iter())
            // One that is nearly off may lie before the operation, and be too small to show it.
            .filter(|slot| slot.error < 0.1 * fineness.tolerance)
            .filter(|slot| slot.agreement == Agreement::Agrees && slot.comparison.analytic != 0.0)
            .map(|slot| slot.name.as_str())
            .collect();
        let defects = engine::defects(&graph, false)?;
        judgement.findings = explained(wrong, &defects, &graph, learner.variables(), &right);
    }
    Ok(judgement)
}

/// What the six digits of candle's GELU constants may make of a gradient behind many of them.
const SIX_DIGITS: f64 = 1e-4;

/// candle's `gelu` and `gelu_erf` have constants of six digits in their backward passes: a gradient behind them is right to
/// 2e-7, and to less behind several.
fn with_six_digits(mut compared: Vec<Compared>, graph: &Graph) -> Result<Vec<Compared>> {
    let is_off = |slot: &Compared| {
        slot.agreement == Agreement::Differs && slot.arrived && slot.error < SIX_DIGITS
    };
    if !compared.iter().any(is_off) {
        return Ok(compared);
    }
    for node in graph.nodes() {
        let [operand] = node.operands[..] else { continue };
        let operand = &graph.nodes()[operand].tensor;
        if operation::is_unary("gelu", &node.tensor, operand)?
            || operation::is_unary("gelu_erf", &node.tensor, operand)?
        {
            for slot in compared.iter_mut().filter(|slot| is_off(slot)) {
                slot.agreement = Agreement::Agrees;
            }
            break;
        }
    }
    Ok(compared)
}
