//! Every assertion on every model says what the page of findings says it does.

use super::*;
use crate::support::text;

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
/// What is said of the models that fail an assertion.
fn defects(name: &str, shown: &[&str]) -> candling::Result<String> {
    let assertion = ASSERTIONS.iter().find(|a| a.name == name).expect("an assertion of this name");
    let mut texts = Vec::new();
    for model in models().iter().filter(|model| shown.contains(&model.name)) {
        match (assertion.on)(model)? {
            Said::Defect(failure) => texts.push(format!("{}: {}", model.name, text(&failure))),
            said => texts.push(format!("{}: {said:?}", model.name)),
        }
    }
    Ok(texts.join("\n\n"))
}

/// A single token gets no mask, so with a cache it sees beyond the window; Gemma 3's cache forgets one token more than its
/// mask hides.
#[test]
fn what_is_said_of_a_cache_in_a_narrow_window() -> candling::Result<()> {
    insta::assert_snapshot!(defects("cache, narrow window", &["mistral", "gemma3"])?, @"
    mistral: assertion `cache_consistent` failed
    one by one, the step leaves the full pass at position 3: -1.52 instead of 0.681

      against the full pass  one by one                         differs from position 3 on, by up to 2.44
                             one by one, after another prompt   differs from position 3 on, by up to 2.44
                             all at once                        equal
                             4 tokens, then one by one          differs from position 4 on, by up to 2.33
                             in chunks of 2, 4                  differs from position 5 on, by up to 2.73
                             in chunks of 4, 2                  differs from position 5 on, by up to 2.33
                             in chunks of 1, 2, 3               differs from position 5 on, by up to 2.44
      rounding explains      2.91e-5

      confirmed  cache-mismatch   row 0, position 3, output 6: at position 5 the step sees positions 0 to 4 before
                                  it, the full pass positions 1 to 4
      help       a cache needs the mask of the full pass: keep the window, and drop what is older; see
                 docs/causes.md#cache-mismatch

    gemma3: assertion `cache_consistent` failed
    one by one, the step leaves the full pass at position 2: -3.91 instead of -3.39

      against the full pass  one by one                         differs from position 2 on, by up to 2.09
                             one by one, after another prompt   differs from position 2 on, by up to 2.09
                             all at once                        equal
                             4 tokens, then one by one          differs from position 4 on, by up to 1.86
                             in chunks of 2, 4                  fails for 4 tokens at offset 2: shape mismatch in broadcast_add, lhs: [2, 2, 4, 4], rhs: [2, 1, 4, 6]
                             in chunks of 4, 2                  fails for 2 tokens at offset 4: shape mismatch in broadcast_add, lhs: [2, 2, 2, 2], rhs: [2, 1, 2, 6]
                             in chunks of 1, 2, 3               fails for 2 tokens at offset 1: shape mismatch in broadcast_add, lhs: [2, 2, 2, 2], rhs: [2, 1, 2, 3]
      rounding explains      0.000133

      confirmed  cache-mismatch   row 0, position 2, output 12: the step sees the tokens that the full pass sees
                                  (positions 0 to 4), and weighs them otherwise
      help       compare the positions that queries and keys are given, and the order of the cache; see
                 docs/causes.md#cache-mismatch
    ");
    Ok(())
}

#[test]
fn what_is_said_of_rows_for_channels() -> candling::Result<()> {
    insta::assert_snapshot!(defects("batch", &["mamba"])?, @"
    mamba: assertion `batch_independent` failed
    all 32 rows of the output depend on other rows of the input

      reach  row 0 of the input changes the output of 31 of the 31 other rows
      alone  in a batch of one, the output of row 0 is 0.451 away from what it is in the batch of 32, where its
             size is 13.4; rounding explains 0.00261

      confirmed  batch-mixed        row 0 of the output: it changes by 0.00617 when row 1 of the input alone is
                                    replaced (its size is 13.4)
      confirmed  batch-size-fixed   a batch of 3: the function returns an error: cannot broadcast [3, 16] to [3,
                                    32, 16]
      help       look for a reshape where a transpose was meant, or a reduction over dim 0; see
                 docs/causes.md#batch-mixed
      help       take the batch size from the input: `x.dim(0)?`; see docs/causes.md#batch-size-fixed
    ");
    Ok(())
}

#[test]
fn what_is_said_of_a_mask_that_lets_the_future_in() -> candling::Result<()> {
    insta::assert_snapshot!(defects("causal, masked", &["qwen2"])?, @"
    qwen2: assertion `causal` failed
    output position 0 depends on input position 1, the next one

      extent   15 of 15 pairs of an output and a later input depend, up to 5 positions apart
      pattern  every output sees every later position, as it sees earlier ones: there is no mask
      seen     outputs down, inputs across; # depends, X depends and must not
               0 #XXXXX
               1 ##XXXX
               2 ###XXX
               3 ####XX
               4 #####X
               5 ######

      confirmed  future-leak   output 0, input 1: other values there move it by 1.13; other values where it may
                               look, by 2.84
      help       add minus infinity above the diagonal of the scores, before the softmax; see
                 docs/causes.md#future-leak
    ");
    Ok(())
}

#[test]
fn what_is_said_of_a_mask_of_nan() -> candling::Result<()> {
    insta::assert_snapshot!(defects("f32 = bf16", &["bert"])?, @"
    bert: assertion `equivalent` did not run
    the output holds NaN, which hides what it depends on

      function  the second function

      confirmed  not-finite   240 of 240 output values NaN
      help       start at the named origin: what comes after it is only carried along; see
                 docs/causes.md#not-finite
    ");
    Ok(())
}
