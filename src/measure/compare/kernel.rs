//! The loops over one block of two slices, compiled for several levels of CPU and chosen at run time.

use super::element::Element;

/// How many elements a block has: two blocks of f32 fill half of a first-level cache.
pub(crate) const BLOCK: usize = 4096;

/// What the CPU can do; only [`Level::detect`] makes one, so holding it proves that it can.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Level(Features);

#[derive(Clone, Copy, Debug)]
enum Features {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
            {
                return Self(Features::Avx512);
            }
            if is_x86_feature_detected!("avx2") {
                return Self(Features::Avx2);
            }
        }
        Self(Features::Baseline)
    }
}

/// Compiles one loop for every level. None may contract a product and a sum into one rounding, so all levels agree
/// to the bit.
macro_rules! for_every_level {
    ($(#[$doc:meta])* $name:ident, $body:ident, ($($argument:ident: $type:ty),*) -> $result:ty) => {
        $(#[$doc])*
        pub(crate) fn $name<T: Element>(level: Level, $($argument: $type),*) -> $result {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2<T: Element>($($argument: $type),*) -> $result {
                $body($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
            fn avx512<T: Element>($($argument: $type),*) -> $result {
                $body($($argument),*)
            }
            match level.0 {
                Features::Baseline => $body($($argument),*),
                // SAFETY: a level is made by detection only.
                #[cfg(target_arch = "x86_64")]
                Features::Avx2 => unsafe { avx2($($argument),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Features::Avx512 => unsafe { avx512($($argument),*) },
            }
        }
    };
}

for_every_level!(
    /// How many elements of a block are beyond the bound, and the greatest distance in it.
    beyond, beyond_in, (actual: &[T], expected: &[T], bound: T::Bound) -> (u32, T::Distance)
);
for_every_level!(
    /// What a block with mismatches adds to the account of them.
    statistics, statistics_in, (actual: &[T], expected: &[T], bound: T::Bound) -> Statistics<T>
);
for_every_level!(
    /// How many elements of a block are NaN.
    nans, nans_in, (values: &[T]) -> u32
);
for_every_level!(
    /// How many mismatches of a block without NaN may have a greater relative difference than `ratio`.
    exceeding, exceeding_in,
    (actual: &[T], expected: &[T], bound: T::Bound, ratio: T::Ratio) -> u32
);
for_every_level!(
    /// How many elements of a block are NaN or infinite.
    non_finite, non_finite_in, (values: &[T]) -> u32
);
for_every_level!(
    /// The least and the greatest value of a block, NaN left out, and how many values are not between the two ends.
    extent, extent_in, (values: &[T], lowest: T::Wide, highest: T::Wide) -> (u32, Option<Ends<T>>)
);

#[inline(always)]
fn beyond_in<T: Element>(actual: &[T], expected: &[T], bound: T::Bound) -> (u32, T::Distance) {
    let mut count = 0;
    let mut greatest = T::Distance::default();
    for (x, y) in actual.iter().zip(expected) {
        let distance = x.distance(*y);
        count += u32::from(!T::within(distance, *y, bound));
        greatest = greatest.max(distance);
    }
    (count, greatest)
}

/// Over the mismatches of one block. The two greatest leave NaN out.
pub(crate) struct Statistics<T: Element> {
    pub(crate) greatest_absolute: T::Distance,
    pub(crate) greatest_relative: T::Ratio,
    pub(crate) nan_in_actual: u32,
    pub(crate) nan_in_expected: u32,
}

#[inline(always)]
fn statistics_in<T: Element>(actual: &[T], expected: &[T], bound: T::Bound) -> Statistics<T> {
    let mut greatest_absolute = T::Distance::default();
    let mut greatest_relative = T::Ratio::default();
    let (mut nan_in_actual, mut nan_in_expected) = (0, 0);
    for (x, y) in actual.iter().zip(expected) {
        let distance = x.distance(*y);
        let counts = !T::within(distance, *y, bound) & !x.is_nan() & !y.is_nan();
        let distance = if counts { distance } else { T::Distance::default() };
        greatest_absolute = greatest_absolute.max(distance);
        let ratio = T::ratio(distance, *y);
        let ratio = if counts { ratio } else { T::Ratio::default() };
        greatest_relative = greatest_relative.max(ratio);
        nan_in_actual += u32::from(x.is_nan());
        nan_in_expected += u32::from(y.is_nan());
    }
    Statistics { greatest_absolute, greatest_relative, nan_in_actual, nan_in_expected }
}

#[inline(always)]
fn exceeding_in<T: Element>(actual: &[T], expected: &[T], bound: T::Bound, ratio: T::Ratio) -> u32 {
    let mut count = 0;
    for (x, y) in actual.iter().zip(expected) {
        let distance = x.distance(*y);
        count += u32::from(!T::within(distance, *y, bound) & T::may_exceed(distance, *y, ratio));
    }
    count
}

#[inline(always)]
fn nans_in<T: Element>(values: &[T]) -> u32 {
    values.iter().map(|value| u32::from(value.is_nan())).sum()
}

#[inline(always)]
fn non_finite_in<T: Element>(values: &[T]) -> u32 {
    values.iter().map(|value| u32::from(!value.is_finite())).sum()
}

/// The least and the greatest value.
pub(crate) type Ends<T> = (<T as Element>::Wide, <T as Element>::Wide);

#[inline(always)]
fn extent_in<T: Element>(
    values: &[T],
    lowest: T::Wide,
    highest: T::Wide,
) -> (u32, Option<Ends<T>>) {
    let Some(first) = values.iter().find(|value| !value.is_nan()) else {
        return (values.len() as u32, None);
    };
    let (mut outside, mut least, mut greatest) = (0, first.wide(), first.wide());
    for value in values {
        let value = value.wide();
        outside += u32::from(!((lowest <= value) & (value <= highest)));
        least = if value < least { value } else { least };
        greatest = if value > greatest { value } else { greatest };
    }
    (outside, Some((least, greatest)))
}

/// Whether two slices hold the same bits: as fast as memory in every build profile.
pub(crate) fn same_bits<T: Element>(actual: &[T], expected: &[T]) -> bool {
    bytes(actual) == bytes(expected)
}

fn bytes<T: Element>(values: &[T]) -> &[u8] {
    // SAFETY: an `Element` has no padding, so all of the slice's bytes are initialised; u8 has no alignment.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}
