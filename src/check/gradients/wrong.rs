//! Gradients that are wrong, and whose doing it is.

use candle_core::Var;

use super::slopes_table::times;
use crate::{
    Cause, Finding, Result,
    diagnose::engine::Defect,
    measure::{
        graph::Graph,
        slope::{Agreement, Compared, Deviation, Fineness, OfFunction, Way},
        values::multi_index,
    },
    verdict::{count, listed, number},
};

/// One gradient that is wrong, and what is seen of it.
pub(super) struct Wrong {
    name: String,
    finding: Finding,
}

pub(super) fn wrong(compared: &[Compared], of: &str) -> Vec<Wrong> {
    let wrong = compared.iter().filter(|slot| slot.agreement == Agreement::Differs);
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

fn element(name: &str, at: usize, dims: &[usize]) -> String {
    let index = multi_index(at, dims);
    let index: Vec<String> = index.iter().map(usize::to_string).collect();
    format!("{name}[{}]", index.join(", "))
}

/// What holds for the input as a leaf of the graph, and not in another way.
pub(super) fn in_other_ways(
    function: &mut OfFunction<'_>,
    compared: &[Compared],
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
            return Ok(vec![Wrong { name: compared[0].name.clone(), finding }]);
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
            let dims = compared.iter().find(|slot| slot.name == name).map(|s| &s.dims[..]);
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
pub(super) fn explained(
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
