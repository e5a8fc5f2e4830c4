//! From a mismatch to what is wrong with the cache, by experiment.

use std::panic::AssertUnwindSafe;

use candle_core::Tensor;

use super::{
    super::grid::{Apart, Grid},
    Trial,
    runs::{Piece, Run, Step},
};
use crate::{
    Cause, Finding, Result,
    check::function::Function,
    measure::perturb::Mix,
    verdict::{count, number},
};

/// Up to so many earlier tokens are replaced one at a time; of more, some.
const REPLACED: usize = 16;

/// The same tokens from offset 0 again, with another prompt between, came out otherwise.
pub(super) fn kept(runs: &[Run]) -> Vec<Finding> {
    let [fresh, again, ..] = runs else { return Vec::new() };
    if let Some(stopped) = &again.stopped {
        let evidence = format!(
            "after another prompt, {} at offset {} fail, and without one they do not: {}",
            count(stopped.len, "token"),
            stopped.offset,
            stopped.failure.source_text(),
        );
        return vec![Finding::confirmed(Cause::StateKept, evidence).advice_is(RESET)];
    }
    let changed = fresh.pieces.iter().zip(&again.pieces).find(|(a, b)| a != b);
    let (at, by) = changed.map_or((0, 0.0), |(a, b)| (a.offset, a.answers.distance(&b.answers)));
    let evidence = format!(
        "the same tokens from offset 0 again, after another prompt, are {} away from position {at} on",
        number(by),
    );
    let kept = Finding::confirmed(Cause::StateKept, evidence).advice_is(RESET);
    let Some(at) = &fresh.first_bad else { return vec![kept] };
    // A dirty cache has no pattern: more is to be seen once it is cleared.
    let evidence = "the first run differs, too: it may have had an earlier call's cache";
    vec![
        kept,
        Finding::confirmed(Cause::CacheMismatch, evidence).at(at.place()),
        Finding::possible(
            Cause::DropoutInEval,
            "active dropout or another random draw in the step would do both, too",
        ),
    ]
}

const RESET: &str = "clear the cache where the offset is 0, and all of it";

/// Which of the runs differ, and why.
pub(super) fn mismatch(
    full: &mut Function<'_>,
    step: &mut Step<'_>,
    trial: &Trial,
    runs: &[Run],
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let bad = runs.iter().filter(|run| !run.after_another && run.first_bad.is_some());
    let bad: Vec<&Run> = bad.collect();
    let Some(worst) = bad.first() else { return Ok(findings) };
    let Some(at) = &worst.first_bad else { return Ok(findings) };
    if let Some(future) = &trial.reference.sees_future {
        let evidence = format!(
            "the full pass says {} there when the tokens after it are missing: no step can know them",
            future.values(),
        );
        let advice = "mask the full pass, or compare with a model that is causal";
        findings.push(
            Finding::confirmed(Cause::FutureLeak, evidence).at(future.place()).advice_is(advice),
        );
        return Ok(findings);
    }
    let (evidence, advice) = if runs[0].first_bad.is_some() {
        singles(full, step, trial, &runs[0], at)?
    } else if bad.iter().all(|run| run.is_chunked()) {
        chunks(step, trial, worst)?
    } else {
        prompt(trial, worst)
    };
    let place = at.place();
    let mut finding = Finding::confirmed(Cause::CacheMismatch, evidence).at(place);
    if let Some(advice) = advice {
        finding = finding.advice_is(advice);
    }
    findings.push(finding);
    if at.was.is_nan() {
        let evidence = "the step returns NaN where the full pass does not";
        findings.push(Finding::confirmed(Cause::NotFinite, evidence).at(at.place()));
    }
    Ok(findings)
}

type Explained = (String, Option<&'static str>);

/// Token by token is wrong.
fn singles(
    full: &mut Function<'_>,
    step: &mut Step<'_>,
    trial: &Trial,
    run: &Run,
    at: &Apart,
) -> Result<Explained> {
    if let Some(explained) = elsewhere(trial, run, at) {
        return Ok(explained);
    }
    if at.position == 0 {
        return Ok((
            "the first token differs already, before anything is in the cache: the step and the full pass compute two things"
                .to_owned(),
            Some("let both closures run one model, in one mode (`forward_t(x, false)`), with one set of weights"),
        ));
    }
    if let Some(explained) = rows_mixed(full, step, trial, run)? {
        return Ok(explained);
    }
    let len = trial.positions();
    let mix = Mix::new(std::slice::from_ref(&trial.tokens), &[Some(trial.other.clone())], 1)?;
    let tried = tried(len - 1);
    let by_full = trial.reference.seen(full, &mix, &tried)?;
    let by_step = seen_by_step(step, trial, &mix, &tried)?;
    let ignored = offset_is_ignored(step, trial, run)?;
    let Some(by_step) = by_step else {
        return Ok(("token by token the step says something else".to_owned(), None));
    };
    let last = len - 1;
    let offset = "another offset gives the same, bit for bit: the offset is not used";
    Ok(match (by_step == by_full, by_step.is_empty()) {
        (false, true) => (
            format!(
                "at position {last} the step does not notice any earlier token: nothing is kept in the cache, or nothing is read from it"
            ),
            Some(
                "append keys and values to the cache, and attend to what it returns, not to those of the call",
            ),
        ),
        (false, false) => {
            let more = by_step.iter().filter(|t| !by_full.contains(t)).count();
            let less = by_full.iter().filter(|t| !by_step.contains(t)).count();
            let advice = match (more, less) {
                (_, 0) => {
                    "a cache needs the mask of the full pass: keep the window, and drop what is older"
                }
                (0, _) => "look at what the cache drops or overwrites",
                _ => "look at which entries of the cache the mask lets through",
            };
            let what = format!(
                "at position {last} the step sees {} before it, the full pass {}",
                positions(&by_step),
                positions(&by_full),
            );
            (what, Some(advice))
        }
        (true, _) if ignored => (
            format!("the step sees the tokens that the full pass sees, and {offset}"),
            Some(
                "pass the offset on: the position of a token is `offset` plus its place in the call",
            ),
        ),
        (true, _) => (
            format!(
                "the step sees the tokens that the full pass sees ({}), and weighs them otherwise",
                positions(&by_step),
            ),
            Some(
                "compare the positions that queries and keys are given, and the order of the cache",
            ),
        ),
    })
}

/// Only chunks behind other tokens are wrong.
fn chunks(step: &mut Step<'_>, trial: &Trial, run: &Run) -> Result<Explained> {
    let kept = "token by token and the prompt at once are right";
    let advice = "a chunk of t tokens at an offset needs a mask of (t, offset + t): position i sees the keys 0..=offset + i";
    let chunk = run.lengths.iter().scan(0, |offset, len| {
        *offset += len;
        Some((*offset - len, *len))
    });
    let Some((offset, len)) = chunk.skip(1).find(|(_, len)| *len > 1) else {
        return Ok((kept.to_owned(), Some(advice)));
    };
    let own = run.pieces.iter().find(|piece| piece.offset == offset);
    let replaced = |step: &mut Step<'_>, at: usize| -> Result<Option<Piece>> {
        let mix = Mix::new(std::slice::from_ref(&trial.tokens), &[Some(trial.other.clone())], 1)?;
        let positions = trial.positions();
        let tokens = mix.replacing(|cell| cell % positions == at)?;
        let (pieces, _) = trial.feed(step, &tokens[0], &run.lengths)?;
        Ok(pieces.into_iter().find(|piece| piece.offset == offset))
    };
    let (Some(own), Some(later), Some(before)) =
        (own, replaced(step, offset + len - 1)?, replaced(step, offset - 1)?)
    else {
        return Ok((kept.to_owned(), Some(advice)));
    };
    let first = |piece: &Piece| piece.answers.taking(&[0]);
    let all = own.answers.positions() == len;
    let evidence = if all && first(&later) != first(own) {
        format!(
            "{kept}; in a chunk, position {offset} sees token {}, which comes after it: the mask of a chunk is missing",
            offset + len - 1,
        )
    } else if first(&before) == first(own) {
        format!(
            "{kept}; in a chunk, position {} does not see token {}: the mask of a chunk lacks the offset",
            own.first(),
            offset - 1,
        )
    } else {
        format!(
            "{kept}; in a chunk behind other tokens, the mask lacks the offset or the positions do"
        )
    };
    Ok((evidence, Some(advice)))
}

/// The prompt at once is wrong, and token by token right.
fn prompt(trial: &Trial, run: &Run) -> Explained {
    if let Some(at) = &run.first_bad
        && let Some(explained) = elsewhere(trial, run, at)
    {
        return explained;
    }
    (
        "token by token is right, and several tokens in the first call are not: they have no causal mask, or another position each"
            .to_owned(),
        Some("give a call of t tokens a causal mask and t positions"),
    )
}

/// The outputs are those of another position, or of other rows.
fn elsewhere(trial: &Trial, run: &Run, at: &Apart) -> Option<Explained> {
    let grid = &trial.reference.grid;
    let equal = |a: &Grid, b: &Grid| trial.bound.allows_all(a.values(), b.values());
    let piece = run
        .pieces
        .iter()
        .find(|piece| (piece.first()..piece.offset + piece.len).contains(&at.position))?;
    let answer = piece.answers.taking(&[at.position - piece.first()]);
    let other = (0..grid.positions()).find(|u| equal(&answer, &grid.taking(&[*u])));
    if let Some(other) = other {
        return Some((
            format!("at position {} the step returns the output of position {other}", at.position),
            Some("take the output of the last token of a call: `logits.i((.., t - 1))`"),
        ));
    }
    let rows = grid.rows();
    let own = grid.taking(&[at.position]);
    let from = |row: usize| {
        let answer = answer.taking_rows(&[row]);
        (0..rows).find(|other| equal(&answer, &own.taking_rows(&[*other])))
    };
    let order: Vec<usize> = (0..rows).map(from).collect::<Option<Vec<_>>>()?;
    let order: Vec<String> = order.iter().map(usize::to_string).collect();
    Some((
        format!(
            "at position {} the rows are those of the full pass in the order {}",
            at.position,
            order.join(", "),
        ),
        Some(
            "the cache keeps the rows of a batch in order; look for an index over rows, or a reshape",
        ),
    ))
}

/// Whether other rows of the step notice the first row's tokens, and those of the full pass do not.
fn rows_mixed(
    full: &mut Function<'_>,
    step: &mut Step<'_>,
    trial: &Trial,
    run: &Run,
) -> Result<Option<Explained>> {
    let rows = trial.reference.grid.rows();
    let mix = Mix::new(std::slice::from_ref(&trial.tokens), &[Some(trial.other.clone())], 0)?;
    let changed = mix.replacing(|row| row == 0)?;
    let (pieces, stopped) = trial.feed(step, &changed[0], &run.lengths)?;
    let (None, Some(own), Some(last)) = (stopped, run.pieces.last(), pieces.last()) else {
        return Ok(None);
    };
    let moved = |row: &usize| own.answers.taking_rows(&[*row]) != last.answers.taking_rows(&[*row]);
    let Some(noticed) = (1..rows).find(moved) else { return Ok(None) };
    let whole =
        |output: &Tensor| Ok::<_, crate::Failure>(Grid::of_rows(output)?.taking_rows(&[noticed]));
    if whole(&full(&changed)?)? != whole(&trial.reference.whole)? {
        return Ok(None);
    }
    Ok(Some((
        format!(
            "row {noticed} of the step notices the tokens of row 0, and in the full pass it does not: the cache mixes rows"
        ),
        Some(
            "the cache keeps the rows of a batch in order; look for an index over rows, or a reshape",
        ),
    )))
}

/// The earlier tokens to replace: all, or evenly spread ones with both ends.
fn tried(last: usize) -> Vec<usize> {
    if last <= REPLACED {
        return (0..last).collect();
    }
    (0..REPLACED).map(|i| i * (last - 1) / (REPLACED - 1)).collect()
}

/// Which earlier tokens the last step notices; `None` where a call fails.
fn seen_by_step(
    step: &mut Step<'_>,
    trial: &Trial,
    mix: &Mix,
    tried: &[usize],
) -> Result<Option<Vec<usize>>> {
    let len = trial.positions();
    let ones = vec![1; len];
    let mut last = |tokens: &Tensor| -> Result<Option<Piece>> {
        let (mut pieces, stopped) = trial.feed(step, tokens, &ones)?;
        Ok(if stopped.is_some() { None } else { pieces.pop() })
    };
    let Some(own) = last(&trial.tokens)? else { return Ok(None) };
    let mut seen = Vec::new();
    for at in tried {
        let tokens = mix.replacing(|cell| cell % len == *at)?;
        let Some(answer) = last(&tokens[0])? else { return Ok(None) };
        if answer != own {
            seen.push(*at);
        }
    }
    Ok(Some(seen))
}

/// Whether steps at one and the same offset say, bit for bit, what they say at their own.
fn offset_is_ignored(step: &mut Step<'_>, trial: &Trial, run: &Run) -> Result<bool> {
    let len = trial.positions();
    for (t, piece) in run.pieces.iter().enumerate() {
        let token = trial.tokens.narrow(1, t, 1)?.contiguous()?;
        // Offset 0 would start anew; with two tokens there is no other offset inside the sequence.
        let offset = if len == 2 { 2 * t } else { t.min(1) };
        // No honest caller asks for this: a step that counts what its cache holds may overflow on it.
        let asked = std::panic::catch_unwind(AssertUnwindSafe(|| step(&token, offset)));
        let Ok(Ok(output)) = asked else { return Ok(false) };
        if trial.answers(&output, t, 1)? != piece.answers {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `positions 0, 1, 2`, `no position`.
fn positions(of: &[usize]) -> String {
    match of {
        [] => "no position".to_owned(),
        [only] => format!("position {only} alone"),
        [first, .., last] if last - first + 1 == of.len() => format!("positions {first} to {last}"),
        some => {
            let some: Vec<String> = some.iter().map(usize::to_string).collect();
            format!("positions {}", some.join(", "))
        }
    }
}
