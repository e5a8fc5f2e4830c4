//! What the comparison asks of a number type.

use half::{bf16, f16};

use super::{
    narrow::{F8, f16_to_f32},
    number::Number,
};

/// A number type of candle's CPU storage.
///
/// # Safety
///
/// The type is a plain number without padding: every byte of a slice of it is initialised.
pub(crate) unsafe trait Element: Copy + Default + Send + Sync + 'static {
    /// The type its arithmetic is done in, and its values are ordered in.
    type Wide: Copy + PartialOrd + Default + Send + Sync;
    /// The relative and the absolute bound, in the type's own arithmetic.
    type Bound: Copy + Send + Sync;
    /// `|x - y|` as an integer that orders as the distance does, NaN above everything.
    type Distance: Copy + Ord + Default + Send + Sync;

    /// `|x - y| / |y|` as the bits of a float, which order as the ratio does: integers make vector code, floats do not.
    type Ratio: Copy + Ord + Default + Send + Sync;

    /// Whether NaN and infinity exist.
    const FLOATING: bool;

    fn wide(self) -> Self::Wide;
    fn bound(relative: f64, absolute: f64) -> Self::Bound;
    fn distance(self, expected: Self) -> Self::Distance;
    fn within(distance: Self::Distance, expected: Self, bound: Self::Bound) -> bool;
    fn is_nan(self) -> bool;
    fn is_finite(self) -> bool;
    fn to_f64(self) -> f64;
    fn distance_to_f64(distance: Self::Distance) -> f64;
    /// Infinite where the ratio is no number.
    fn ratio(distance: Self::Distance, expected: Self) -> Self::Ratio;
    fn ratio_to_f64(ratio: Self::Ratio) -> f64;
    /// False only where the ratio of the two is no greater than a `ratio` above zero: a product instead of a division.
    /// Rounding is monotone, so whatever is greater stays so; NaN is not asked about.
    fn may_exceed(distance: Self::Distance, expected: Self, ratio: Self::Ratio) -> bool;
    fn allowed(self, bound: Self::Bound) -> f64;
    fn number(self) -> Number;
    /// How many representable values lie between the two; `None` for integers, NaN and infinities.
    fn ulps(self, other: Self) -> Option<u64>;
    /// The least value that is at least `end`, or above it where `strict`; the end is first rounded to the type.
    fn lowest(end: f64, strict: bool) -> Self::Wide;
    /// The greatest value that is at most `end`, or below it where `strict`.
    fn highest(end: f64, strict: bool) -> Self::Wide;
}

/// Neighbouring floats have neighbouring keys, over zero too; the two zeros share one.
fn ordered(bits: u64, width: u32) -> i64 {
    let sign = 1u64 << (width - 1);
    let magnitude = (bits & (sign - 1)) as i64;
    if bits & sign == 0 { magnitude } else { -magnitude }
}

macro_rules! floating {
    ($type:ty, $wide:ident, $bits:ident, $width:literal, $number:ident,
     $to_wide:expr, $is_nan:expr, $is_finite:expr, $to_bits:expr, $round:expr) => {
        // SAFETY: a float is a plain number without padding.
        unsafe impl Element for $type {
            type Wide = $wide;
            type Bound = ($wide, $wide);
            type Distance = $bits;
            type Ratio = $bits;
            const FLOATING: bool = true;

            #[inline(always)]
            fn wide(self) -> $wide {
                $to_wide(self)
            }

            fn bound(relative: f64, absolute: f64) -> ($wide, $wide) {
                (relative as $wide, absolute as $wide)
            }

            #[inline(always)]
            fn distance(self, expected: Self) -> $bits {
                let (x, y) = (self.wide(), expected.wide());
                let apart = (x - y).to_bits() & ($bits::MAX >> 1);
                // Equal infinities match, though their difference is NaN.
                if x == y { 0 } else { apart }
            }

            #[inline(always)]
            fn within(
                distance: $bits,
                expected: Self,
                (relative, absolute): ($wide, $wide),
            ) -> bool {
                let allowed = absolute
                    + relative * $wide::from_bits(expected.wide().to_bits() & ($bits::MAX >> 1));
                // An infinite expectation must not make everything allowed.
                let allowed = if allowed < $wide::MAX { allowed } else { $wide::MAX };
                $wide::from_bits(distance) <= allowed
            }

            #[inline(always)]
            fn is_nan(self) -> bool {
                $is_nan(self)
            }

            #[inline(always)]
            fn is_finite(self) -> bool {
                $is_finite(self)
            }

            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self.wide())
            }

            #[inline(always)]
            fn distance_to_f64(distance: $bits) -> f64 {
                f64::from($wide::from_bits(distance))
            }

            #[inline(always)]
            fn ratio(distance: $bits, expected: Self) -> $bits {
                let ratio = $wide::from_bits(distance) / expected.wide();
                (ratio.to_bits() & ($bits::MAX >> 1)).min($wide::INFINITY.to_bits())
            }

            fn ratio_to_f64(ratio: $bits) -> f64 {
                f64::from($wide::from_bits(ratio))
            }

            #[inline(always)]
            fn may_exceed(distance: $bits, expected: Self, ratio: $bits) -> bool {
                let size = $wide::from_bits(expected.wide().to_bits() & ($bits::MAX >> 1));
                $wide::from_bits(distance) >= $wide::from_bits(ratio) * size
            }

            fn allowed(self, (relative, absolute): ($wide, $wide)) -> f64 {
                f64::from((absolute + relative * self.wide().abs()).min($wide::MAX))
            }

            fn number(self) -> Number {
                Number::$number(self.wide())
            }

            fn ulps(self, other: Self) -> Option<u64> {
                if !Element::is_finite(self) || !Element::is_finite(other) {
                    return None;
                }
                let key = |value: Self| ordered(u64::from($to_bits(value)), $width);
                Some(key(self).abs_diff(key(other)))
            }

            fn lowest(end: f64, strict: bool) -> $wide {
                let end = $round(end);
                if strict { end.next_up() } else { end }
            }

            fn highest(end: f64, strict: bool) -> $wide {
                let end = $round(end);
                if strict { end.next_down() } else { end }
            }
        }
    };
}

floating!(
    f32,
    f32,
    u32,
    32,
    Single,
    |x: f32| x,
    f32::is_nan,
    f32::is_finite,
    f32::to_bits,
    |end: f64| end as f32
);
floating!(
    f64,
    f64,
    u64,
    64,
    Double,
    |x: f64| x,
    f64::is_nan,
    f64::is_finite,
    f64::to_bits,
    |end: f64| end
);
floating!(
    bf16,
    f32,
    u32,
    16,
    Single,
    |x: bf16| f32::from_bits(u32::from(x.to_bits()) << 16),
    |x: bf16| x.to_bits() & 0x7fff > 0x7f80,
    |x: bf16| x.to_bits() & 0x7f80 != 0x7f80,
    bf16::to_bits,
    |end: f64| bf16::from_f64(end).to_f32()
);
floating!(
    f16,
    f32,
    u32,
    16,
    Single,
    f16_to_f32,
    |x: f16| x.to_bits() & 0x7fff > 0x7c00,
    |x: f16| x.to_bits() & 0x7c00 != 0x7c00,
    f16::to_bits,
    |end: f64| f16::from_f64(end).to_f32()
);
floating!(
    F8,
    f32,
    u32,
    8,
    Single,
    F8::to_f32,
    F8::is_nan,
    |x: F8| !x.is_nan(),
    |x: F8| x.0,
    |end: f64| end as f32
);

macro_rules! integer {
    ($($type:ty),*) => {$(
        // SAFETY: an integer is a plain number without padding.
        unsafe impl Element for $type {
            type Wide = i64;
            type Bound = (f64, f64);
            type Distance = u64;
            type Ratio = u64;
            const FLOATING: bool = false;

            #[inline(always)]
            fn wide(self) -> i64 {
                i64::from(self)
            }

            fn bound(relative: f64, absolute: f64) -> (f64, f64) {
                (relative, absolute)
            }

            #[inline(always)]
            fn distance(self, expected: Self) -> u64 {
                self.wide().abs_diff(expected.wide())
            }

            #[inline(always)]
            fn within(distance: u64, expected: Self, (relative, absolute): (f64, f64)) -> bool {
                // The cast rounds down and saturates: no distance is rounded, so neighbours beyond 2^53 stay apart.
                distance <= (absolute + relative * expected.wide().unsigned_abs() as f64) as u64
            }

            #[inline(always)]
            fn is_nan(self) -> bool {
                false
            }

            #[inline(always)]
            fn is_finite(self) -> bool {
                true
            }

            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }

            #[inline(always)]
            fn distance_to_f64(distance: u64) -> f64 {
                distance as f64
            }

            #[inline(always)]
            fn ratio(distance: u64, expected: Self) -> u64 {
                let ratio = distance as f64 / expected.wide().unsigned_abs() as f64;
                ratio.to_bits().min(f64::INFINITY.to_bits())
            }

            fn ratio_to_f64(ratio: u64) -> f64 {
                f64::from_bits(ratio)
            }

            #[inline(always)]
            fn may_exceed(distance: u64, expected: Self, ratio: u64) -> bool {
                distance as f64 >= f64::from_bits(ratio) * expected.wide().unsigned_abs() as f64
            }

            fn allowed(self, (relative, absolute): (f64, f64)) -> f64 {
                absolute + relative * self.wide().unsigned_abs() as f64
            }

            fn number(self) -> Number {
                Number::Integer(self.wide())
            }

            fn ulps(self, _: Self) -> Option<u64> {
                None
            }

            fn lowest(end: f64, strict: bool) -> i64 {
                let least = end.ceil() as i64;
                if strict && least as f64 == end { least.saturating_add(1) } else { least }
            }

            fn highest(end: f64, strict: bool) -> i64 {
                let greatest = end.floor() as i64;
                if strict && greatest as f64 == end { greatest.saturating_sub(1) } else { greatest }
            }
        }
    )*};
}

integer!(u8, u32, i16, i32, i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_converts_as_half_does_for_every_bit_pattern() {
        let same = |x: f32, y: f32| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
        for bits in 0..=u16::MAX {
            let value = f16::from_bits(bits);
            assert!(same(value.wide(), value.to_f32()), "{bits:#x}");
            assert_eq!(Element::is_nan(value), value.to_f32().is_nan());
            assert_eq!(Element::is_finite(value), value.to_f32().is_finite());
            let value = bf16::from_bits(bits);
            assert!(same(value.wide(), value.to_f32()), "{bits:#x}");
            assert_eq!(Element::is_nan(value), value.to_f32().is_nan());
            assert_eq!(Element::is_finite(value), value.to_f32().is_finite());
        }
    }

    #[test]
    fn units_in_the_last_place_count_over_zero() {
        assert_eq!(1f32.ulps(1f32.next_up()), Some(1));
        assert_eq!(0f32.ulps(-0f32), Some(0));
        assert_eq!(f32::from_bits(1).ulps(-f32::from_bits(1)), Some(2));
        assert_eq!(f64::MAX.ulps(-f64::MAX), Some(2 * (0x7fef_ffff_ffff_ffff)));
        assert_eq!(f32::NAN.ulps(1.0), None);
        assert_eq!(1i64.ulps(2), None);
    }

    #[test]
    fn the_ends_of_a_range_are_rounded_to_the_type() {
        assert_eq!(f32::highest(0.1, false), 0.1f32);
        assert_eq!(bf16::highest(0.1, false), bf16::from_f64(0.1).to_f32());
        assert!(f32::highest(1.0, true) < 1.0);
        assert_eq!((i32::lowest(0.5, false), i32::highest(2.5, false)), (1, 2));
        assert_eq!((i32::lowest(0.0, true), i32::highest(3.0, true)), (1, 2));
    }

    #[test]
    fn integers_are_told_apart_beyond_the_precision_of_f64() {
        let far = i64::MAX - 1;
        assert!(!i64::within(far.distance(i64::MAX), i64::MAX, i64::bound(0.0, 0.0)));
        assert_eq!(i64::MIN.distance(i64::MAX), u64::MAX);
    }
}
