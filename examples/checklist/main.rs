//! Every assertion as the checklist it is, on real handwritten digits: what a careful practitioner asks of a model, first
//! with everything right, then with the bug that the question is about.
//!
//! `cargo run --release --example checklist -- [NAMES]`, with names of assertions (`causal`) to ask these alone and to
//! read what they say in full.

#![allow(clippy::print_stdout, reason = "an example that prints what was found")]

#[path = "../digits/mod.rs"]
mod digits;
mod items;
mod models;

use std::process::ExitCode;

use digits::Digits;
use items::{Item, PARTS};

fn main() -> anyhow::Result<ExitCode> {
    let only: Vec<String> = std::env::args().skip(1).collect();
    let digits = Digits::load()?;
    // What an assertion says is printed below, once.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut asked, mut right) = (0, 0);
    for (part, items) in PARTS {
        let chosen =
            |item: &&Item| only.is_empty() || only.iter().any(|name| item.assertion.contains(name));
        let mut chosen = items.iter().filter(chosen).peekable();
        if chosen.peek().is_some() {
            println!("\n{part}\n");
        }
        for item in chosen {
            asked += 1;
            right += usize::from(ask(item, &digits, !only.is_empty()));
        }
    }
    println!("\n{right} of {asked} pass where all is right, and name the bug where it is not");
    Ok(if right == asked && asked > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Puts a question twice, and prints the answers. Whether both are as they should be.
fn ask(item: &Item, digits: &Digits, in_full: bool) -> bool {
    let healthy = item.says(digits, false);
    let mark = if healthy.is_none() { "x" } else { " " };
    println!("[{mark}] {}\n    {}", item.question, item.assertion);
    if let Some(text) = &healthy {
        println!("{}", indented(text));
    }
    let with_bug = item.says(digits, true);
    let named = with_bug.as_deref().is_some_and(|text| item.is_named_in(text));
    println!("    with {}:", item.bug);
    match with_bug {
        None => println!("      not seen"),
        Some(text) if named && !in_full => {
            println!("      {}\n      {}", headline(&text), item.cause.code());
        }
        Some(text) => println!("{}", indented(&text)),
    }
    healthy.is_none() && named
}

/// The second line of a failure: what happened.
fn headline(text: &str) -> &str {
    text.lines().nth(1).unwrap_or(text)
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("      {line}")).collect::<Vec<_>>().join("\n")
}
