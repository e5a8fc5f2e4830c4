//! The audit as a page, docs/candle-audit.md. It is the same whatever profile it was made in.

use std::{collections::BTreeMap, path::Path};

use super::{
    case::Case,
    defects::{DEFECTS, Defect},
    examine::Examined,
    known::{Known, known},
    verdict::{Condition, Outcome, Verdict},
};

/// A case, and what was seen of it under each condition that applies.
pub(crate) type Audited = (Case, Examined);

/// Cells of a table, one row for all settings that differ in nothing else.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    op: String,
    conditions: String,
    verdict: Verdict,
    /// Errors read alike; numbers differ from setting to setting, and the first one's are shown.
    error: Option<String>,
}

pub(crate) fn page(audited: &[Audited]) -> String {
    let mut parts = vec![head(audited), summary(audited)];
    for harm in [Verdict::Wrong, Verdict::Cut, Verdict::Panics, Verdict::Errors] {
        let of_harm: Vec<&Defect> = DEFECTS.iter().filter(|defect| defect.harm == harm).collect();
        parts.push(format!("## {}", heading(harm)));
        parts.extend(of_harm.iter().map(|defect| section(defect, audited)));
    }
    if let Some(rest) = unexplained(audited) {
        parts.push(rest);
    }
    parts.push(correct(audited));
    parts.join("\n\n") + "\n"
}

/// The version of candle that was resolved for this repository.
fn candle_version() -> String {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock = std::fs::read_to_string(lock).unwrap_or_default();
    let mut lines = lock.lines().skip_while(|line| *line != "name = \"candle-core\"");
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = "));
    version.unwrap_or("of an unknown version").trim_matches('"').to_owned()
}

fn head(audited: &[Audited]) -> String {
    let mut ops: Vec<&str> = audited.iter().map(|(case, _)| case.op.as_str()).collect();
    ops.sort_unstable();
    ops.dedup();
    format!(
        "# An audit of candle {}\n\n\
         {} ops of `candle_core` and `candle_nn` in {} settings, on a CPU: every differentiable op of the public API, \
         its gradient held against finite differences of every element (f64; f32 where the op has no f64), its forward \
         pass against itself on other layouts and row by row. Written by `cargo run --release --example audit`, whose \
         `--check` fails when this page is out of date; a test pins every verdict, so that a new candle shows what it \
         changed.\n\n\
         | condition | what is tried |\n|---|---|\n\
         | leaf | the operands are variables |\n\
         | non-leaf | the operands are results of another op |\n\
         | reused before, reused after | the operands have a second use, on the left or the right of the sum that is the \
         loss |\n\
         | strided | an operand is a view that is not contiguous |\n\
         | transposed after | the result is transposed before it is used |\n\
         | layout | forward: a view gives what a contiguous tensor of the same values gives |\n\
         | rows | forward: the rows of a batch give what each gives alone |\n\n\
         At a corner of the function, any number between the slopes on its two sides counts as a gradient; where \
         elements tie, their gradients must add up to the slope of moving all of them.",
        candle_version(),
        ops.len(),
        audited.len(),
    )
}

fn summary(audited: &[Audited]) -> String {
    let count = |verdict| audited.iter().filter(|audited| worst(audited) == verdict).count();
    let line =
        |verdict: Verdict, meaning: &str| format!("| {verdict} | {} | {meaning} |", count(verdict));
    [
        "| verdict | settings | the worst that happens under any condition |".to_owned(),
        "|---|---|---|".to_owned(),
        line(Verdict::Wrong, "another number than the right one, and no error"),
        line(Verdict::Cut, "no gradient, and no error"),
        line(Verdict::Panics, "a panic"),
        line(Verdict::Errors, "an `Err`: a limit that is loud"),
        line(Verdict::Correct, "nothing"),
    ]
    .join("\n")
}

fn heading(harm: Verdict) -> &'static str {
    match harm {
        Verdict::Wrong => "Wrong, and silent",
        Verdict::Cut => "Cut, and silent",
        Verdict::Panics => "Panics",
        Verdict::Errors => "Loud limits",
        Verdict::Correct => "Correct",
    }
}

/// What a case shows in the dev profile, whatever this build's is.
fn shown<'a>(case: &Case, (condition, outcome): &'a (Condition, Outcome)) -> (Condition, Outcome) {
    match known(case, *condition) {
        Some(known) if known.unchecked.is_some() && known.here() == outcome.verdict => {
            let detail = "attempt to subtract with overflow, where overflow is checked";
            (*condition, Outcome::new(known.verdict, detail))
        }
        _ => (*condition, outcome.clone()),
    }
}

fn worst((case, examined): &Audited) -> Verdict {
    let verdicts = examined.iter().map(|seen| shown(case, seen).1.verdict);
    verdicts.max().unwrap_or(Verdict::Correct)
}

fn section(defect: &Defect, audited: &[Audited]) -> String {
    let mut text =
        format!("<a id=\"{}\"></a>\n\n### {}\n\n{}", defect.id, defect.title, defect.what);
    if !defect.upstream.is_empty() {
        let links: Vec<String> = defect.upstream.iter().map(|number| link(*number)).collect();
        text += &format!(" Upstream: {}.", links.join(", "));
    }
    let prints: Vec<String> = defect.prints.iter().map(|line| format!("`{line}`")).collect();
    text += &format!("\n\n```rust\n{}\n```\n\n", defect.source());
    text += &format!("It prints {}; right would be {}.", prints.join(" and "), defect.right);
    let belongs = |known: &Known| known.defect == defect.id;
    match table(audited, |known| known.is_some_and(belongs)) {
        Some(table) => text + "\n\n" + &table,
        None => text,
    }
}

fn link(number: u32) -> String {
    format!("[huggingface/candle#{number}](https://github.com/huggingface/candle/issues/{number})")
}

/// What is not correct and not in the list of what is known: a new release of candle.
fn unexplained(audited: &[Audited]) -> Option<String> {
    table(audited, |known| known.is_none()).map(|table| format!("## Not yet explained\n\n{table}"))
}

fn table(audited: &[Audited], wanted: impl Fn(Option<&Known>) -> bool) -> Option<String> {
    let mut rows: Vec<(Row, Vec<&str>, String)> = Vec::new();
    for (case, examined) in audited {
        let mut by_verdict = BTreeMap::<Verdict, Vec<(Condition, Outcome)>>::new();
        for seen in examined.iter().filter(|(condition, _)| wanted(known(case, *condition))) {
            let seen = shown(case, seen);
            if seen.1.verdict != Verdict::Correct {
                by_verdict.entry(seen.1.verdict).or_default().push(seen);
            }
        }
        for (verdict, seen) in by_verdict {
            let detail = shortened(&seen[0].1.detail);
            let loud = matches!(verdict, Verdict::Errors | Verdict::Panics);
            let row = Row {
                op: case.op.clone(),
                conditions: conditions(examined, &seen),
                verdict,
                error: loud.then(|| detail.clone()),
            };
            match rows.iter_mut().find(|(known, _, _)| *known == row) {
                Some((_, settings, _)) => settings.push(&case.setting),
                None => rows.push((row, vec![&case.setting], detail)),
            }
        }
    }
    let lines: Vec<String> = rows
        .iter()
        .map(|(row, settings, detail)| {
            let Row { op, conditions, verdict, .. } = row;
            let settings = settings.join("; ");
            format!("| `{op}` | {settings} | {conditions} | {verdict} | {detail} |")
        })
        .collect();
    let head = "| op | settings | condition | verdict | seen, in the first setting |\n|---|---|---|---|---|\n";
    (!lines.is_empty()).then(|| format!("{head}{}", lines.join("\n")))
}

/// The conditions by name, or by what they have in common.
fn conditions(examined: &Examined, seen: &[(Condition, Outcome)]) -> String {
    let is_gradient = |condition: &Condition| Condition::GRADIENTS.contains(condition);
    let (gradients, others): (Vec<Condition>, Vec<Condition>) =
        seen.iter().map(|(condition, _)| *condition).partition(is_gradient);
    let missing: Vec<Condition> = examined
        .iter()
        .map(|(condition, _)| *condition)
        .filter(|condition| is_gradient(condition) && !gradients.contains(condition))
        .collect();
    let mut words: Vec<String> = match missing[..] {
        [] => vec!["every gradient".to_owned()],
        [one] if gradients.len() > 1 => vec![format!("every gradient but {one}")],
        _ => gradients.iter().map(Condition::to_string).collect(),
    };
    words.extend(others.iter().map(Condition::to_string));
    words.join(", ")
}

/// An error's text may hold whole layouts.
fn shortened(detail: &str) -> String {
    match detail.char_indices().nth(150) {
        Some((end, _)) => format!("{} ..", &detail[..end]),
        None => detail.to_owned(),
    }
}

fn correct(audited: &[Audited]) -> String {
    let mut lines = vec![
        format!("## {}", heading(Verdict::Correct)),
        "With the number of settings tried, or how many of them are correct under every condition."
            .to_owned(),
    ];
    let mut groups: Vec<&str> = audited.iter().map(|(case, _)| case.group).collect();
    groups.dedup();
    for group in groups {
        let mut ops: Vec<(&str, usize, usize)> = Vec::new();
        for audited in audited.iter().filter(|(case, _)| case.group == group) {
            let right = usize::from(worst(audited) == Verdict::Correct);
            match ops.iter_mut().find(|(op, _, _)| *op == audited.0.op) {
                Some((_, all, correct)) => (*all, *correct) = (*all + 1, *correct + right),
                None => ops.push((&audited.0.op, 1, right)),
            }
        }
        let ops: Vec<String> = ops
            .iter()
            .filter(|(_, _, correct)| *correct > 0)
            .map(|(op, all, correct)| match (all, correct) {
                (1, _) => format!("`{op}`"),
                (all, correct) if all == correct => format!("`{op}` ({all})"),
                _ => format!("`{op}` ({correct} of {all})"),
            })
            .collect();
        if !ops.is_empty() {
            lines.push(format!("**{group}**: {}", ops.join(", ")));
        }
    }
    lines.join("\n\n")
}
