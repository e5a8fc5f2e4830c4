//! The audit as a page, docs/candle-audit.md. It is the same whatever profile it was made in.

use std::{collections::BTreeMap, path::Path};

use super::{
    case::Case,
    defects::{Defect, defects},
    examine::Examined,
    known::{Known, known},
    verdict::{Condition, Outcome, Verdict},
};

const CONDITIONS: &str = "\
| condition | what is tried |
|---|---|
| leaf | the operands are variables |
| non-leaf | the operands are results of another op |
| reused before, reused after | they have a second use, on the left or the right of the sum that is the loss |
| strided | an operand is a view that is not contiguous |
| transposed after | the result is transposed before it is used |
| layout | forward: a view gives what a contiguous tensor of the same values gives |
| rows | forward: the rows of a batch give what each gives alone |";

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
        let of_harm: Vec<&Defect> = defects().filter(|defect| defect.harm == harm).collect();
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
    let what = format!(
        "{} ops of `candle_core` and `candle_nn` in {} settings, on a CPU: every differentiable op of the public API, \
         its gradient held against finite differences of every element (f64; f32 where the op has no f64), its forward \
         pass against itself on other layouts and row by row. Written by `cargo run --release --example audit`, whose \
         `--check` fails when this page is out of date; a test pins every verdict, so that a new candle shows what it \
         changed.",
        ops.len(),
        audited.len(),
    );
    let how = "The loss is the sum of the outputs, each with a weight of its own between 0.5 and 1.5 and of either \
               sign: gradients that cancel in a plain sum show. At a corner of the function, any number between the \
               slopes on its two sides counts as a gradient; where elements tie, their gradients must add up to the \
               slope of moving all of them. Operand 0 is `self`.";
    let limits = "Not covered: half precision, other devices, and a forward pass that computes something else than its \
                  name says, but the same on every layout and in every row.";
    [
        format!("# An audit of candle {}", candle_version()),
        wrapped(&what),
        CONDITIONS.to_owned(),
        wrapped(how),
        wrapped(limits),
    ]
    .join("\n\n")
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
fn shown(case: &Case, (condition, outcome): &(Condition, Outcome)) -> (Condition, Outcome) {
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
    let upstream = match defect.upstream {
        [] => String::new(),
        numbers => {
            let links: Vec<String> = numbers.iter().map(|number| link(*number)).collect();
            format!(" Upstream: {}.", links.join(", "))
        }
    };
    let belongs = |known: Option<&Known>| known.is_some_and(|known| known.defect == defect.id);
    let mut parts = vec![
        format!("<a id=\"{}\"></a>", defect.id),
        format!("### {}", defect.title),
        wrapped(&format!("{}{upstream}", defect.what)),
        format!("```rust\n{}\n```", defect.source()),
        format!("It prints\n\n```text\n{}\n```", defect.printed().join("\n")),
        wrapped(&format!("Right would be {}.", defect.right)),
    ];
    parts.extend(table(audited, belongs));
    parts.join("\n\n")
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
            let settings = together(settings);
            format!("| `{op}` | {settings} | {conditions} | {verdict} | {detail} |")
        })
        .collect();
    let head = "| op | settings | condition | verdict | seen, in the first setting |\n|---|---|---|---|---|\n";
    (!lines.is_empty()).then(|| format!("{head}{}", lines.join("\n")))
}

/// Settings in one cell: what they begin with alike is said once, and many are counted.
fn together(settings: &[&str]) -> String {
    if settings.len() > 20 {
        return format!("{} settings, such as {}", settings.len(), settings[0]);
    }
    let alike = |text: &str| settings.iter().all(|setting| setting.starts_with(text));
    let begin = settings[0].match_indices(", ").map(|(at, comma)| &settings[0][..at + comma.len()]);
    match begin.filter(|begin| settings.len() > 1 && alike(begin)).last() {
        Some(begin) => {
            let rest: Vec<&str> = settings.iter().map(|setting| &setting[begin.len()..]).collect();
            format!("{}: {}", begin.trim_end_matches(", "), rest.join("; "))
        }
        None => settings.join("; "),
    }
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
        [] if !gradients.is_empty() => vec!["every gradient".to_owned()],
        [one] if gradients.len() > 1 => vec![format!("every gradient but {one}")],
        _ => gradients.iter().map(Condition::to_string).collect(),
    };
    words.extend(others.iter().map(Condition::to_string));
    words.join(", ")
}

/// An error's text may hold whole layouts.
fn shortened(detail: &str) -> String {
    match detail.char_indices().nth(220) {
        Some((end, _)) => format!("{} ..", &detail[..end]),
        None => detail.to_owned(),
    }
}

fn correct(audited: &[Audited]) -> String {
    let what = "With the number of settings tried, or how many of them are correct under every condition. A star: on \
                contiguous operands, others are [an error](#contiguous-only).";
    let mut parts = vec![format!("## {}", heading(Verdict::Correct)), wrapped(what)];
    let mut groups: Vec<&str> = audited.iter().map(|(case, _)| case.group).collect();
    groups.dedup();
    for group in groups {
        let mut ops: Vec<Count<'_>> = Vec::new();
        for audited in audited.iter().filter(|(case, _)| case.group == group) {
            let op = audited.0.op.as_str();
            let at = ops.iter().position(|count| count.op == op).unwrap_or_else(|| {
                ops.push(Count { op, all: 0, correct: 0, loud: 0 });
                ops.len() - 1
            });
            ops[at].all += 1;
            ops[at].correct += usize::from(worst(audited) == Verdict::Correct);
            ops[at].loud += usize::from(is_only_loud_on_views(audited));
        }
        let ops: Vec<String> = ops.iter().filter_map(Count::text).collect();
        if !ops.is_empty() {
            parts.push(wrapped(&format!("**{group}**: {}", ops.join(", "))));
        }
    }
    parts.join("\n\n")
}

/// The settings of an op.
struct Count<'a> {
    op: &'a str,
    all: usize,
    correct: usize,
    /// Correct but for an error on a view.
    loud: usize,
}

impl Count<'_> {
    fn text(&self) -> Option<String> {
        let Self { op, all, correct, loud } = self;
        let star = if *loud > 0 { "*" } else { "" };
        Some(match correct + loud {
            0 => return None,
            1 if *all == 1 => format!("`{op}`{star}"),
            right if right == *all => format!("`{op}`{star} ({all})"),
            right => format!("`{op}`{star} ({right} of {all})"),
        })
    }
}

fn is_only_loud_on_views((case, examined): &Audited) -> bool {
    let mut bad =
        examined.iter().filter(|(_, outcome)| outcome.verdict != Verdict::Correct).peekable();
    let on_views =
        |condition| known(case, condition).is_some_and(|known| known.defect == "contiguous-only");
    bad.peek().is_some() && bad.all(|(condition, _)| on_views(*condition))
}

/// Lines of at most 120 characters.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("never empty");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= 120 {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}
