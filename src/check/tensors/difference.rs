//! Telling how two tensors differ.

use candle_core::Tensor;

use super::{kind_of, share_with_percentage};
use crate::{
    Cause, Failure, Finding,
    measure::compare::{
        Bounds, Mismatches, Place,
        pattern::{self, Pattern},
    },
    verdict::{count, number},
};

/// Looking for a pattern reads both tensors a few times; beyond this many elements a failing test would wait for it.
const ELEMENTS_EXAMINED: usize = 1 << 24;

/// How many moved rows the text names.
const ROWS_NAMED: usize = 3;

pub(in crate::check) fn tell(
    actual: &Tensor,
    expected: &Tensor,
    bounds: Bounds,
    elements: usize,
    found: &Mismatches,
) -> Failure {
    let headline = share_with_percentage(found.count, elements, "differs", "differ");
    let mut failure = Failure::violated(headline)
        .fact("tensors", kind_of(actual))
        .fact("tolerance", rule(bounds));
    if found.count > 1 {
        if let Some(place) = &found.greatest_absolute {
            failure = failure.fact("worst absolute", worst(number(place.difference), place));
        }
        if let Some(place) = &found.greatest_relative {
            failure = failure.fact("worst relative", worst(number(place.relative), place));
        }
    }
    if found.nan_in_actual + found.nan_in_expected > 0 {
        failure = failure.fact(
            "NaN",
            format!(
                "{} in actual, {} in expected; NaN matches nothing, not even NaN",
                found.nan_in_actual, found.nan_in_expected
            ),
        );
    }
    let label = if found.count == 1 { "mismatch" } else { "mismatches" };
    failure =
        failure.fact(label, table(found)).finding(whole(actual, expected, bounds, elements, found));
    if found.nan_in_actual == 0 {
        return failure;
    }
    let verb = if found.nan_in_actual == 1 { "is" } else { "are" };
    let evidence = format!("{} of actual {verb} NaN", count(found.nan_in_actual, "value"));
    failure.finding(
        Finding::confirmed(Cause::NotFinite, evidence)
            .advice_is("find where it begins: `assert_finite!` on what `actual` was made from"),
    )
}

pub(in crate::check) fn rule(Bounds { relative, absolute }: Bounds) -> String {
    let allowed = match (relative == 0.0, absolute == 0.0) {
        (true, true) => return "none: equal values only".to_owned(),
        (true, false) => number(absolute),
        (false, true) => format!("{} * |expected|", number(relative)),
        (false, false) => format!("{} + {} * |expected|", number(absolute), number(relative)),
    };
    format!("|actual - expected| <= {allowed}")
}

fn worst(what: String, place: &Place) -> String {
    format!(
        "{what} at {:?}: {}, expected {}, allowed {}",
        place.index,
        place.actual,
        place.expected,
        number(place.allowed)
    )
}

/// The mismatches that were kept, in columns: numbers to the right, so that their digits line up.
fn table(found: &Mismatches) -> String {
    let floating = found.first.iter().any(|place| place.ulps.is_some());
    let mut rows = vec![["index", "actual", "expected", "difference", "ulps"].map(str::to_owned)];
    rows.extend(found.first.iter().map(|place| {
        [
            format!("{:?}", place.index),
            place.actual.to_string(),
            place.expected.to_string(),
            number(place.difference),
            place.ulps.map_or("-".to_owned(), |ulps| ulps.to_string()),
        ]
    }));
    let columns = if floating { 5 } else { 4 };
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &[String; 5]| {
        let numbers = (1..columns).map(|column| format!("  {:>1$}", row[column], widths[column]));
        format!("{:<1$}", row[0], widths[0]) + &numbers.collect::<String>()
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    if found.count > found.first.len() {
        lines.push(format!("and {} more", found.count - found.first.len()));
    }
    lines.join("\n")
}

/// The difference in one sentence: the pattern that explains all of it, where it is confined to, or its worst element.
fn whole(
    actual: &Tensor,
    expected: &Tensor,
    bounds: Bounds,
    elements: usize,
    found: &Mismatches,
) -> Finding {
    let examined = elements <= ELEMENTS_EXAMINED && found.count > 1;
    let confirmed = |evidence: String| Finding::confirmed(Cause::ValuesDiffer, evidence);
    // A pattern only adds to what is known already: one that cannot be looked for is left out.
    if examined && let Ok(Some(pattern)) = pattern::find(actual, expected, bounds) {
        let (evidence, advice) = explain(&pattern);
        return confirmed(evidence).advice_is(advice);
    }
    if examined && let Ok(Some(confined)) = pattern::confined(actual, expected, bounds) {
        return confirmed(format!(
            "all {} mismatches have index {} in dimension {}",
            found.count, confined.index, confined.dim
        ))
        .advice_is("look at what is special there: an edge, a mask, an offset by one");
    }
    match &found.greatest_absolute {
        Some(place) => confirmed(format!("{}, expected {}", place.actual, place.expected))
            .at(format!("{:?}", place.index)),
        None => confirmed("every mismatch is NaN on one side or both".to_owned())
            .advice_is("NaN is never equal to anything: find out where it begins"),
    }
}

fn explain(pattern: &Pattern) -> (String, &'static str) {
    match pattern {
        Pattern::Constant(value) => (
            format!("every value of actual is {}", number(*value)),
            "actual carries no information: look for an input that is not used, or a tensor never filled",
        ),
        Pattern::Negated => (
            "actual is expected with its sign flipped".to_owned(),
            "look for a difference with its operands swapped, or a lost minus",
        ),
        Pattern::Scaled(factor) => (
            format!("actual is expected times {}", number(*factor)),
            "look for a missing or doubled scale factor, or a sum where a mean was meant",
        ),
        Pattern::Shifted(offset) => (
            format!(
                "actual is expected {} {}",
                if *offset < 0.0 { "minus" } else { "plus" },
                number(offset.abs())
            ),
            "look for a missing or doubled bias or mean",
        ),
        Pattern::Transposed(a, b) => (
            format!("actual is expected with dimensions {a} and {b} swapped"),
            "transpose one side, or look for a `reshape` where a `transpose` was meant",
        ),
        Pattern::Permuted(order) => {
            let moved = order.iter().enumerate().filter(|(at, from)| at != *from);
            let named: Vec<String> = moved
                .clone()
                .take(ROWS_NAMED)
                .map(|(at, from)| format!("{at} is {from}"))
                .collect();
            let more = if moved.count() > ROWS_NAMED { ", ..." } else { "" };
            (
                format!(
                    "actual holds the entries of expected in another order along dimension 0: {}{more}",
                    named.join(", ")
                ),
                "compare the order the two sides were put together in",
            )
        }
    }
}
