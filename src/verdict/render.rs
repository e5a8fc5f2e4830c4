//! The plain text of a failure.

use super::{FailureKind, failure::Inner, finding::Finding};

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

pub(super) fn text(failure: &Inner, palette: Palette) -> String {
    let mut lines = vec![palette.bold(&title(failure))];
    lines.extend(failure.headline.lines().map(str::to_owned));
    if !failure.facts.is_empty() {
        lines.push(String::new());
        let rows = failure
            .facts
            .iter()
            .map(|(label, value)| (label.as_str(), value.clone()));
        lines.extend(aligned(rows, 0, palette));
    }
    let rows = conclusions(failure);
    if !rows.is_empty() {
        lines.push(String::new());
        lines.extend(aligned(
            rows.iter().map(|(l, v)| (*l, v.clone())),
            9,
            palette,
        ));
    }
    lines.join("\n")
}

fn title(failure: &Inner) -> String {
    let verdict = match failure.kind {
        FailureKind::Violated => "failed",
        FailureKind::Vacuous => "proves nothing here",
        FailureKind::NotRun => "did not run",
    };
    let subject = match failure.assertion {
        Some(name) => format!("assertion `{name}` {verdict}"),
        None => verdict.to_owned(),
    };
    match &failure.context {
        Some(context) => format!("{subject}: {context}"),
        None => subject,
    }
}

/// The lower block: findings, what was ruled out, help, and how to run it again.
fn conclusions(failure: &Inner) -> Vec<(&'static str, String)> {
    let codes = failure
        .findings
        .iter()
        .map(Finding::cause)
        .chain(failure.ruled_out.iter().map(|(cause, _)| *cause));
    let width = codes.map(|cause| cause.code().len()).max().unwrap_or(0) + 3;
    let row = |code: &str, evidence: &str| format!("{code:<width$}{evidence}");

    let mut rows = Vec::new();
    for finding in failure.findings.iter().take(FINDINGS_SHOWN) {
        let label = if finding.is_confirmed() {
            "confirmed"
        } else {
            "possible"
        };
        let evidence = match finding.place() {
            Some(place) => format!("{place}: {}", finding.evidence()),
            None => finding.evidence().to_owned(),
        };
        rows.push((label, row(finding.cause().code(), &evidence)));
    }
    if failure.findings.len() > FINDINGS_SHOWN {
        let more = failure.findings.len() - FINDINGS_SHOWN;
        rows.push(("", format!("and {more} more, in `failure.findings()`")));
    }
    for (cause, evidence) in &failure.ruled_out {
        rows.push(("ruled out", row(cause.code(), evidence)));
    }
    rows.extend(advice(failure).into_iter().map(|text| ("help", text)));
    if let Some(rerun) = &failure.rerun {
        rows.push(("rerun", rerun.clone()));
    }
    rows
}

/// The check's own help first; else the advice of every confirmed cause, or of the likeliest possible one.
fn advice(failure: &Inner) -> Vec<String> {
    if let Some(help) = &failure.help {
        return vec![help.clone()];
    }
    let confirmed = failure.findings.iter().filter(|f| f.is_confirmed());
    let first = failure.findings.first().filter(|f| !f.is_confirmed());
    let mut lines: Vec<String> = Vec::new();
    for finding in confirmed.chain(first) {
        let code = finding.cause().code();
        let line = format!("{}; see docs/causes.md#{code}", finding.advice());
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// Rows of a label and a value, the values in one column; further lines of a value are indented under its first.
fn aligned<'a>(
    rows: impl Iterator<Item = (&'a str, String)> + Clone,
    least: usize,
    palette: Palette,
) -> Vec<String> {
    let width = rows
        .clone()
        .map(|(label, _)| label.chars().count())
        .max()
        .unwrap_or(0)
        .max(least);
    let mut lines = Vec::new();
    for (label, value) in rows {
        let padded = format!("{label:<width$}");
        for (i, line) in value.lines().enumerate() {
            let text = match i {
                0 => format!("  {}  {line}", palette.label(&padded)),
                _ => format!("  {:width$}  {line}", ""),
            };
            lines.push(text.trim_end().to_owned());
        }
    }
    lines
}
