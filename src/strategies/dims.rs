//! Which shapes a strategy may draw.

use std::{
    fmt,
    ops::{Range, RangeInclusive},
};

use rand::RngCore;

use crate::{Failure, Result};

/// The sizes that one dimension may have: `3`, `1..6` or `1..=5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    low: usize,
    /// The first size that is too large.
    end: usize,
}

impl Size {
    pub(super) fn lowest(self) -> usize {
        self.low
    }

    pub(super) fn contains(self, size: usize) -> bool {
        (self.low..self.end).contains(&size)
    }

    pub(super) fn intersection(self, other: Self) -> Self {
        Self { low: self.low.max(other.low), end: self.end.min(other.end) }
    }

    pub(super) fn is_empty(self) -> bool {
        self.low >= self.end
    }

    /// One size and no other: said by the caller, so it may equal another.
    fn is_fixed(self) -> bool {
        self.low.checked_add(1) == Some(self.end)
    }

    fn draw(self, rng: &mut dyn RngCore) -> usize {
        match self.end.saturating_sub(self.low) {
            0 => self.low,
            sizes => self.low + below(rng, sizes),
        }
    }
}

/// The remainder's bias is 2^-40 for a million sizes: nothing here counts frequencies.
pub(super) fn below(rng: &mut dyn RngCore, bound: usize) -> usize {
    (rng.next_u64() % bound as u64) as usize
}

impl From<usize> for Size {
    fn from(size: usize) -> Self {
        Self { low: size, end: size.saturating_add(1) }
    }
}

impl From<Range<usize>> for Size {
    fn from(sizes: Range<usize>) -> Self {
        Self { low: sizes.start, end: sizes.end }
    }
}

impl From<RangeInclusive<usize>> for Size {
    fn from(sizes: RangeInclusive<usize>) -> Self {
        Self { low: *sizes.start(), end: sizes.end().saturating_add(1) }
    }
}

/// The shapes that a strategy may draw: a [`Size`] for each dimension.
///
/// Made from a list (`[2, 3]`, `[1..6, 1..6]`), a tuple that mixes both (`(1..6, 64)`), one size or range for a vector,
/// `()` for a scalar, and by [`of_rank`](Dims::of_rank).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dims {
    /// A shape has the first few of them, at least `fewest`.
    lead: Vec<Size>,
    fewest: usize,
    /// A dimension of every shape, after those.
    last: Option<Size>,
}

/// One GiB of f32: a strategy for more was a slip.
const MOST_ELEMENTS: usize = 1 << 28;

impl Dims {
    /// Shapes of every rank in `ranks`, whose dimensions are in `sizes`.
    ///
    /// ```
    /// use candling::{prelude::*, strategies::{self, Dims}};
    ///
    /// let x = strategies::tensor(Dims::of_rank(1..=4, 1..8)).sample(Seed::new(1))?;
    /// assert!((1..=4).contains(&x.rank()));
    /// # candling::Result::Ok(())
    /// ```
    pub fn of_rank(ranks: RangeInclusive<usize>, sizes: impl Into<Size>) -> Self {
        // More than the check allows, and little memory.
        let most = (*ranks.end()).min(1 << 10);
        Self { lead: vec![sizes.into(); most], fewest: *ranks.start(), last: None }
    }

    fn of(lead: Vec<Size>) -> Self {
        Self { fewest: lead.len(), lead, last: None }
    }

    pub(super) fn and_last(self, size: impl Into<Size>) -> Self {
        // `one_hot(..)` of what has a last dimension already keeps both.
        let mut dims = self;
        if let Some(last) = dims.last.replace(size.into()) {
            dims.lead.push(last);
            dims.fewest += 1;
        }
        dims
    }

    pub(super) fn ranks(&self) -> RangeInclusive<usize> {
        let last = usize::from(self.last.is_some());
        self.fewest + last..=self.lead.len() + last
    }

    /// The sizes of each dimension in shapes of that rank.
    pub(super) fn sizes(&self, rank: usize) -> Vec<Size> {
        let lead = rank - usize::from(self.last.is_some()).min(rank);
        self.lead.iter().take(lead).chain(&self.last).copied().collect()
    }

    /// A shape of these dims with fewer dimensions: the first of them, and the last.
    pub(super) fn cut(&self, dims: &[usize], rank: usize) -> Vec<usize> {
        match (self.last, dims.split_last()) {
            (Some(_), Some((last, lead))) => {
                lead.iter().take(rank.saturating_sub(1)).chain([last]).copied().collect()
            }
            _ => dims.iter().take(rank).copied().collect(),
        }
    }

    /// Whether the first dimension of every shape is the same one of these.
    pub(super) fn have_rows(&self) -> bool {
        self.fewest > 0 || (self.lead.is_empty() && self.last.is_some())
    }

    pub(super) fn rows(&self) -> Option<Size> {
        self.lead.first().or(self.last.as_ref()).copied()
    }

    pub(super) fn set_rows(&mut self, rows: Size) {
        if let Some(size) = self.lead.first_mut().or(self.last.as_mut()) {
            *size = rows;
        }
    }

    /// Whether every size is in its range, and no two equal, unless their ranges leave no choice.
    pub(super) fn allow(&self, dims: &[usize], distinct: bool) -> bool {
        let sizes = self.sizes(dims.len());
        self.ranks().contains(&dims.len())
            && sizes.iter().zip(dims).all(|(size, dim)| size.contains(*dim))
            && (!distinct
                || (0..dims.len()).all(|i| {
                    (0..i)
                        .all(|j| dims[i] != dims[j] || (sizes[i].is_fixed() && sizes[j].is_fixed()))
                }))
    }

    /// Any shape within the ranges, equal sizes or not.
    pub(super) fn draw(&self, rng: &mut dyn RngCore) -> Vec<usize> {
        let ranks = self.ranks();
        let rank = Size::from(ranks).draw(rng);
        self.sizes(rank).into_iter().map(|size| size.draw(rng)).collect()
    }

    /// Distinct sizes of that rank, small ones, if there are any. Ranges that end first choose first, each the smallest
    /// size that is free: for intervals that finds an assignment wherever one exists.
    pub(super) fn packed(&self, rank: usize) -> Option<Vec<usize>> {
        let sizes = self.sizes(rank);
        let mut dims: Vec<usize> = sizes.iter().map(|size| size.low).collect();
        let mut taken: Vec<usize> =
            sizes.iter().filter(|size| size.is_fixed()).map(|size| size.low).collect();
        let mut free: Vec<usize> = (0..rank).filter(|i| !sizes[*i].is_fixed()).collect();
        free.sort_by_key(|i| sizes[*i].end);
        for i in free {
            dims[i] = (sizes[i].low..sizes[i].end).find(|size| !taken.contains(size))?;
            taken.push(dims[i]);
        }
        Some(dims)
    }

    pub(super) fn check(&self, distinct: bool) -> Result<()> {
        let ranks = self.ranks();
        if ranks.is_empty() || *ranks.end() > MOST_DIMS {
            return Err(Failure::bad_argument(
                "ranks",
                format_args!("{}..={}", ranks.start(), ranks.end()),
                format_args!("a range with at least one rank, none above {MOST_DIMS}"),
            ));
        }
        let sizes = self.sizes(*ranks.end());
        if let Some((i, size)) = sizes.iter().enumerate().find(|(_, size)| size.is_empty()) {
            return Err(Failure::bad_argument(
                "dims",
                format_args!("{size} in dimension {i}, an empty range"),
                "a range with at least one size",
            ));
        }
        let most = sizes.iter().try_fold(1usize, |n, size| n.checked_mul((size.end - 1).max(1)));
        if most.is_none_or(|most| most > MOST_ELEMENTS) {
            return Err(Failure::bad_argument(
                "dims",
                format_args!("{}, which may become a tensor that is too large", shown(&sizes)),
                format_args!("up to {MOST_ELEMENTS} elements"),
            ));
        }
        if distinct && self.packed(*ranks.end()).is_none() {
            return Err(Failure::bad_argument(
                "dims",
                format_args!(
                    "{}, which holds too few sizes for distinct dimensions",
                    shown(&sizes)
                ),
                "a size of its own for each dimension, or equal ones with `.distinct(false)`",
            ));
        }
        Ok(())
    }
}

/// Enough for anything that candle's kernels take.
const MOST_DIMS: usize = 8;

fn shown(sizes: &[Size]) -> String {
    let each: Vec<String> = sizes.iter().map(Size::to_string).collect();
    format!("[{}]", each.join(", "))
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_fixed() {
            true => write!(f, "{}", self.low),
            false => write!(f, "{}..{}", self.low, self.end),
        }
    }
}

impl fmt::Display for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.sizes(*self.ranks().end())))
    }
}

impl From<()> for Dims {
    fn from((): ()) -> Self {
        Self::of(Vec::new())
    }
}

impl From<usize> for Dims {
    fn from(size: usize) -> Self {
        Self::of(vec![size.into()])
    }
}

impl From<Range<usize>> for Dims {
    fn from(sizes: Range<usize>) -> Self {
        Self::of(vec![sizes.into()])
    }
}

impl From<RangeInclusive<usize>> for Dims {
    fn from(sizes: RangeInclusive<usize>) -> Self {
        Self::of(vec![sizes.into()])
    }
}

impl<T: Into<Size>, const N: usize> From<[T; N]> for Dims {
    fn from(sizes: [T; N]) -> Self {
        Self::of(sizes.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Size>> From<Vec<T>> for Dims {
    fn from(sizes: Vec<T>) -> Self {
        Self::of(sizes.into_iter().map(Into::into).collect())
    }
}

impl From<&[usize]> for Dims {
    fn from(sizes: &[usize]) -> Self {
        Self::of(sizes.iter().map(|size| (*size).into()).collect())
    }
}

macro_rules! from_tuple {
    ($($size:ident: $place:tt),+) => {
        impl<$($size: Into<Size>),+> From<($($size,)+)> for Dims {
            fn from(sizes: ($($size,)+)) -> Self {
                Self::of(vec![$(sizes.$place.into()),+])
            }
        }
    };
}

from_tuple!(A: 0);
from_tuple!(A: 0, B: 1);
from_tuple!(A: 0, B: 1, C: 2);
from_tuple!(A: 0, B: 1, C: 2, D: 3);
from_tuple!(A: 0, B: 1, C: 2, D: 3, E: 4);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    #[test]
    fn packing_finds_distinct_sizes_wherever_there_are_some() {
        assert_eq!(Dims::from([1..3, 1..4, 1..2]).packed(3), Some(vec![2, 3, 1]));
        assert_eq!(Dims::from([1..3, 1..3, 1..3]).packed(3), None);
        assert_eq!(Dims::from((1..4, 1, 2)).packed(3), Some(vec![3, 1, 2]));
        assert_eq!(Dims::from([4, 4]).packed(2), Some(vec![4, 4]), "asked for");
        // Against all assignments, for every triple of ranges within 1..5.
        let ranges: Vec<Range<usize>> =
            (1..5).flat_map(|low| (low + 2..=5).map(move |end| low..end)).collect();
        for a in &ranges {
            for b in &ranges {
                for c in &ranges {
                    let exists = a
                        .clone()
                        .any(|x| b.clone().any(|y| x != y && c.clone().any(|z| z != x && z != y)));
                    let dims = Dims::from([a.clone(), b.clone(), c.clone()]);
                    assert_eq!(dims.packed(3).is_some(), exists, "{dims:?}");
                }
            }
        }
    }

    #[test]
    fn a_cut_shape_keeps_the_last_dimension_it_must_have() {
        let dims = Dims::of_rank(1..=3, 2..9).and_last(4);
        assert_eq!(dims.ranks(), 2..=4);
        assert_eq!(dims.cut(&[5, 6, 7, 4], 2), [5, 4]);
        assert_eq!(Dims::of_rank(0..=3, 2..9).cut(&[5, 6, 7], 1), [5]);
        let mut rng = Seed::new(1).rng("x");
        for _ in 0..50 {
            let drawn = dims.draw(&mut rng);
            assert!(dims.allow(&drawn, false) && drawn.last() == Some(&4), "{drawn:?}");
        }
    }
}
