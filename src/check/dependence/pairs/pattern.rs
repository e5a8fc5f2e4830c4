//! What a leak looks like: the mistakes that leave a pattern of their own.

use super::{cuts::Rule, matrix::Matrix};
use crate::verdict::number;

/// A mistake that explains which later positions are seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pattern {
    /// Every later position, as much as earlier ones.
    NoMask,
    /// Every later position, less by this factor.
    Soft(f64),
    /// Later positions and no earlier one.
    Inverted,
    /// Each output so many positions ahead.
    Ahead(usize),
    /// Each output its own position and nothing later, where that is forbidden.
    Own,
    /// All positions within blocks of so many.
    Blocks(usize),
    /// Heads that were split without a transpose.
    Heads(usize),
    /// One position is seen by outputs before it.
    OneInput(usize),
    /// One output sees later positions.
    OneOutput(usize),
}

/// So many of the pairs that a pattern is made of are there: a unit that is off hides one now and then.
const NEARLY_ALL: f64 = 0.95;

/// A leak so much smaller than the use of the past is no missing mask: attention without one spreads over both alike, and
/// `e^-3` is a twentieth.
const SOFT: f64 = 0.05;

pub(super) fn of(matrix: &Matrix, rule: Rule) -> Option<Pattern> {
    let leaks: Vec<(usize, usize)> = (matrix.pairs())
        .filter(|(t, s)| rule.is_future(*t, *s) && matrix.depends(*t, *s))
        .collect();
    let (first_output, first_input) = *leaks.first()?;
    let later = |t: usize, s: usize| s > t;
    let earlier = |t: usize, s: usize| s < t && rule.allows(t, s);
    let share = |of: &dyn Fn(usize, usize) -> bool| {
        let all = matrix.pairs().filter(|(t, s)| of(*t, *s));
        let (seen, all) = all.fold((0u32, 0u32), |(seen, all), (t, s)| {
            (seen + u32::from(matrix.depends(t, s)), all + 1)
        });
        if all == 0 { 0.0 } else { f64::from(seen) / f64::from(all) }
    };
    let (future, past) = (share(&later), share(&earlier));
    if leaks.len() > 1 && past == 0.0 && future > 0.5 {
        return Some(Pattern::Inverted);
    }
    if leaks.len() > 1 && future > 0.5 {
        let depends = |t: usize, s: usize| matrix.depends(t, s);
        let seen = matrix.median(|t, s| later(t, s) && depends(t, s));
        let used = matrix.median(|t, s| earlier(t, s) && depends(t, s));
        if let (Some(seen), Some(used)) = (seen, used)
            && seen < SOFT * used
        {
            return Some(Pattern::Soft(seen / used));
        }
        if future >= NEARLY_ALL && matrix.outputs() > 2 {
            return Some(Pattern::NoMask);
        }
    }
    if leaks.len() == 1 {
        return None;
    }
    let width = matrix.inputs();
    let reach = leaks.iter().map(|(t, s)| s - t).max().unwrap_or(0);
    if reach == 0 {
        return (share(&|t, s| s == t) >= NEARLY_ALL).then_some(Pattern::Own);
    }
    let ahead = share(&|t, s| s > t && s <= t + reach);
    if ahead >= NEARLY_ALL && 2 * reach < width {
        return Some(Pattern::Ahead(reach));
    }
    if leaks.iter().all(|(_, s)| *s == first_input) {
        return Some(Pattern::OneInput(first_input));
    }
    if leaks.iter().all(|(t, _)| *t == first_output) {
        return Some(Pattern::OneOutput(first_output));
    }
    let block = leaks.iter().filter(|(t, _)| *t == 0).map(|(_, s)| s + 1).max();
    if let Some(block) = block.filter(|block| *block < width) {
        let together = |t: usize, s: usize| t / block == s / block;
        let within = share(&|t, s| s > t && together(t, s));
        if within >= NEARLY_ALL && leaks.iter().all(|(t, s)| together(*t, *s)) {
            return Some(Pattern::Blocks(block));
        }
    }
    (2..=width.min(32)).find(|heads| looks_like_heads(matrix, *heads)).map(Pattern::Heads)
}

/// `(b, t, heads * d)` read as `(b, heads, t, d)` and transposed back: head `i` holds at place `p` the part of position
/// `(i * t + p) / heads`, and a causal mask over places lets the part at `p` see those before it. One such layer or up to
/// three, with a residual or without.
fn looks_like_heads(matrix: &Matrix, heads: usize) -> bool {
    let len = matrix.inputs();
    if matrix.outputs() != len {
        return false;
    }
    let position = |head: usize, place: usize| (head * len + place) / heads;
    let mut layer = vec![false; len * len];
    for (head, place) in (0..heads).flat_map(|head| (0..len).map(move |place| (head, place))) {
        for seen in position(head, 0)..=position(head, place) {
            layer[place * len + seen] = true;
        }
    }
    let agrees = |seen: &[bool]| {
        let same = matrix.pairs().filter(|(t, s)| matrix.depends(*t, *s) == seen[t * len + s]);
        same.count() as f64 >= NEARLY_ALL * seen.len() as f64
    };
    let mut residual = layer.clone();
    (0..len).for_each(|at| residual[at * len + at] = true);
    let mut seen = residual.clone();
    agrees(&layer)
        || (0..3).any(|_| {
            let agreed = agrees(&seen);
            seen = after(&residual, &seen, len);
            agreed
        })
}

/// What one layer sees through another.
fn after(layer: &[bool], before: &[bool], len: usize) -> Vec<bool> {
    let seen = |at: usize| {
        let (t, s) = (at / len, at % len);
        (0..len).any(|between| layer[t * len + between] && before[between * len + s])
    };
    (0..len * len).map(seen).collect()
}

impl Pattern {
    pub(super) fn sentence(self) -> String {
        match self {
            Pattern::NoMask => {
                "every output sees every later position, as it sees earlier ones: there is no mask, or something beside it mixes all positions".to_owned()
            }
            Pattern::Soft(share) => format!(
                "outputs see later positions, {} times as much as earlier ones: a soft mask, such as -10 for minus infinity",
                number(share),
            ),
            Pattern::Inverted => {
                "outputs see later positions and no earlier one: the mask is inverted".to_owned()
            }
            Pattern::Ahead(1) => {
                "each output sees the next position and nothing beyond: off by one, in the mask or in a padding".to_owned()
            }
            Pattern::Ahead(reach) => format!(
                "each output sees {reach} positions ahead and nothing beyond: a diagonal off by {reach}, or by one in each of \
                 {reach} layers, or a convolution padded on the wrong side",
            ),
            Pattern::Own => "each output sees its own position and nothing later: the shift by one is missing".to_owned(),
            Pattern::Blocks(size) => format!("positions see each other within blocks of {size}"),
            Pattern::Heads(heads) => format!(
                "what is seen is what heads split by `reshape((b, {heads}, t, d))` without a transpose see",
            ),
            Pattern::OneInput(input) => format!("position {input} is the only one that is seen too early"),
            Pattern::OneOutput(output) => format!("output {output} is the only one that sees too much"),
        }
    }

    pub(super) fn advice(self) -> Option<&'static str> {
        Some(match self {
            Pattern::NoMask => {
                "add minus infinity above the diagonal of the scores, before the softmax; where that is done, look for a softmax, a \
                 norm, a mean or a reshape across the positions"
            }
            Pattern::Soft(_) => {
                "mask with `f32::NEG_INFINITY` or -1e9, which come out of the softmax as exactly 0"
            }
            Pattern::Inverted => {
                "keep the lower triangle (`tril2`) and mask the upper one, not the other way round"
            }
            Pattern::Ahead(_) => {
                "the mask keeps the diagonal and what lies below it; a convolution of kernel k is padded by k - 1 on the left and \
                 by nothing on the right"
            }
            Pattern::Own => "shift the input to the right by one, or mask the diagonal, too",
            Pattern::Blocks(_) => {
                "a mask is needed within a chunk, too; a reshape must not fold positions into features"
            }
            Pattern::Heads(_) => {
                "from (b, t, h * d) heads are `reshape((b, t, h, d))?.transpose(1, 2)?`"
            }
            Pattern::OneInput(_) | Pattern::OneOutput(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { strict: false, window: None };

    fn matrix(len: usize, by: impl Fn(usize, usize) -> f64) -> Matrix {
        let mut matrix = Matrix::new(len, len);
        for s in 0..len {
            matrix.raise(s, &(0..len).map(|t| by(t, s)).collect::<Vec<_>>());
        }
        matrix
    }

    fn found(len: usize, depends: impl Fn(usize, usize) -> bool) -> Option<Pattern> {
        of(&matrix(len, |t, s| f64::from(u8::from(depends(t, s)))), RULE)
    }

    #[test]
    fn every_mistake_has_its_pattern() {
        assert_eq!(found(8, |_, _| true), Some(Pattern::NoMask));
        assert_eq!(found(8, |t, s| s >= t), Some(Pattern::Inverted));
        assert_eq!(found(8, |t, s| s <= t + 1), Some(Pattern::Ahead(1)));
        assert_eq!(found(8, |t, s| s <= t + 2), Some(Pattern::Ahead(2)));
        assert_eq!(found(8, |t, s| s <= t || t / 4 == s / 4), Some(Pattern::Blocks(4)));
        assert_eq!(found(8, |t, s| s <= t || s == 5), Some(Pattern::OneInput(5)));
        assert_eq!(found(8, |t, s| s <= t || t == 2), Some(Pattern::OneOutput(2)));
        assert_eq!(found(8, |t, s| s <= t || (t, s) == (2, 6)), None);
        assert_eq!(found(8, |t, s| s <= t), None);
        let soft = matrix(8, |t, s| if s <= t { 1.0 } else { 1e-3 });
        assert_eq!(of(&soft, RULE), Some(Pattern::Soft(1e-3)));
        let strict = Rule { strict: true, window: None };
        let own = matrix(8, |t, s| f64::from(u8::from(s <= t)));
        assert_eq!(of(&own, strict), Some(Pattern::Own));
    }

    #[test]
    fn heads_without_a_transpose_are_known_through_layers() {
        let position = |head: usize, place: usize| (head * 12 + place) / 4;
        let layer = |t: usize, s: usize| {
            (0..4).any(|head| (position(head, 0)..=position(head, t)).contains(&s))
        };
        assert_eq!(found(12, layer), Some(Pattern::Heads(4)));
        let residual = |t: usize, s: usize| t == s || layer(t, s);
        assert_eq!(found(12, residual), Some(Pattern::Heads(4)));
        let twice = |t: usize, s: usize| (0..12).any(|m| residual(t, m) && residual(m, s));
        assert!(found(12, twice).is_some());
    }
}
