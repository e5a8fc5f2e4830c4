//! Rows that are mixed: which, with which, and how.

use super::other_sizes::other_sizes;
use crate::{
    Cause, Failure, Finding, Result,
    diagnose::{
        engine::{self, Defect},
        mixing::{self, Pattern},
    },
    measure::{
        batch::{Column, Noticed, Probed},
        graph::Graph,
        noise::epsilon,
    },
    verdict::{listed, number},
};

/// Up to so many rows the whole matrix of dependences is measured, row by row, and drawn.
const DRAWN: usize = 12;

/// Of larger batches so many rows are replaced alone.
const SAMPLED: usize = 8;

/// Up to so many affected rows are traced, each to the row it depends on; where more are, one stands for all.
const NAMED: usize = 3;

/// Of all rows that depend on others, a few traced to the row they depend on.
pub(super) struct Mixed {
    affected: Vec<usize>,
    named: Vec<Named>,
    columns: Vec<Column>,
    pattern: Option<Pattern>,
    /// An operation of candle that reads another row's numbers by itself.
    defect: Option<Defect>,
}

struct Named {
    row: usize,
    sources: Vec<usize>,
    difference: f64,
    size: f64,
}

impl Mixed {
    /// Traces what the probes saw. `dims` are those of the first input.
    pub(super) fn traced(
        probed: &mut Probed<'_, '_>,
        noticed: &Noticed,
        dims: &[usize],
    ) -> Result<Self> {
        let affected = noticed.affected();
        let mut named = Vec::new();
        let most = if affected.len() <= NAMED { NAMED } else { 1 };
        for row in affected.iter().copied() {
            let Some(probe) = &noticed.disturbed[row] else { continue };
            if named.len() == most {
                break;
            }
            let (sources, column) = probed.sources(row, probe)?;
            let (difference, size) = probed.change(&column, row)?;
            named.push(Named { row, sources, difference, size });
        }
        let columns = columns(probed, &named)?;
        // An experiment that the function refuses has nothing to say.
        let pattern = match columns.iter().any(|column| column.reaches_others()) {
            true => mixing::pattern(probed, &columns, dims).ok().flatten(),
            false => None,
        };
        let defect = defect(probed).ok().flatten();
        Ok(Self { affected, named, columns, pattern, defect })
    }

    /// What mixes the rows, where that is known; then who is mixed with whom.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let way = self
            .pattern
            .iter()
            .filter_map(|pattern| Some(Finding::confirmed(pattern.cause?, pattern.seen.as_str())));
        let defect = self.defect.iter().map(|defect| {
            let evidence = format!("{}, tried by itself: {}", defect.operation, defect.what);
            Finding::confirmed(defect.cause, evidence).advice_is(defect.remedy)
        });
        defect.chain(way).chain(self.named.iter().map(Named::finding)).collect()
    }

    /// Whether the mixing is declared, by its name or as such.
    pub(super) fn is_intended(&self, allowed: &[Cause]) -> bool {
        let way = self.pattern.as_ref().and_then(|pattern| pattern.cause);
        allowed.iter().any(|cause| *cause == Cause::BatchMixed || Some(*cause) == way)
    }

    /// The whole story.
    pub(super) fn failure(&self, probed: &mut Probed<'_, '_>) -> Result<Failure> {
        let n = probed.rows();
        let headline = match (&self.affected[..], &self.named[..]) {
            ([row], [Named { sources, .. }]) if sources.len() == 1 => {
                format!("row {row} of the output depends on row {} of the input", sources[0])
            }
            ([row], _) => format!("row {row} of the output depends on other rows of the input"),
            (rows, _) if rows.len() == n => {
                format!("all {n} rows of the output depend on other rows of the input")
            }
            (rows, _) => {
                format!(
                    "{} of {n} rows of the output depend on other rows of the input",
                    rows.len()
                )
            }
        };
        let mut failure = Failure::violated(headline);
        if self.affected.len() > 1 && self.affected.len() < n {
            let rows: Vec<String> = self.affected.iter().map(usize::to_string).collect();
            let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
            failure = failure.fact("rows", listed(&rows));
        }
        // With a name of its own it is a finding.
        if let Some(pattern) = self.pattern.as_ref().filter(|pattern| pattern.cause.is_none()) {
            failure = failure.fact("pattern", &pattern.seen);
        }
        if n <= DRAWN {
            failure = failure.fact("matrix", drawn(&self.columns, n));
        } else if let Some(reach) = self.reach(n) {
            failure = failure.fact("reach", reach);
        }
        failure = failure.with_findings(self.findings());
        let sizes = other_sizes(probed)?;
        if let Some(finding) = sizes.differs.first() {
            let place = finding.place().unwrap_or_default();
            failure = failure.fact("alone", format!("in {place}, {}", finding.evidence()));
        }
        failure = failure.with_findings(sizes.refused);
        Ok(match self.help(probed) {
            Some(help) => failure.help(help),
            None => failure,
        })
    }

    fn reach(&self, n: usize) -> Option<String> {
        let column = self.columns.iter().find(|column| column.reaches_others())?;
        let reached = column.noticed.iter().enumerate();
        let reached = reached.filter(|(row, noticed)| **noticed && *row != column.source).count();
        Some(format!(
            "row {} of the input changes the output of {} of the {} other rows",
            column.source,
            reached,
            n - 1,
        ))
    }

    fn help(&self, probed: &Probed<'_, '_>) -> Option<String> {
        if let Some(defect) = &self.defect {
            let code = defect.cause.code();
            return Some(format!("{}; see docs/causes.md#{code}", defect.remedy));
        }
        if let Some(pattern) = &self.pattern {
            let cause = pattern.cause.unwrap_or(Cause::BatchMixed);
            return Some(format!("{}; see docs/causes.md#{}", pattern.help, cause.code()));
        }
        let epsilon = epsilon(probed.own().dtype())?;
        let is_rounding = |named: &Named| named.difference <= 16.0 * epsilon * named.size;
        match self.named.iter().all(is_rounding) {
            // A router that groups tokens by expert: the width of each group decides which kernel multiplies it.
            true => Some(
                "the change is of the size of rounding: look for a tiny term over dimension 0; where rows are grouped by \
                 their values (experts, lengths), the size of a group alone does that: `.allow(Cause::BatchMixed)`"
                    .to_owned(),
            ),
            false => None,
        }
    }
}

impl Named {
    fn finding(&self) -> Finding {
        let sources: Vec<String> = self.sources.iter().map(usize::to_string).collect();
        let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
        let replaced = match sources.len() {
            1 => format!("row {} of the input alone is replaced", sources[0]),
            _ => format!("rows {} of the input are replaced together", listed(&sources)),
        };
        let change = match self.difference {
            // Integers beyond 2^53, or the sign of a zero.
            0.0 => "its bits change".to_owned(),
            difference => format!("it changes by {}", number(difference)),
        };
        Finding::confirmed(
            Cause::BatchMixed,
            format!("{change} when {replaced} (its size is {})", number(self.size)),
        )
        .at(format!("row {} of the output", self.row))
    }
}

impl Column {
    fn reaches_others(&self) -> bool {
        self.noticed.iter().enumerate().any(|(row, noticed)| *noticed && row != self.source)
    }
}

/// candle's own matrix product of a strided tensor takes numbers from another row.
fn defect(probed: &mut Probed<'_, '_>) -> Result<Option<Defect>> {
    let graph = Graph::of(&probed.with_graph()?, &[]);
    let defects = engine::defects(&graph, false)?;
    Ok(defects.into_iter().find(|defect| defect.cause == Cause::LayoutDependent))
}

/// What replacing single rows does: all of a small batch, else those that were named and some spread over the batch.
fn columns(probed: &mut Probed<'_, '_>, named: &[Named]) -> Result<Vec<Column>> {
    let n = probed.rows();
    let mut sources: Vec<usize> = match n <= DRAWN {
        true => (0..n).collect(),
        false => named
            .iter()
            .filter(|named| named.sources.len() == 1)
            .map(|named| named.sources[0])
            .chain((0..SAMPLED).map(|k| k * (n - 1) / (SAMPLED - 1)))
            .collect(),
    };
    sources.sort_unstable();
    sources.dedup();
    sources.into_iter().map(|source| probed.row(source)).collect()
}

/// Rows of the output down, rows of the input across: `x` where the one depends on the other.
fn drawn(columns: &[Column], n: usize) -> String {
    let head: String = (0..n).map(|source| format!("{source:>3}")).collect();
    let mut lines = vec![format!("in {head}")];
    for row in 0..n {
        let marks =
            columns.iter().map(|column| match (column.noticed[row], row == column.source) {
                (true, true) => "  o",
                (true, false) => "  x",
                (false, _) => "  .",
            });
        lines.push(format!("{row:>2} {}", marks.collect::<String>()));
    }
    lines.push(
        "x: the row of the output (down) depends on the row of the input (across)".to_owned(),
    );
    lines.join("\n")
}
