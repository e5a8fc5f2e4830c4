//! Where a sequence is cut, and what must not be seen across a cut.

use super::probes::Probes;
use crate::Result;

/// So many cuts are tried one by one: 128 calls of eight rows.
const EVERY_CUT: usize = 1024;

/// Which positions of the input an output may depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) strict: bool,
    pub(super) window: Option<usize>,
}

/// What is replaced: all that comes later, or all that is older.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    From(usize),
    Before(usize),
}

impl Rule {
    pub(super) fn allows(self, output: usize, input: usize) -> bool {
        !self.is_future(output, input) && !self.is_old(output, input)
    }

    /// Later than what the output may see.
    pub(super) fn is_future(self, output: usize, input: usize) -> bool {
        input > output || (self.strict && input == output)
    }

    /// Before the window.
    pub(super) fn is_old(self, output: usize, input: usize) -> bool {
        self.window.is_some_and(|window| input + window <= output)
    }

    /// Whether the output may see nothing of what the cut replaces.
    fn forbids(self, cut: Cut, output: usize) -> bool {
        match cut {
            Cut::From(start) => self.is_future(output, start),
            Cut::Before(end) => self.is_old(output, end - 1),
        }
    }

    /// Every cut of a sequence; of a very long one some, and how far apart.
    pub(super) fn cuts(self, positions: usize) -> (Vec<Cut>, usize) {
        let first = usize::from(!self.strict);
        let starts = spread(first, positions);
        let mut apart = widest(&starts, positions);
        let mut cuts: Vec<Cut> = starts.into_iter().map(Cut::From).collect();
        if let Some(window) = self.window {
            let end = positions.saturating_sub(window) + 1;
            let ends = spread(1, end);
            apart = apart.max(widest(&ends, end));
            cuts.extend(ends.into_iter().map(Cut::Before));
        }
        (cuts, apart)
    }
}

impl Cut {
    pub(super) fn replaces(self, position: usize) -> bool {
        match self {
            Cut::From(start) => position >= start,
            Cut::Before(end) => position < end,
        }
    }
}

/// All of them; or odd steps, so that no cut falls together with the chunks of a mask again and again, and the neighbours
/// of powers of two from both ends.
fn spread(first: usize, end: usize) -> Vec<usize> {
    if end.saturating_sub(first) <= EVERY_CUT {
        return (first..end).collect();
    }
    let step = (end - first).div_ceil(EVERY_CUT / 2) | 1;
    let mut all: Vec<usize> = (first..end).step_by(step).collect();
    let powers = (0..usize::BITS).map(|bit| 1usize << bit).take_while(|power| *power < end);
    all.extend(powers.flat_map(|power| [power, power + 1, end - power]));
    all.retain(|cut| (first..end).contains(cut));
    all.sort_unstable();
    all.dedup();
    all
}

fn widest(cuts: &[usize], end: usize) -> usize {
    let next = cuts.iter().skip(1).copied().chain([end]);
    cuts.iter().zip(next).map(|(cut, next)| next - cut).max().unwrap_or(1)
}

/// Outputs that moved though nothing changed that they may see.
#[derive(Debug)]
pub(super) struct Crossing {
    pub(super) cut: Cut,
    pub(super) row: usize,
    pub(super) draw: usize,
    pub(super) outputs: Vec<usize>,
    /// The largest of their moves, as a share of the output's size.
    pub(super) share: f64,
}

/// Tries every cut, each row of a call another one; at least two calls, so that a cut is seen with more than one row's
/// values where that costs nothing.
pub(super) fn crossings(
    probes: &mut Probes<'_, '_>,
    rule: Rule,
    cuts: &[Cut],
) -> Result<Vec<Crossing>> {
    let (rows, outputs) = (probes.rows(), probes.outputs());
    let sizes = probes.sizes()?;
    let mut found = Vec::new();
    for call in 0..cuts.len().div_ceil(rows).max(2) {
        let of_row = |row: usize| {
            let at = call * rows + row;
            cuts[(at + at / cuts.len()) % cuts.len()]
        };
        let draw = call % 2;
        let (differ, output) = probes.bits(draw, &|row, at| of_row(row).replaces(at))?;
        let crossed = |(row, t): (usize, usize)| rule.forbids(of_row(row), t);
        let pairs = || (0..rows).flat_map(|row| (0..outputs).map(move |t| (row, t)));
        if !pairs().any(|(row, t)| differ[row * outputs + t] && crossed((row, t))) {
            continue;
        }
        // Zeros of different sign are no leak.
        let moved = probes.moves_of(&output)?;
        for row in 0..rows {
            let leaks = |t: &usize| moved[row * outputs + t] > 0.0 && crossed((row, *t));
            let leaking: Vec<usize> = (0..outputs).filter(leaks).collect();
            if !leaking.is_empty() {
                let share = |t: &usize| moved[row * outputs + t] / sizes[row * outputs + t];
                let share = leaking.iter().map(share).fold(0.0, f64::max);
                found.push(Crossing { cut: of_row(row), row, draw, outputs: leaking, share });
            }
        }
    }
    Ok(found)
}

/// What the outputs depend on, at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Uses {
    /// An earlier position.
    Past,
    /// Something, but no earlier position.
    NoPast,
    Nothing,
}

/// Replaces what comes before an output and may be seen by it, until one of them notices.
pub(super) fn uses(probes: &mut Probes<'_, '_>, rule: Rule) -> Result<Uses> {
    const DRAWS: usize = 4;
    let (rows, positions) = (probes.rows(), probes.outputs());
    let before = |output: usize, at: usize| at < output && rule.allows(output, at);
    // A window of one position has no past.
    if rule.window != Some(1) {
        // The last output, and others in even steps; then every one.
        let steps = (positions - 1).div_ceil(rows);
        for (draw, step) in (0..DRAWS).flat_map(|draw| (0..=steps).map(move |step| (draw, step))) {
            let output = |row: usize| match step {
                0 => positions - 1 - (row + draw) % rows * (positions - 1) / rows,
                step => 1 + (step * rows + row + draw) % (positions - 1),
            };
            let (differ, _) = probes.bits(draw, &|row, at| before(output(row), at))?;
            for row in (0..rows).filter(|row| differ[row * positions + output(*row)]) {
                // By itself: another row may have moved it.
                let t = output(row);
                if probes.moved_alone(draw, row, &|at| before(t, at))?[row * positions + t] > 0.0 {
                    return Ok(Uses::Past);
                }
            }
        }
    }
    for draw in 0..DRAWS {
        if probes.moved(draw, &|_, _| true)?.iter().any(|moved| *moved > 0.0) {
            return Ok(if rule.window == Some(1) { Uses::Past } else { Uses::NoPast });
        }
    }
    Ok(Uses::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_allows_what_it_says() {
        let allowed =
            |rule: Rule, t: usize| (0..6).filter(|s| rule.allows(t, *s)).collect::<Vec<_>>();
        assert_eq!(allowed(Rule { strict: false, window: None }, 2), [0, 1, 2]);
        assert_eq!(allowed(Rule { strict: true, window: None }, 2), [0, 1]);
        assert_eq!(allowed(Rule { strict: false, window: Some(2) }, 4), [3, 4]);
        assert_eq!(allowed(Rule { strict: true, window: Some(2) }, 4), [3]);
    }

    #[test]
    fn every_pair_that_is_not_allowed_is_across_a_cut() {
        for (strict, window) in [(false, None), (true, None), (false, Some(1)), (true, Some(3))] {
            let rule = Rule { strict, window };
            let (cuts, apart) = rule.cuts(7);
            assert_eq!(apart, 1);
            for (t, s) in (0..7).flat_map(|t| (0..7).map(move |s| (t, s))) {
                let seen = cuts.iter().any(|cut| cut.replaces(s) && rule.forbids(*cut, t));
                assert_eq!(seen, !rule.allows(t, s), "{rule:?} {t} {s}");
            }
        }
    }

    #[test]
    fn a_long_sequence_has_fewer_cuts_and_knows_their_distance() {
        let rule = Rule { strict: false, window: None };
        let (cuts, apart) = rule.cuts(10_000);
        assert!(cuts.len() < 600 && apart == 21, "{} {apart}", cuts.len());
        for reach in [21usize, 40] {
            assert!((0..10_000 - reach).all(|t| {
                cuts.iter().any(|cut| matches!(cut, Cut::From(at) if *at > t && *at <= t + reach))
            }));
        }
        assert_eq!(rule.cuts(1025), ((1..1025).map(Cut::From).collect(), 1));
    }
}
