//! Every assertion on every model says what the page of findings says it does.

use candling::{FailureKind, check::Causal};

use super::*;
use crate::{
    models::{Positions, tokens},
    support::text,
};

const PAGE: &str = include_str!("../../../docs/findings.md");

/// More than ten seconds each, unoptimised: `cargo run --release --example findings -- --check` has them, too.
fn is_slow(model: &Model) -> bool {
    model.name == "convnext"
}

/// The page's table by itself: head, models, and notes.
fn on_the_page() -> (Vec<&'static str>, Vec<Vec<&'static str>>, Vec<String>) {
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    let (_, rest) = PAGE.split_once("<!-- measured: assertions -->\n").expect("the table's mark");
    let (measured, _) = rest.split_once("<!-- end -->").expect("the table's end");
    let (table, notes) = measured.split_once("\n\n").expect("notes under the table");
    let mut lines = table.lines().map(cells);
    let head = lines.next().expect("a head");
    let note = |line: &str| line.split_once(". ").expect("a number").1.to_owned();
    (head, lines.skip(1).collect(), notes.lines().map(note).collect())
}

fn compare(name: &str) -> candling::Result<()> {
    let assertion = ASSERTIONS.iter().find(|a| a.name == name).expect("an assertion of this name");
    let (head, rows, notes) = on_the_page();
    let column = head.iter().position(|cell| *cell == name).expect("a column of this name");
    let mut notes = Notes(notes);
    let mut wrong = Vec::new();
    for (model, row) in models().iter().zip(&rows) {
        assert_eq!(model.name, row[0]);
        if is_slow(model) {
            continue;
        }
        let said = (assertion.on)(model)?;
        let found = notes.cell(&said);
        if found != row[column] {
            wrong.push(format!(
                "{}: {found}, and the page says {}\n{said:?}",
                model.name, row[column]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn the_page_has_every_assertion_and_every_model() {
    let (head, rows, _) = on_the_page();
    assert_eq!(head[1..], ASSERTIONS.iter().map(|a| a.name).collect::<Vec<_>>());
    let names: Vec<_> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(names, models().iter().map(|model| model.name).collect::<Vec<_>>());
}

#[test]
fn batch_independent() -> candling::Result<()> {
    compare("batch")
}

#[test]
fn causal() -> candling::Result<()> {
    compare("causal")
}

#[test]
fn uses_input() -> candling::Result<()> {
    compare("input")
}

#[test]
fn cache_consistent() -> candling::Result<()> {
    compare("cache")
}

#[test]
fn padding_invariant() -> candling::Result<()> {
    compare("padding")
}

#[test]
fn position_sensitive() -> candling::Result<()> {
    compare("position")
}

#[test]
fn deterministic() -> candling::Result<()> {
    compare("deterministic")
}

#[test]
fn layout_invariant() -> candling::Result<()> {
    compare("layout")
}

#[test]
fn nonlinear() -> candling::Result<()> {
    compare("nonlinear")
}

#[test]
fn equal_in_f64() -> candling::Result<()> {
    compare("f32 = f64")
}

#[test]
fn equal_in_bf16() -> candling::Result<()> {
    compare("f32 = bf16")
}
/// The texts of the defects, where each model has its own.
fn defects(assertion: &str, models: impl IntoIterator<Item = Model>) -> candling::Result<String> {
    let assertion = ASSERTIONS.iter().find(|a| a.name == assertion).expect("an assertion");
    let mut texts = Vec::new();
    for model in models {
        match (assertion.on)(&model)? {
            Said::Defect(failure) => texts.push(format!("{}: {}", model.name, text(&failure))),
            Said::Not(_) => {}
            said => texts.push(format!("{}: {said:?}", model.name)),
        }
    }
    Ok(texts.join("\n"))
}
