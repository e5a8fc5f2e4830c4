//! What candle's backward passes get wrong, op by op, as a page: docs/candle-audit.md.
//!
//! `cargo run --release --example audit` writes the page; with `--check` it fails when the page would change.

#[path = "../tests/audit/mod.rs"]
mod audit;

use std::{path::Path, process::ExitCode};

use audit::{defects::defects, page::page};

fn main() -> anyhow::Result<ExitCode> {
    let check = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(unknown) => {
            print(&format!("unknown argument {unknown:?}\nusage: audit [--check]"));
            return Ok(ExitCode::FAILURE);
        }
    };
    let audited = audit::audit()?;
    let changes = audit::changes(&audited);
    if !changes.is_empty() {
        print(&format!("not as in tests/audit/known.rs:\n{}", changes.join("\n")));
    }
    for defect in defects() {
        let printed = defect.printed();
        if printed != defect.prints {
            print(&format!("{}: the program prints {printed:?}", defect.id));
        }
    }
    let page = page(&audited);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/candle-audit.md");
    if std::fs::read_to_string(&file).is_ok_and(|written| written == page) {
        print("docs/candle-audit.md is up to date");
        return Ok(ExitCode::SUCCESS);
    }
    if check {
        print("docs/candle-audit.md is out of date");
        return Ok(ExitCode::FAILURE);
    }
    std::fs::write(&file, page)?;
    print("docs/candle-audit.md is written");
    Ok(ExitCode::SUCCESS)
}

#[allow(clippy::print_stdout, reason = "printing is what this program is for")]
fn print(text: &str) {
    println!("{text}");
}
