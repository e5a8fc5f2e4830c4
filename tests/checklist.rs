//! The checklist of `examples/checklist`: complete, right where all is right, and naming each bug.

#[path = "../examples/digits/mod.rs"]
mod digits;
#[path = "../examples/checklist/items/mod.rs"]
mod items;
#[path = "../examples/checklist/models/mod.rs"]
mod models;

use std::collections::BTreeSet;

use digits::Digits;
use items::PARTS;

#[test]
fn every_question_is_answered_rightly() {
    let digits = Digits::load().unwrap();
    let mut wrong = Vec::new();
    for item in PARTS.iter().flat_map(|(_, items)| *items) {
        if let Some(text) = item.says(&digits, false) {
            wrong.push(format!("{}, {}\n{text}", item.assertion, item.question));
        }
        match item.says(&digits, true) {
            None => wrong.push(format!("{}: {} is not seen", item.assertion, item.bug)),
            Some(text) if !item.is_named_in(&text) => {
                wrong.push(format!("{}, with {}:\n{text}", item.assertion, item.bug));
            }
            Some(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn every_assertion_has_a_question() {
    let names = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|word| word.starts_with("assert_")).map(str::to_owned).collect()
    };
    let all = names(include_str!("../src/prelude.rs"));
    let asked = PARTS.iter().flat_map(|(_, items)| *items).map(|item| item.assertion);
    assert_eq!(names(&asked.collect::<Vec<_>>().join(" ")), all);
}
