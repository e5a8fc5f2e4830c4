//! What candling sees in models that no one here wrote: measures the tables of `docs/findings.md`.
//!
//! `cargo run --release --example findings -- [--check]`: writes the tables, or with `--check` compares them.

#[allow(dead_code, reason = "tests use parts of the models that no table needs")]
#[path = "../tests/models/mod.rs"]
mod models;

use std::{fs, path::Path, process::ExitCode};

use candle_core::Tensor;
use candling::{Seed, check::GradientVerdict};
use models::{
    Model,
    gradients::{Flows, one_row},
    slope::slopes,
};

const SEED: Seed = Seed::new(1);

fn main() -> ExitCode {
    // SAFETY: no other thread runs yet.
    // candle's thread pool costs more than these small products do.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", "1") };
    let check = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [only] if only == "--check" => true,
        wrong => {
            print(&format!("unknown arguments {wrong:?}\nusage: findings [--check]"));
            return ExitCode::FAILURE;
        }
    };
    match page(check) {
        Ok(said) => {
            print(&said);
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            print(&wrong.to_string());
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout, reason = "printing is what this program is for")]
fn print(text: &str) {
    println!("{text}");
}

/// Puts what is measured between the marks of the page; what is said around them is written by hand.
fn page(check: bool) -> anyhow::Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/findings.md");
    let old = fs::read_to_string(&path)?;
    let mut new = replaced(&old, "version", &format!("candle-transformers {}", models::READ_FROM))?;
    new = replaced(&new, "gradients", &gradients()?)?;
    new = replaced(&new, "windows", &windows()?)?;
    new = replaced(&new, "assertions", &models::assertions::table()?)?;
    match (check, old == new) {
        (_, true) => Ok("docs/findings.md is as measured".to_owned()),
        (true, false) => {
            anyhow::bail!("docs/findings.md is not as measured:\n{}", changes(&old, &new))
        }
        (false, false) => {
            fs::write(&path, &new)?;
            Ok(format!("docs/findings.md written:\n{}", changes(&old, &new)))
        }
    }
}

fn replaced(page: &str, name: &str, measured: &str) -> anyhow::Result<String> {
    let mark = format!("<!-- measured: {name} -->\n");
    let parts = page.split_once(&mark).and_then(|(before, rest)| {
        let (_, after) = rest.split_once("<!-- end -->")?;
        Some(format!("{before}{mark}{measured}\n<!-- end -->{after}"))
    });
    parts.ok_or_else(|| anyhow::anyhow!("docs/findings.md has no place for `{name}`"))
}

/// The lines that are in one text only.
fn changes(old: &str, new: &str) -> String {
    let only = |a: &str, b: &str, sign: &str| -> Vec<String> {
        a.lines().filter(|l| !b.lines().any(|m| m == *l)).map(|l| format!("{sign}{l}")).collect()
    };
    [only(old, new, "-"), only(new, old, "+")].concat().join("\n")
}

fn gradients() -> anyhow::Result<String> {
    let mut lines = vec![
        "| model | variables | cut | zero | unused | with a gradient | a right one | with a gradient, one row | \
         candling names | the source has |"
            .to_owned(),
        "|---|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    for model in models::models() {
        lines.push(gradients_of(&model)?);
    }
    Ok(lines.join("\n"))
}

fn gradients_of(model: &Model) -> anyhow::Result<String> {
    let (learner, batch) = model.learner(SEED)?;
    let flows = Flows::of(&learner, &batch)?;
    let right = slopes(&learner, &batch)?.iter().filter(|(_, right)| *right).count();
    let one_row = Flows::of(&learner, &one_row(&batch)?)?;
    let code = |names: &[&str]| match names {
        [] => "-".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    };
    let cells = [
        flows.verdicts.len(),
        flows.count(GradientVerdict::Cut),
        flows.count(GradientVerdict::Zero),
        flows.count(GradientVerdict::Unused),
        flows.count(GradientVerdict::Flows),
        right,
        one_row.count(GradientVerdict::Flows),
    ];
    let cells = cells.map(|count| count.to_string()).join(" | ");
    Ok(format!("| {} | {cells} | {} | {} |", model.name, code(&flows.named), code(model.cuts)))
}

/// How far the logits after a sequence passed token by token are from those of one pass over all of it.
fn windows() -> anyhow::Result<String> {
    let mut lines = vec![
        "| model | window wider than the sequence | window of two tokens |".to_owned(),
        "|---|---|---|".to_owned(),
    ];
    for model in models::models() {
        let (Some(wide), Some(narrow)) = (model.step, model.narrow_step) else { continue };
        let said = |distance: f64| match distance {
            // What rounding leaves differs between machines.
            d if d < 1e-5 => "equal".to_owned(),
            d => format!("{:.0} % off", 100.0 * d),
        };
        let (wide, narrow) = (distance(wide(SEED)?)?, distance(narrow(SEED)?)?);
        lines.push(format!("| {} | {} | {} |", model.name, said(wide), said(narrow)));
    }
    Ok(lines.join("\n"))
}

/// The largest difference between the logits, as a part of the largest logit.
fn distance(mut step: models::Step) -> anyhow::Result<f64> {
    let ids = models::tokens(SEED)?;
    let whole = step(&ids, 0)?;
    let mut last = whole.clone();
    for t in 0..ids.dim(1)? {
        last = step(&ids.narrow(1, t, 1)?, t)?;
    }
    let largest = |t: &Tensor| t.abs()?.max_all()?.to_scalar::<f32>();
    Ok(f64::from(largest(&(&whole - &last)?)? / largest(&whole)?))
}
