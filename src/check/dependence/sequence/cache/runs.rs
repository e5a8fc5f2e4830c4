//! Handing the tokens to the step, piece by piece.

use std::fmt;

use candle_core::Tensor;

use super::{
    super::grid::{Apart, Grid, worse},
    Trial,
};
use crate::{Failure, Result, verdict::number};

/// The step, without its type.
pub(super) type Step<'s> = dyn FnMut(&Tensor, usize) -> Result<Tensor> + 's;

/// What one call returned.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) offset: usize,
    pub(super) len: usize,
    /// All positions of the piece, or the last alone.
    pub(super) answers: Grid,
}

impl Piece {
    /// The position of the first answer in the sequence.
    pub(super) fn first(&self) -> usize {
        self.offset + self.len - self.answers.positions()
    }
}

/// A call that returned an error.
#[derive(Clone, Debug)]
pub(super) struct Stopped {
    pub(super) offset: usize,
    pub(super) len: usize,
    pub(super) failure: Failure,
}

/// One way to hand the tokens over, and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) lengths: Vec<usize>,
    pub(super) after_another: bool,
    pub(super) pieces: Vec<Piece>,
    pub(super) stopped: Option<Stopped>,
    pub(super) difference: f64,
    pub(super) first_bad: Option<Apart>,
}

impl Trial {
    pub(super) fn run(
        &self,
        step: &mut Step<'_>,
        lengths: &[usize],
        after_another: bool,
    ) -> Result<Run> {
        if after_another {
            // A step that fails for the other prompt fails for reasons of its own; the run after it tells.
            let _ = self.feed(step, &self.other, lengths)?;
        }
        let (pieces, stopped) = self.feed(step, &self.tokens, lengths)?;
        let (mut difference, mut first_bad) = (0.0, None);
        for piece in &pieces {
            let first = piece.first();
            for at in 0..piece.answers.positions() {
                let wanted = self.reference.grid.taking(&[first + at]);
                difference = worse(difference, piece.answers.taking(&[at]).distance(&wanted));
                for row in 0..wanted.rows() {
                    let both = (&piece.answers, &self.reference.grid);
                    let apart = Apart::in_cell(both, (row, at, first + at), &self.bound);
                    first_bad = first_bad.or(apart);
                }
            }
        }
        let lengths = lengths.to_vec();
        Ok(Run { lengths, after_another, pieces, stopped, difference, first_bad })
    }

    /// All calls of one run, up to the first that returns an error.
    pub(super) fn feed(
        &self,
        step: &mut Step<'_>,
        tokens: &Tensor,
        lengths: &[usize],
    ) -> Result<(Vec<Piece>, Option<Stopped>)> {
        let (mut offset, mut pieces) = (0, Vec::new());
        for len in lengths.iter().copied() {
            let chunk = tokens.narrow(1, offset, len)?.contiguous()?;
            match step(&chunk, offset) {
                Ok(output) => {
                    let answers = self.answers(&output, offset, len)?;
                    pieces.push(Piece { offset, len, answers });
                }
                Err(failure) => return Ok((pieces, Some(Stopped { offset, len, failure }))),
            }
            offset += len;
        }
        Ok((pieces, None))
    }

    /// All positions of a piece, or its last alone: whichever has as many values as the full pass has.
    pub(super) fn answers(&self, output: &Tensor, offset: usize, len: usize) -> Result<Grid> {
        let grid = &self.reference.grid;
        let each = grid.rows() * grid.width();
        if output.dims().first() == Some(&grid.rows()) {
            if output.elem_count() == each {
                return Ok(Grid::of_rows(output)?);
            }
            if output.elem_count() == each * len && output.dims().get(1) == Some(&len) {
                return Ok(Grid::of_positions(output)?);
            }
        }
        Err(Failure::not_run(format!(
            "the step returned dims {:?} for {} of {} at offset {offset}; allowed: {} for each, for all or for the last",
            output.dims(),
            crate::verdict::count(len, "token"),
            crate::verdict::count(grid.rows(), "row"),
            crate::verdict::count(grid.width(), "value"),
        ))
        .fact("full pass", format!("dims {:?}", self.reference.whole.dims())))
    }
}

/// Ways to cut `len` tokens beside one by one, none of them twice.
pub(super) fn chunkings(len: usize, single_tokens: bool) -> Vec<Vec<usize>> {
    let third = (len / 3).max(1);
    let prompt = (len - third).max(1);
    let then_ones = |first: usize| {
        let mut lengths = vec![first];
        lengths.resize(1 + len - first, 1);
        lengths
    };
    let mut ways = vec![vec![len], then_ones(prompt)];
    if !single_tokens {
        ways.push(vec![third, len - third]);
        ways.push(vec![prompt, len - prompt]);
        let rest = len.saturating_sub(1 + third);
        if rest > 0 {
            ways.push(vec![1, third, rest]);
        }
    }
    let mut kept: Vec<Vec<usize>> = Vec::new();
    for way in ways {
        let sound = way.iter().all(|n| *n > 0) && way.iter().any(|n| *n > 1);
        if sound && !kept.contains(&way) {
            kept.push(way);
        }
    }
    kept
}

/// `one by one`, `all at once`, `4 tokens, then one by one`, `in chunks of 2, 4`.
pub(super) fn name(lengths: &[usize], after_another: bool) -> String {
    let way = match lengths {
        [_] => "all at once".to_owned(),
        ones if ones.iter().all(|n| *n == 1) => "one by one".to_owned(),
        [first, rest @ ..] if rest.iter().all(|n| *n == 1) && *first > 1 => {
            format!("{first} tokens, then one by one")
        }
        chunks => {
            let chunks: Vec<String> = chunks.iter().map(usize::to_string).collect();
            format!("in chunks of {}", chunks.join(", "))
        }
    };
    if after_another { format!("{way}, after another prompt") } else { way }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&name(&self.lengths, self.after_another))
    }
}

impl Run {
    /// Whether a piece of several tokens follows others.
    pub(super) fn is_chunked(&self) -> bool {
        self.lengths.iter().skip(1).any(|n| *n > 1)
    }

    /// What came of it, in a line.
    pub(super) fn line(&self) -> String {
        if let Some(Stopped { offset, len, failure }) = &self.stopped {
            let tokens = crate::verdict::count(*len, "token");
            return format!("fails for {tokens} at offset {offset}: {}", failure.source_text());
        }
        match (&self.first_bad, self.difference == 0.0) {
            (Some(at), _) => {
                format!(
                    "differs from position {} on, by up to {}",
                    at.position,
                    number(self.difference)
                )
            }
            (None, true) => "equal".to_owned(),
            (None, false) => format!("equal within {}", number(self.difference)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_to_cut_are_sound_and_different() {
        for len in 2..20 {
            for single in [false, true] {
                let ways = chunkings(len, single);
                assert!(ways.iter().all(|way| way.iter().sum::<usize>() == len), "{ways:?}");
                assert_eq!(ways[0], [len]);
            }
        }
        let names: Vec<String> = chunkings(6, false).iter().map(|way| name(way, false)).collect();
        assert_eq!(
            names,
            [
                "all at once",
                "4 tokens, then one by one",
                "in chunks of 2, 4",
                "in chunks of 4, 2",
                "in chunks of 1, 2, 3"
            ]
        );
        assert_eq!(name(&[1, 1], true), "one by one, after another prompt");
    }
}
