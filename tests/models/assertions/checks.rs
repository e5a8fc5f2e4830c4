//! Every assertion on every model says what the page of findings says it does.

use super::*;

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
fn causal_with_a_mask() -> candling::Result<()> {
    compare("causal, masked")
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
fn cache_in_a_narrow_window() -> candling::Result<()> {
    compare("cache, narrow window")
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

/// What is found in the models that fail an assertion.
fn found(name: &str, shown: &[&str]) -> candling::Result<String> {
    let assertion = ASSERTIONS.iter().find(|a| a.name == name).expect("an assertion of this name");
    let mut lines = Vec::new();
    for model in models().iter().filter(|model| shown.contains(&model.name)) {
        match (assertion.on)(model)? {
            Said::Defect(failure) => lines.extend(failure.findings().iter().map(|finding| {
                format!("{}: {}: {}", model.name, finding.cause().code(), finding.evidence())
            })),
            said => lines.push(format!("{}: {said:?}", model.name)),
        }
    }
    Ok(lines.join("\n"))
}

/// A single token gets no mask, so with a cache it sees beyond the window; Gemma 3's cache forgets one token more than its
/// mask hides.
#[test]
fn steps_see_beyond_a_narrow_window() -> candling::Result<()> {
    let windowed = ["mistral", "qwen2", "gemma2", "gemma3", "starcoder2"];
    insta::assert_snapshot!(found("cache, narrow window", &windowed)?, @"
    mistral: cache-mismatch: at position 5 the step sees positions 0 to 4 before it, the full pass positions 1 to 4
    qwen2: cache-mismatch: at position 5 the step sees positions 0 to 4 before it, the full pass positions 1 to 4
    gemma2: cache-mismatch: at position 5 the step sees positions 0 to 4 before it, the full pass positions 1 to 4
    gemma3: cache-mismatch: the step sees the tokens that the full pass sees (positions 0 to 4), and weighs them otherwise
    starcoder2: cache-mismatch: at position 5 the step sees positions 0 to 4 before it, the full pass positions 1 to 4
    ");
    Ok(())
}

#[test]
fn mamba_mixes_rows() -> candling::Result<()> {
    insta::assert_snapshot!(found("batch", &["mamba"])?, @"
    mamba: batch-mixed: it changes by 0.00617 when row 1 of the input alone is replaced (its size is 13.4)
    mamba: batch-size-fixed: the function returns an error: cannot broadcast [3, 16] to [3, 32, 16]
    ");
    Ok(())
}

#[test]
fn the_mask_of_qwen2_lets_the_future_in() -> candling::Result<()> {
    insta::assert_snapshot!(found("causal, masked", &["qwen2"])?, @"qwen2: future-leak: other values there move it by 1.13; other values where it may look, by 2.84");
    Ok(())
}

#[test]
fn the_mask_of_bert_is_nan() -> candling::Result<()> {
    insta::assert_snapshot!(found("f32 = bf16", &["bert"])?, @"bert: not-finite: 240 of 240 output values NaN");
    Ok(())
}
