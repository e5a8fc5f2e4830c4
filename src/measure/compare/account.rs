//! What a comparison found.

use super::{
    Bounds, Element, Number, Walk,
    kernel::{self, Level},
    walk::Tile,
};
use crate::measure::values::multi_index;

/// How many mismatches are kept in full.
pub(crate) const KEPT: usize = 5;

/// What a comparison found.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    pub(crate) elements: usize,
    /// The greatest `|actual - expected|` of all elements; NaN where one of them is.
    pub(crate) max_absolute: f64,
    pub(crate) mismatches: Option<Mismatches>,
}

impl Comparison {
    pub(super) fn of_nothing() -> Self {
        Self { elements: 0, max_absolute: 0.0, mismatches: None }
    }
}

/// The elements beyond the bounds.
#[derive(Clone, Debug)]
pub(crate) struct Mismatches {
    pub(crate) count: usize,
    pub(crate) nan_in_actual: usize,
    pub(crate) nan_in_expected: usize,
    /// Where the difference is greatest, and where it is so relative to the expected value; NaN left out.
    pub(crate) greatest_absolute: Option<Place>,
    pub(crate) greatest_relative: Option<Place>,
    /// The first few in memory's order, sorted by index.
    pub(crate) first: Vec<Place>,
}

/// One mismatch.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) index: Vec<usize>,
    pub(crate) actual: Number,
    pub(crate) expected: Number,
    pub(crate) difference: f64,
    pub(crate) relative: f64,
    pub(crate) allowed: f64,
    pub(crate) ulps: Option<u64>,
}

/// A mismatch by its row-major position, before anyone wants to read it.
#[derive(Clone, Copy)]
struct Site<T> {
    position: usize,
    actual: T,
    expected: T,
}

impl<T: Element> Site<T> {
    fn place(&self, bound: T::Bound, dims: &[usize]) -> Place {
        let distance = self.actual.distance(self.expected);
        Place {
            index: multi_index(self.position, dims),
            actual: self.actual.number(),
            expected: self.expected.number(),
            difference: T::distance_to_f64(distance),
            relative: T::ratio_to_f64(T::ratio(distance, self.expected)),
            allowed: self.expected.allowed(bound),
            ulps: self.actual.ulps(self.expected),
        }
    }
}

/// A share of the comparison; shares add up in any order to the same whole.
struct Account<T: Element> {
    mismatches: usize,
    max: T::Distance,
    nan_in_actual: usize,
    nan_in_expected: usize,
    absolute: Option<(T::Distance, Site<T>)>,
    relative: Option<(T::Ratio, Site<T>)>,
    /// Ordered by the walk's tiles, which is the order of memory.
    first: Vec<(usize, Site<T>)>,
    buffers: [Vec<T>; 2],
}

impl<T: Element> Account<T> {
    fn new() -> Self {
        Self {
            mismatches: 0,
            max: T::Distance::default(),
            nan_in_actual: 0,
            nan_in_expected: 0,
            absolute: None,
            relative: None,
            first: Vec::new(),
            buffers: [Vec::new(), Vec::new()],
        }
    }

    fn merge(mut self, other: Self) -> Self {
        self.mismatches += other.mismatches;
        self.max = self.max.max(other.max);
        self.nan_in_actual += other.nan_in_actual;
        self.nan_in_expected += other.nan_in_expected;
        self.absolute = greater(self.absolute, other.absolute);
        self.relative = greater(self.relative, other.relative);
        self.first.extend(other.first);
        self.first.sort_by_key(|(step, _)| *step);
        self.first.truncate(KEPT);
        self
    }

    /// Whether a block with mismatches may hold more than their number; `max` is its greatest distance. Where half of
    /// everything differs, most blocks hold no more, and are spared the divisions.
    fn may_learn(
        &self,
        actual: &[T],
        expected: &[T],
        bound: T::Bound,
        max: T::Distance,
        level: Level,
    ) -> bool {
        let (Some((absolute, _)), Some((relative, _))) = (&self.absolute, &self.relative) else {
            return true;
        };
        self.first.len() < KEPT
            || max > *absolute
            || T::distance_to_f64(max).is_nan()
            || kernel::exceeding(level, actual, expected, bound, *relative) > 0
    }

    fn add(
        &mut self,
        walk: &Walk,
        tile: &Tile,
        actual: &[T],
        expected: &[T],
        bound: T::Bound,
        level: Level,
    ) {
        let statistics = kernel::statistics(level, actual, expected, bound);
        self.nan_in_actual += statistics.nan_in_actual as usize;
        self.nan_in_expected += statistics.nan_in_expected as usize;
        let site = |offset: usize| Site {
            position: walk.position(tile, offset),
            actual: actual[offset],
            expected: expected[offset],
        };
        let mismatch = |x: T, y: T| {
            let distance = x.distance(y);
            (!T::within(distance, y, bound)).then_some(distance)
        };
        let pairs = || actual.iter().copied().zip(expected.iter().copied());

        let greatest = statistics.greatest_absolute;
        if greatest > T::Distance::default()
            && self.absolute.is_none_or(|(known, _)| greatest > known)
            && let Some(offset) = pairs().position(|(x, y)| mismatch(x, y) == Some(greatest))
        {
            self.absolute = Some((greatest, site(offset)));
        }
        let greatest = statistics.greatest_relative;
        if greatest > T::Ratio::default()
            && self.relative.is_none_or(|(known, _)| greatest > known)
            && let Some(offset) = pairs().position(|(x, y)| {
                mismatch(x, y).is_some_and(|distance| T::ratio(distance, y) == greatest)
            })
        {
            self.relative = Some((greatest, site(offset)));
        }
        if self.first.len() < KEPT {
            let wanted = KEPT - self.first.len();
            let offsets = pairs().enumerate().filter(|(_, (x, y))| mismatch(*x, *y).is_some());
            self.first.extend(
                offsets.take(wanted).map(|(offset, _)| (tile.step() + offset, site(offset))),
            );
        }
    }
}

/// The greater of the two; of equals the one further to the front, so that the answer does not depend on threads.
fn greater<D: Ord, T>(a: Option<(D, Site<T>)>, b: Option<(D, Site<T>)>) -> Option<(D, Site<T>)> {
    match (a, b) {
        (Some(a), Some(b)) => {
            let second = b.0 > a.0 || (b.0 == a.0 && b.1.position < a.1.position);
            Some(if second { b } else { a })
        }
        (a, b) => a.or(b),
    }
}

pub(super) fn take<T: Element>(
    walk: &Walk,
    actual: &[T],
    expected: &[T],
    bounds: Bounds,
    dims: &[usize],
) -> Comparison {
    let level = Level::detect();
    let bound = T::bound(bounds.relative, bounds.absolute);
    let account = walk.fold(
        Account::<T>::new,
        |account, tile| {
            let [mut left, mut right] = std::mem::take(&mut account.buffers);
            let xs = walk.read(tile, 0, actual, &mut left);
            let ys = walk.read(tile, 1, expected, &mut right);
            if kernel::same_bits(xs, ys) {
                let nans = if T::FLOATING { kernel::nans(level, xs) } else { 0 };
                if nans > 0 {
                    account.mismatches += nans as usize;
                    account.max = account
                        .max
                        .max(xs.iter().map(|x| x.distance(*x)).max().unwrap_or_default());
                    account.add(walk, tile, xs, ys, bound, level);
                }
            } else {
                let (beyond, max) = kernel::beyond(level, xs, ys, bound);
                account.max = account.max.max(max);
                if beyond > 0 {
                    account.mismatches += beyond as usize;
                    if account.may_learn(xs, ys, bound, max, level) {
                        account.add(walk, tile, xs, ys, bound, level);
                    }
                }
            }
            account.buffers = [left, right];
        },
        Account::merge,
    );
    let place = |site: &Site<T>| site.place(bound, dims);
    let mut first = account.first;
    first.sort_by_key(|(_, site)| site.position);
    Comparison {
        elements: dims.iter().product(),
        max_absolute: T::distance_to_f64(account.max),
        mismatches: (account.mismatches > 0).then(|| Mismatches {
            count: account.mismatches,
            nan_in_actual: account.nan_in_actual,
            nan_in_expected: account.nan_in_expected,
            greatest_absolute: account.absolute.map(|(_, site)| place(&site)),
            greatest_relative: account.relative.map(|(_, site)| place(&site)),
            first: first.iter().map(|(_, site)| place(site)).collect(),
        }),
    }
}
