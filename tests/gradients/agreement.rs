//! `assert_gradients_correct!` against an independent witness: every case of the audit of candle.

use candle_core::{Result, Tensor};
use candling::{Cause, Failure, FailureKind, check::GradientsCorrect};

use crate::audit::{
    case::Case,
    cases, quiet,
    verdict::{Condition, Verdict},
};

/// What the check says, in the audit's words.
fn said(case: &Case) -> std::result::Result<&'static str, Failure> {
    let inputs = case.inputs().expect("the audit makes its inputs");
    let places: Vec<usize> = case.differentiable().collect();
    let of: Vec<Tensor> = places.iter().map(|at| inputs[*at].clone()).collect();
    let f = |given: &[Tensor]| -> Result<Tensor> {
        let mut all = inputs.clone();
        for (at, tensor) in places.iter().zip(given) {
            all[*at] = tensor.clone();
        }
        (case.f)(&all)
    };
    let check = GradientsCorrect::new();
    let array = |n: usize| (0..n).map(|i| of[i].clone()).collect::<Vec<_>>();
    macro_rules! with {
        ($($n:literal)*) => {
            match of.len() {
                $($n => check.check(
                    |x: &[Tensor; $n]| f(x),
                    &<[Tensor; $n]>::try_from(array($n)).expect("as many"),
                ),)*
                n => panic!("{}: {n} inputs", case.name()),
            }
        };
    }
    let result = with!(1 2 3 4 5 6 7 8 9 10);
    let failure = match result {
        Ok(_) => return Ok("correct"),
        Err(failure) => failure,
    };
    Ok(match (failure.kind(), failure.cause()) {
        (FailureKind::NotRun, _) => "errors",
        (FailureKind::Vacuous, _) => "vacuous",
        (
            _,
            Some(
                Cause::NotFinite
                | Cause::GradientWrong
                | Cause::GradientEngine
                | Cause::LayoutDependent,
            ),
        ) => "wrong",
        (_, Some(Cause::GradientCut)) => "cut",
        _ => return Err(failure),
    })
}

/// The worst of the audit's verdicts under the conditions that the check tries too.
fn expected(case: &Case) -> &'static str {
    let tried = [
        Condition::Leaf,
        Condition::NonLeaf,
        Condition::ReusedBefore,
        Condition::ReusedAfter,
        Condition::Strided,
    ];
    let verdicts: Vec<Verdict> = tried.iter().map(|at| case.expected(*at)).collect();
    match (verdicts[0], verdicts.iter().max()) {
        (Verdict::Errors | Verdict::Panics, _) => "errors",
        (_, Some(Verdict::Wrong)) => "wrong",
        (_, Some(Verdict::Cut)) => "cut",
        _ => "correct",
    }
}

/// Where the two say different things: why, and the cases with what the check says.
const OTHERWISE: &[(&str, &str, &[&str])] = &[
    (
        "its gradient is zero everywhere, and so is its slope: there is nothing to compare",
        "vacuous",
        &[
            "ceil",
            "floor",
            "round",
            "sign",
            "round_to 0 decimals",
            "powf 0, x > 0",
            "affine 0, 3",
            "clamp tensor, scalar",
            "sub x, x",
            "div x, x",
            "tanh at ±800",
            "erf at ±800",
            "ops::sigmoid at ±800",
            "argmax dim 0",
            "argmax dim 1",
            "argmax dim 2",
            "argmin dim 0",
            "argmin dim 1",
            "argmin dim 2",
            "to_dtype f64 to u32 to f64",
            "arg_sort_last_dim ascending",
            "arg_sort_last_dim descending",
        ],
    ),
    (
        "its values lie on the steps of a coarser format, too far apart for a slope",
        "vacuous",
        &["quantized::QMatMul Q8_0"],
    ),
    (
        "the audit knows that it stops the gradient on purpose, the check cannot",
        "cut",
        &["detach", "CustomOp1 bwd gives none"],
    ),
    (
        "its value is not finite at the point",
        "errors",
        &[
            "pow base < 0, exponent 2",
            "loss::binary_cross_entropy_with_logit logit 40, target 1",
            "loss::binary_cross_entropy_with_logit logit -800, target 1",
        ],
    ),
    (
        "its value is 1e-13, computed as a difference from 1: three digits are left of it",
        "wrong",
        &["loss::binary_cross_entropy_with_logit logit 30, target 1"],
    ),
    (
        "its result is wrong too, for the check as for the audit; the check names the first it sees",
        "cut",
        &["attention::flash_attn batch 1, no mask", "attention::flash_attn batch 1, a mask"],
    ),
];

#[test]
fn the_check_and_the_audit_agree_but_where_it_is_listed() {
    let mut differ = Vec::new();
    let mut listed: Vec<(&str, &str)> = Vec::new();
    for (_, says, names) in OTHERWISE {
        listed.extend(names.iter().map(|name| (*name, *says)));
    }
    for case in cases().iter().filter(|case| case.differentiable().next().is_some()) {
        let name = case.name();
        let says = quiet::attempt(|| said(case).map_err(candle_core::Error::wrap));
        // A function that panics panics: it is the caller's own.
        let says = says.unwrap_or("errors");
        let place = listed.iter().position(|(other, _)| *other == name);
        let expected = match place {
            Some(at) => listed.swap_remove(at).1,
            None => expected(case),
        };
        // The audit looks at more layouts than the transposed one.
        let by_layout = says == "wrong" && case.expected(Condition::Layout) == Verdict::Wrong;
        if says != expected && !by_layout {
            differ.push(format!("{name}: {expected} by the audit, {says} by the check"));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    assert!(listed.is_empty(), "listed, and no case of the audit: {listed:?}");
}
