//! From slopes to a verdict.

use candle_core::{DType, Tensor, Var};

use super::correct::{GradientsCorrectReport, fineness};
use crate::{
    Batch, Cause, Failure, Finding, Learner, Result, Seed, Snapshot,
    check::{arguments, call},
    diagnose::engine::{self, Defect},
    measure::{
        graph::{Graph, operation},
        scan::is_finite,
        slope::{
            Agreement, Compared, Deviation, Fineness, Objective, OfFunction, OfLearner, Way, verify,
        },
        values::{multi_index, same_bits},
    },
    verdict::{count, listed, number},
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
    let mut wrong = wrong(&judgement, "function");
    let in_itself = !wrong.is_empty();
    if !in_itself {
        wrong = in_other_ways(&mut function, &judgement, fineness)?;
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
        let wrong = wrong(&judgement, "loss");
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

/// One gradient that is wrong, and what is seen of it.
struct Wrong {
    name: String,
    finding: Finding,
}

fn wrong(judgement: &Judgement, of: &str) -> Vec<Wrong> {
    let wrong = judgement.compared.iter().filter(|slot| slot.agreement == Agreement::Differs);
    wrong.map(|slot| Wrong { name: slot.name.clone(), finding: described(slot, of) }).collect()
}

fn described(slot: &Compared, of: &str) -> Finding {
    let comparison = slot.comparison;
    if !slot.arrived {
        let evidence = format!(
            "moving it changes the {of} (a slope of {} along one direction), yet no gradient arrives",
            number(comparison.numeric),
        );
        return Finding::confirmed(Cause::GradientCut, evidence).at(&slot.name);
    }
    let throughout = match slot.factor {
        Some(factor) => format!("; it is the slope times {} throughout", times(factor)),
        None => String::new(),
    };
    let (place, analytic, numeric) = match slot.entry {
        Some(entry) => (element(&slot.name, entry.at, &slot.dims), entry.analytic, entry.numeric),
        None => (slot.name.clone(), comparison.analytic, comparison.numeric),
    };
    if !analytic.is_finite() {
        let evidence = format!("the gradient is {}, where the {of} is finite", number(analytic));
        return Finding::confirmed(Cause::NotFinite, evidence).at(place).advice_is(
            "the derivative of `sqrt`, `log`, `norm` or `powf` is not finite at 0: add a small number before them",
        );
    }
    let evidence = match number(analytic) == number(numeric) {
        // Too close to tell apart in three digits.
        true => format!(
            "the gradient is off by {} of its size: {analytic:.9e}, where the slope is {numeric:.9e}",
            number((analytic / numeric - 1.0).abs()),
        ),
        false => {
            format!(
                "the gradient is {}, the slope {}{throughout}",
                number(analytic),
                number(numeric)
            )
        }
    };
    Finding::confirmed(Cause::GradientWrong, evidence).at(place)
}

/// `0.25`; `1 + 1e-5` where three digits would show 1.
fn times(factor: f64) -> String {
    let off = factor - 1.0;
    match off.abs() < 5e-3 {
        true if off < 0.0 => format!("1 - {}", number(-off)),
        true => format!("1 + {}", number(off)),
        false => number(factor),
    }
}

fn element(name: &str, at: usize, dims: &[usize]) -> String {
    let index = multi_index(at, dims);
    let index: Vec<String> = index.iter().map(usize::to_string).collect();
    format!("{name}[{}]", index.join(", "))
}

/// What holds for the input as a leaf of the graph, and not in another way.
fn in_other_ways(
    function: &mut OfFunction<'_>,
    judgement: &Judgement,
    fineness: Fineness,
) -> Result<Vec<Wrong>> {
    if let Some((own, seen)) = function.value_of_views()? {
        let size = own.iter().map(|v| v.abs()).fold(0.0, f64::max);
        let differences = own.iter().zip(&seen).map(|(a, b)| (a - b).abs());
        let largest = differences.fold(0.0, f64::max);
        if own.len() != seen.len() || largest > fineness.tolerance * size {
            let evidence = format!(
                "on a transposed view of the same values the result differs by up to {}, where it is {} at most",
                number(largest),
                number(size),
            );
            let finding = Finding::confirmed(Cause::LayoutDependent, evidence);
            return Ok(vec![Wrong { name: judgement.compared[0].name.clone(), finding }]);
        }
    }
    for (way, how) in [
        (Way::Computed, "is the result of another operation"),
        (Way::UsedBefore, "is used once more, before"),
        (Way::UsedAfter, "is used once more, after"),
        (Way::Transposed, "is a transposed view"),
    ] {
        if let Some(deviation) = function.differs_when(way, fineness)? {
            let Deviation { name, at, as_leaf, this_way } = deviation;
            let dims =
                judgement.compared.iter().find(|slot| slot.name == name).map(|s| &s.dims[..]);
            let evidence = format!(
                "the gradient is {} where the input {how}, and {} where it is a variable itself, which is the slope",
                number(this_way),
                number(as_leaf),
            );
            let finding = Finding::confirmed(Cause::GradientWrong, evidence).at(element(
                &name,
                at,
                dims.unwrap_or_default(),
            ));
            return Ok(vec![Wrong { name, finding }]);
        }
    }
    Ok(Vec::new())
}

/// The findings, with candle's own operations to blame where all that is wrong lies before them.
fn explained(
    wrong: Vec<Wrong>,
    defects: &[Defect],
    graph: &Graph,
    variables: &[(String, Var)],
    right: &[&str],
) -> Vec<Finding> {
    let modules = graph.modules();
    let before = |defect: &Defect, name: &str| match variables.iter().position(|(n, _)| n == name) {
        Some(at) => graph.depends(defect.node, at),
        // A function's inputs all are.
        None => true,
    };
    let blamed: Vec<&Defect> =
        defects.iter().filter(|defect| wrong.iter().any(|w| before(defect, &w.name))).collect();
    let unexplained: Vec<&Wrong> =
        wrong.iter().filter(|w| !blamed.iter().any(|defect| before(defect, &w.name))).collect();
    let mut found: Vec<Finding> = Vec::new();
    for defect in &blamed {
        let names: Vec<&str> =
            (wrong.iter()).filter(|w| before(defect, &w.name)).map(|w| w.name.as_str()).collect();
        let example = wrong.iter().find(|w| before(defect, &w.name));
        let example = example.map_or(String::new(), |w| {
            let place = w.finding.place().unwrap_or(&w.name);
            format!("; at {place} {}", w.finding.evidence())
        });
        let evidence = format!(
            "{}, tried by itself: {}, and {} {} before it{example}",
            defect.operation,
            defect.what,
            listed(&names),
            if names.len() == 1 { "comes" } else { "come" },
        );
        let finding = Finding::confirmed(defect.cause, evidence).advice_is(defect.remedy);
        let place = graph.place(defect.node, &modules);
        let same = found.iter().any(|f| f.advice() == defect.remedy);
        if !same {
            found.push(match place {
                Some(place) => finding.at(place),
                None => finding,
            });
        }
    }
    // One bracket for all: what is right lies behind the operation, what is wrong before it.
    let bracket = match right {
        // A constant is no part of the graph, so that an operation with one cannot be computed again.
        [] => format!(
            "{}, and candle's own operations with a constant: `conv1d` of a batch, `scatter` and a product with a \
             strided tensor have a wrong one (docs/candle-audit.md lists them)",
            Cause::GradientWrong.advice(),
        ),
        right => format!(
            "{}: it belongs to an operation between those that are wrong and those that are right ({})",
            Cause::GradientWrong.advice(),
            listed(right),
        ),
    };
    let (cut, off): (Vec<&Wrong>, Vec<&Wrong>) =
        unexplained.into_iter().partition(|w| w.finding.cause() == Cause::GradientCut);
    found.extend(off.into_iter().map(|w| match w.finding.cause() {
        Cause::GradientWrong => w.finding.clone().advice_is(bracket.as_str()),
        _ => w.finding.clone(),
    }));
    // A model with a cut has many variables before it, and one story.
    found.extend(match cut.as_slice() {
        [] => None,
        [only] => Some(only.finding.clone()),
        [first, ..] => {
            let names: Vec<&str> = cut.iter().map(|w| w.name.as_str()).collect();
            let evidence = format!(
                "no gradient arrives at {}, where there is a slope; {}: {}",
                count(cut.len(), "variable"),
                first.name,
                first.finding.evidence(),
            );
            Some(Finding::confirmed(Cause::GradientCut, evidence).at(listed(&names)))
        }
    });
    found
}

/// The learner in f64 with the values of its variables, and its batch; `None` for a learner that cannot be built again or
/// is in f64 already.
fn rebuilt<'a>(learner: &Learner<'a>, batch: &Batch) -> Result<Option<(Learner<'a>, Batch)>> {
    if learner.built_in().is_none_or(|dtype| dtype == DType::F64) {
        return Ok(None);
    }
    let precise = learner.rebuild(Seed::new(0), DType::F64)?;
    for (name, var) in precise.variables() {
        let own = learner.variables().iter().find(|(n, _)| n == name);
        let Some((_, own)) = own else {
            return Err(Failure::not_run(format!("the model builds other variables: `{name}`")));
        };
        var.set(&own.as_tensor().to_dtype(var.dtype())?)?;
    }
    let raised = |t: &Tensor| match t.dtype().is_float() {
        true => raise(t),
        false => Ok(t.clone()),
    };
    let input = batch.input().iter().map(raised).collect::<candle_core::Result<Vec<_>>>()?;
    let batch = match batch.target() {
        Some(target) => Batch::of_members(input, raised(target)?),
        None => batch.with_input(input),
    };
    let loss = precise.evaluate(&batch, true)?.loss;
    match loss.dtype() {
        DType::F64 => Ok(Some((precise, batch))),
        other => Err(Failure::not_run(format!("its loss is {}", other.as_str()))),
    }
}

/// In f64. candle's own conversion of f8e4m3 never returns, so that goes through f32.
fn raise(tensor: &Tensor) -> candle_core::Result<Tensor> {
    match tensor.dtype() {
        DType::F8E4M3 => tensor.to_dtype(DType::F32)?.to_dtype(DType::F64),
        _ => tensor.to_dtype(DType::F64),
    }
}

/// The inputs in f64 where the function takes and keeps them, and why not where it does not.
fn in_f64(
    f: &mut dyn FnMut(&[Tensor]) -> Result<Tensor>,
    members: &[Tensor],
) -> (Vec<Tensor>, Option<String>) {
    let raised = members.iter().map(|member| match member.dtype().is_float() {
        true => raise(member),
        false => Ok(member.clone()),
    });
    let Ok(raised) = raised.collect::<candle_core::Result<Vec<_>>>() else {
        return (members.to_vec(), Some("its inputs cannot be converted".to_owned()));
    };
    match f(&raised) {
        Ok(output) if output.dtype() == DType::F64 => (raised, None),
        Ok(output) => {
            let why = format!("the function makes {} of f64", output.dtype().as_str());
            (members.to_vec(), Some(why))
        }
        Err(failure) => {
            let why = format!("on f64 the function returns an error: {}", first_line(&failure));
            (members.to_vec(), Some(why))
        }
    }
}

fn first_line(failure: &Failure) -> String {
    let text = failure.source_text();
    text.lines().next().unwrap_or_default().to_owned()
}

fn inputs(members: &[Tensor]) -> Result<()> {
    if !members.iter().any(|member| member.dtype().is_float()) {
        return Err(Failure::bad_argument(
            "x",
            "integers, which have no gradient",
            "at least one tensor of a float dtype",
        ));
    }
    for member in members {
        if member.elem_count() == 0 {
            return Err(Failure::vacuous(format!(
                "the input of dims {:?} is empty: there is no slope to compare",
                member.dims(),
            )));
        }
        if !is_finite(member)? {
            return Err(Failure::bad_argument(
                "x",
                "a tensor with NaN or infinite values",
                "finite values",
            ));
        }
    }
    Ok(())
}

fn output(output: &Tensor) -> Result<()> {
    if !output.dtype().is_float() {
        return Err(Failure::not_run(format!(
            "the function returned a tensor of dtype {}; allowed: a float dtype",
            output.dtype().as_str(),
        )));
    }
    if output.elem_count() == 0 {
        return Err(Failure::vacuous("the function returned an empty tensor: it has no slope"));
    }
    if !is_finite(output)? {
        return Err(Failure::not_run("the function is not finite at this point: it has no slope")
            .finding(Finding::confirmed(
                Cause::NotFinite,
                "its output holds NaN or infinite values",
            )));
    }
    Ok(())
}

/// So many rows are shown, the wrong ones first.
const ROWS: usize = 24;

fn table(compared: &[Compared]) -> String {
    let mut ordered: Vec<&Compared> = compared.iter().collect();
    if ordered.len() > ROWS {
        ordered.sort_by_key(|slot| slot.agreement != Agreement::Differs);
    }
    let rows: Vec<[String; 3]> = ordered.iter().take(ROWS).map(|slot| row(slot)).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let (a, b) = (width(0), width(1));
    let mut lines: Vec<String> =
        rows.iter().map(|[name, dims, what]| format!("{name:<a$}  {dims:<b$}  {what}")).collect();
    if ordered.len() > ROWS {
        lines.push(format!("and {} more lines", ordered.len() - ROWS));
    }
    lines.join("\n")
}

fn row(slot: &Compared) -> [String; 3] {
    let what = match (slot.agreement, slot.factor) {
        (Agreement::Agrees, _) if slot.comparison.analytic == 0.0 => {
            "zero, as the slope".to_owned()
        }
        (Agreement::Agrees, _) => format!("right   off by {}", number(slot.error)),
        (Agreement::Kink, _) => "right   between the slopes on both sides of a kink".to_owned(),
        (Agreement::Staircase, _) => "not judged: the function is a staircase here".to_owned(),
        (Agreement::Unclear, _) => "unclear".to_owned(),
        (Agreement::Differs, _) if !slot.arrived => "none    where there is a slope".to_owned(),
        (Agreement::Differs, Some(factor)) => format!("wrong   the slope times {}", times(factor)),
        (Agreement::Differs, _) if !slot.comparison.analytic.is_finite() => {
            "wrong   not finite".to_owned()
        }
        (Agreement::Differs, None) => format!("wrong   off by {}", number(slot.error)),
    };
    [slot.name.clone(), format!("{:?}", slot.dims), what]
}
