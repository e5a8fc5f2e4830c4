//! The plain text of a failure.

use super::{
    Cause, Finding,
    content::{Content, FailureKind},
};

/// Whether the text carries ANSI colours. Only the panic of a macro ever does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Palette {
    Plain,
    Colour,
}

impl Palette {
    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Palette::Plain => text.to_owned(),
            Palette::Colour => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn label(self, text: &str) -> String {
        match text.trim_end() {
            "confirmed" => self.paint("1;31", text),
            "possible" => self.paint("33", text),
            "help" => self.paint("36", text),
            _ => self.paint("2", text),
        }
    }
}

/// How many findings are printed in full; a model with a thousand variables without gradient has one story to tell.
const FINDINGS_SHOWN: usize = 12;

pub(super) fn text(failure: &Content, palette: Palette) -> String {
    let mut lines = Vec::new();
    lines.extend(title(failure).map(|title| palette.bold(&title)));
    lines.extend(failure.headline.lines().map(str::to_owned));
    if !failure.facts.is_empty() {
        lines.push(String::new());
        let facts = failure.facts.iter().map(|(label, value)| Row::plain(label, value.clone()));
        lines.extend(aligned(&facts.collect::<Vec<_>>(), 0, palette));
    }
    let conclusions = conclusions(failure);
    if !conclusions.is_empty() {
        lines.push(String::new());
        lines.extend(aligned(&conclusions, 9, palette));
    }
    lines.join("\n")
}

/// An error that no assertion raised has no verdict to give: its headline says it all.
fn title(failure: &Content) -> Option<String> {
    let verdict = match failure.kind {
        FailureKind::Violated => "failed",
        FailureKind::Vacuous => "proves nothing here",
        FailureKind::NotRun => "did not run",
    };
    match (failure.assertion, &failure.context) {
        (Some(name), Some(context)) => Some(format!("assertion `{name}` {verdict}: {context}")),
        (Some(name), None) => Some(format!("assertion `{name}` {verdict}")),
        (None, context) => context.clone(),
    }
}

/// The lower block: findings, what was ruled out, help, and how to run it again.
fn conclusions(failure: &Content) -> Vec<Row> {
    let codes = failure
        .findings
        .iter()
        .map(Finding::cause)
        .chain(failure.ruled_out.iter().map(|(cause, _)| *cause));
    let width = codes.map(|cause| cause.code().len()).max().unwrap_or(0) + 3;
    let row = |label: &str, cause: Cause, evidence: String| Row {
        label: label.to_owned(),
        column: format!("{:<width$}", cause.code()),
        text: evidence,
    };

    let mut rows = Vec::new();
    for finding in failure.findings.iter().take(FINDINGS_SHOWN) {
        let label = if finding.is_confirmed() { "confirmed" } else { "possible" };
        let evidence = match finding.place() {
            Some(place) => format!("{place}: {}", finding.evidence()),
            None => finding.evidence().to_owned(),
        };
        rows.push(row(label, finding.cause(), evidence));
    }
    if failure.findings.len() > FINDINGS_SHOWN {
        let more = failure.findings.len() - FINDINGS_SHOWN;
        rows.push(Row::plain("", format!("and {more} more, in `failure.findings()`")));
    }
    for (cause, evidence) in &failure.ruled_out {
        rows.push(row("ruled out", *cause, evidence.clone()));
    }
    rows.extend(advice(failure).into_iter().map(|text| Row::plain("help", text)));
    rows.extend(failure.rerun.iter().map(|rerun| Row::plain("rerun", rerun.clone())));
    rows
}

/// The check's own help first; else the advice of every confirmed cause, or of the likeliest possible one.
fn advice(failure: &Content) -> Vec<String> {
    if let Some(help) = &failure.help {
        return vec![help.clone()];
    }
    let confirmed = failure.findings.iter().filter(|f| f.is_confirmed());
    let first = failure.findings.first().filter(|f| !f.is_confirmed());
    let mut lines: Vec<String> = Vec::new();
    for finding in confirmed.chain(first) {
        let code = finding.cause().code();
        let advice = finding.advice();
        let line = match advice.contains("docs/causes.md#") {
            true => advice.to_owned(),
            false => format!("{advice}; see docs/causes.md#{code}"),
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// A label, a column of its own where the block has one, and a text that may take several lines.
struct Row {
    label: String,
    column: String,
    text: String,
}

impl Row {
    fn plain(label: &str, text: String) -> Self {
        Self { label: label.to_owned(), column: String::new(), text }
    }
}

/// Where texts are wrapped: what a side-by-side terminal shows.
const COLUMNS: usize = 110;

/// The labels in one column, the texts in the next, their further lines indented under their first.
fn aligned(rows: &[Row], least: usize, palette: Palette) -> Vec<String> {
    let widest = rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0).max(least);
    let mut lines = Vec::new();
    for row in rows {
        let indent = widest + 4 + row.column.chars().count();
        let label = palette.label(&format!("{:<widest$}", row.label));
        let wrapped = row.text.lines().flat_map(|line| wrapped(line, COLUMNS - indent));
        for (i, line) in wrapped.enumerate() {
            let text = match i {
                0 => format!("  {label}  {}{line}", row.column),
                _ => format!("{:indent$}{line}", ""),
            };
            lines.push(text.trim_end().to_owned());
        }
    }
    lines
}

/// Breaks at spaces. Tables and curves, which hold runs of spaces, stay as they are.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    if line.chars().count() <= width || line.contains("  ") {
        return vec![line.to_owned()];
    }
    let mut lines = vec![String::new()];
    for word in line.split(' ') {
        let current = lines.last().map_or(0, |l| l.chars().count());
        if current > 0 && current + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(last) = lines.last_mut() {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}
