//! From a difference across a cut to the pair of positions that made it.

use super::{
    cuts::{Crossing, Cut, Rule},
    matrix::Matrix,
    pattern,
    probes::Probes,
};
use crate::{
    Cause, Failure, Finding, Result,
    verdict::{count, number},
};

/// Up to so many positions, every pair is measured by itself once a leak is known; where rows are mixed, which takes a call
/// a position, fewer.
const EVERY_PAIR: usize = 256;
const EVERY_PAIR_ALONE: usize = 64;

/// So many crossings are tried again by themselves: mixed rows make many, among which a leak may be one.
const TRIED: usize = 256;

/// What the experiments say of the crossings.
#[derive(Debug, Default)]
pub(super) struct Explained {
    pub(super) leaks: Vec<Leak>,
    pub(super) mixing: Option<Mixing>,
    pub(super) matrix: Option<Matrix>,
}

/// An output that depends on a position it may not see.
#[derive(Debug)]
pub(super) struct Leak {
    /// Later, or too old.
    future: bool,
    output: usize,
    /// One position, or several that act together only: from .. to, the end excluded.
    inputs: (usize, usize),
    /// By how much the output moves, and by how much with all that it may see.
    moved: f64,
    allowed: f64,
    /// Which tensors of an input of several it comes through.
    members: Vec<usize>,
}

/// Outputs that change when other rows do.
#[derive(Debug)]
pub(super) struct Mixing {
    pub(super) row: usize,
    /// The row that moves it; unknown where only several together do.
    pub(super) from: Option<usize>,
}

pub(super) fn explained(
    probes: &mut Probes<'_, '_>,
    rule: Rule,
    crossings: &[Crossing],
) -> Result<Explained> {
    let mut explained = Explained::default();
    let mut confirmed = Vec::new();
    for future in [true, false] {
        let kind = |c: &&Crossing| matches!(c.cut, Cut::From(_)) == future;
        let mut of_kind: Vec<&Crossing> = crossings.iter().filter(kind).collect();
        of_kind.sort_by_key(|crossing| crossing.outputs[0]);
        if let Some(crossing) = alone(probes, &of_kind, &mut explained.mixing)? {
            confirmed.push((future, crossing));
        }
    }
    let alone = explained.mixing.is_some();
    let most = if alone { EVERY_PAIR_ALONE } else { EVERY_PAIR };
    if !confirmed.is_empty() && probes.inputs() <= most {
        explained.matrix = Some(probes.matrix(alone, 2)?);
    }
    for (future, crossing) in confirmed {
        let pair = explained.matrix.as_ref().and_then(|matrix| first(matrix, rule, future));
        explained.leaks.push(leak(probes, rule, &crossing, future, pair)?);
    }
    Ok(explained)
}

/// The first crossing that is there, too, when no other row changes: its row, draw, cut, and first output.
fn alone(
    probes: &mut Probes<'_, '_>,
    crossings: &[&Crossing],
    mixing: &mut Option<Mixing>,
) -> Result<Option<Crossing>> {
    let outputs = probes.outputs();
    let step = crossings.len().div_ceil(TRIED).max(1);
    for crossing in crossings.iter().step_by(step) {
        let Crossing { cut, row, draw, share, .. } = **crossing;
        let moved = probes.moved_alone(draw, row, &|at| cut.replaces(at))?;
        let own = &moved[row * outputs..(row + 1) * outputs];
        let seen = |t: &usize| own[*t] > 0.0 && crossing.outputs.contains(t);
        let leaking: Vec<usize> = (0..outputs).filter(seen).collect();
        let other = (0..probes.rows()).find(|other| {
            *other != row && moved[other * outputs..(other + 1) * outputs].iter().any(|m| *m > 0.0)
        });
        if let Some(other) = other {
            *mixing = Some(Mixing { row: other, from: Some(row) });
        }
        if !leaking.is_empty() {
            return Ok(Some(Crossing { cut, row, draw, outputs: leaking, share }));
        }
        mixing.get_or_insert(Mixing { row, from: None });
    }
    Ok(None)
}

/// The pair of the first output, and of those the nearest.
fn first(matrix: &Matrix, rule: Rule, future: bool) -> Option<(usize, usize)> {
    let leaks = |(t, s): &(usize, usize)| {
        let forbidden = if future { rule.is_future(*t, *s) } else { rule.is_old(*t, *s) };
        forbidden && matrix.depends(*t, *s)
    };
    let first = matrix.pairs().find(leaks)?;
    let of_output = matrix.pairs().filter(|pair| pair.0 == first.0).filter(leaks);
    of_output.min_by_key(|(t, s)| t.abs_diff(*s))
}

fn leak(
    probes: &mut Probes<'_, '_>,
    rule: Rule,
    crossing: &Crossing,
    future: bool,
    pair: Option<(usize, usize)>,
) -> Result<Leak> {
    let (rows, outputs, positions) = (probes.rows(), probes.outputs(), probes.inputs());
    let Crossing { cut, row, draw, .. } = *crossing;
    let output = pair.map_or(crossing.outputs[0], |(output, _)| output);
    let inputs = match pair {
        Some((_, input)) => (input, input + 1),
        None => {
            let whole = match cut {
                Cut::From(start) => (start, positions),
                Cut::Before(end) => (0, end),
            };
            narrowed(probes, (row, draw, output), whole)?
        }
    };
    // Any row and draw may show the pair: the crossing's own first.
    let mut moved = 0.0;
    let mut shown = (draw, row);
    let within = |at: usize| at >= inputs.0 && at < inputs.1;
    let elsewhere = (0..2).flat_map(|draw| (0..rows).map(move |row| (draw, row)));
    for (draw, row) in [(draw, row)].into_iter().chain(elsewhere) {
        moved = probes.moved_alone(draw, row, &within)?[row * outputs + output];
        if moved > 0.0 {
            shown = (draw, row);
            break;
        }
    }
    let allowed = |at: usize| rule.allows(output, at);
    let allowed = probes.moved_alone(shown.0, shown.1, &allowed)?[shown.1 * outputs + output];
    let members = probes.members_that_move(shown.0, (shown.1, output), &within)?;
    Ok(Leak { future, output, inputs, moved, allowed, members })
}

/// Halves the positions while a half of them moves the output by itself.
fn narrowed(
    probes: &mut Probes<'_, '_>,
    (row, draw, output): (usize, usize, usize),
    (mut from, mut to): (usize, usize),
) -> Result<(usize, usize)> {
    let at = row * probes.outputs() + output;
    while to - from > 1 {
        let middle = from.midpoint(to);
        if probes.moved_alone(draw, row, &|p| p >= from && p < middle)?[at] > 0.0 {
            to = middle;
        } else if probes.moved_alone(draw, row, &|p| p >= middle && p < to)?[at] > 0.0 {
            from = middle;
        } else {
            break;
        }
    }
    Ok((from, to))
}

impl Leak {
    pub(super) fn cause(&self) -> Cause {
        if self.future { Cause::FutureLeak } else { Cause::NotInvariant }
    }

    /// `output position 5 depends on input position 9, 4 positions later`.
    fn sentence(&self) -> String {
        let Leak { output, inputs: (from, to), .. } = *self;
        if to - from > 1 {
            return format!(
                "output position {output} depends on input positions {from} to {} together",
                to - 1,
            );
        }
        let distance = match (from.abs_diff(output), self.future) {
            (0, _) => return format!("output position {output} depends on its own input position"),
            (1, true) => "the next one".to_owned(),
            (distance, true) => format!("{} later", count(distance, "position")),
            (distance, false) => format!("{} earlier", count(distance, "position")),
        };
        format!("output position {output} depends on input position {from}, {distance}")
    }

    fn finding(&self, rule: Rule, matrix: Option<&Matrix>) -> Finding {
        let (from, to) = self.inputs;
        let allowed = match self.allowed > 0.0 {
            true => format!("; other values where it may look, by {}", size(self.allowed)),
            false => String::new(),
        };
        let members: Vec<String> = self.members.iter().map(usize::to_string).collect();
        let through = match members.is_empty() {
            true => String::new(),
            false => format!("; it comes through tensor {} of the input", members.join(" and ")),
        };
        let evidence =
            format!("other values there move it by {}{allowed}{through}", size(self.moved));
        let place = match to - from {
            1 => format!("output {}, input {from}", self.output),
            _ => format!("output {}, inputs {from} to {}", self.output, to - 1),
        };
        let finding = Finding::confirmed(self.cause(), evidence).at(place);
        if self.future {
            let pattern = matrix.and_then(|matrix| pattern::of(matrix, rule));
            let advice = pattern.and_then(pattern::Pattern::advice);
            let advice = advice.unwrap_or(Cause::FutureLeak.advice());
            return match self.members.is_empty() {
                true => finding.advice_is(advice),
                false => finding.advice_is(format!(
                    "{advice}; a tensor of which the output may see all, such as an encoder's memory, belongs into the closure",
                )),
            };
        }
        finding.advice_is(
            "check the mask's lower edge, and that nothing is carried on from before the window; n layers of window k \
             see n * (k - 1) + 1 positions",
        )
    }
}

pub(super) fn size(moved: f64) -> String {
    if moved.is_infinite() {
        "more than any number (NaN or infinity)".to_owned()
    } else {
        number(moved)
    }
}

impl Mixing {
    pub(super) fn finding(&self) -> Finding {
        let evidence = match self.from {
            Some(from) => format!("it moves when row {from} of the input alone changes"),
            None => {
                "it moves when several other rows change, and not when it alone does".to_owned()
            }
        };
        Finding::confirmed(Cause::BatchMixed, evidence).at(format!("output row {}", self.row))
    }
}

impl Explained {
    pub(super) fn findings(&self, rule: Rule) -> Vec<Finding> {
        let leaks = self.leaks.iter().map(|leak| leak.finding(rule, self.matrix.as_ref()));
        leaks.chain(self.mixing.iter().map(Mixing::finding)).collect()
    }

    /// The failure without its findings, told by what is left of them.
    pub(super) fn failure(&self, rule: Rule, shown: Cause) -> Failure {
        let Some(leak) = self.leaks.iter().find(|leak| leak.cause() == shown) else {
            return Failure::violated(
                "outputs change with other rows of the batch; in a row by itself no output sees what it must not",
            );
        };
        let mut failure = Failure::violated(leak.sentence());
        let Some(matrix) = &self.matrix else { return failure };
        let forbidden = |t, s| match leak.future {
            true => rule.is_future(t, s),
            false => rule.is_old(t, s),
        };
        let all = matrix.pairs().filter(|(t, s)| forbidden(*t, *s)).count();
        let seen: Vec<(usize, usize)> =
            matrix.pairs().filter(|(t, s)| forbidden(*t, *s) && matrix.depends(*t, *s)).collect();
        let far = seen.iter().map(|(t, s)| t.abs_diff(*s)).max().unwrap_or(0);
        let what = match (leak.future, rule.strict) {
            (true, false) => "of an output and a later input",
            (true, true) => "of an output and its own or a later input",
            (false, _) => "of an output and an input before its window",
        };
        let reach = match far > 1 && seen.len() > 1 {
            true => format!(", up to {} apart", count(far, "position")),
            false => String::new(),
        };
        let depend = if seen.len() == 1 { "depends" } else { "depend" };
        let extent = match seen.len() {
            0 => format!("none of the {} {what} depends by itself", count(all, "pair")),
            n => format!("{n} of {} {what} {depend}{reach}", count(all, "pair")),
        };
        failure = failure.fact("extent", extent);
        if leak.future
            && let Some(pattern) = pattern::of(matrix, rule)
        {
            failure = failure.fact("pattern", pattern.sentence());
        }
        let sign = |t: usize, s: usize, depends: bool| match (depends, rule.allows(t, s)) {
            (true, true) => '#',
            (true, false) => 'X',
            (false, _) => '.',
        };
        let mut lines =
            vec!["outputs down, inputs across; # depends, X depends and must not".to_owned()];
        lines.extend(matrix.picture((leak.output, leak.inputs.0), sign));
        failure.fact("seen", lines.join("\n"))
    }
}
