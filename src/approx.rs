//! The traits of the `approx` crate, for tensors.

use std::{fmt, ops::ControlFlow};

use ::approx::{AbsDiffEq, RelativeEq, UlpsEq};
use candle_core::Tensor;

use crate::measure::{
    compare::{Bounds, Pair, compare, visit},
    values::to_f64_vec,
};

/// How many values `Debug` shows.
const VALUES_SHOWN: usize = 8;

/// A tensor as the macros of the [`approx`](::approx) crate take it.
///
/// Two are equal if their shapes and dtypes are, and every pair of elements is, by `approx`'s own rules in f64. NaN
/// equals nothing. `ulps_eq` counts units in the last place of the tensors' dtype, and calls integers equal only when
/// they are within `epsilon`. A tensor whose dtype cannot be read equals nothing.
///
/// [`assert_close!`](crate::assert_close) says more when it fails; this wrapper is for code that uses `approx` already.
///
/// ```
/// use approx::{assert_abs_diff_ne, assert_relative_eq};
/// use candling::{Approx, prelude::*};
///
/// let x = Tensor::new(&[1f32, 2., 4.], &Device::Cpu)?;
/// let y = (&x * (1.0 + 1e-6))?;
/// assert_relative_eq!(Approx(&x), Approx(&y), max_relative = 1e-5);
/// assert_abs_diff_ne!(Approx(&x), Approx(&y), epsilon = 1e-9);
/// # candling::Result::Ok(())
/// ```
#[derive(Clone, Copy)]
pub struct Approx<'a>(pub &'a Tensor);

impl Approx<'_> {
    fn all(&self, other: &Self, test: impl Fn(&Pair<'_>) -> bool) -> bool {
        if self.0.dtype() != other.0.dtype() || self.0.dims() != other.0.dims() {
            return false;
        }
        let exact = Bounds { relative: 0.0, absolute: 0.0 };
        // Equal tensors are the common case, and told by a comparison that is many times faster than a visit.
        if compare(self.0, other.0, exact).is_ok_and(|found| found.mismatches.is_none()) {
            return true;
        }
        let every = visit(self.0, other.0, exact, &mut |pair| {
            if pair.within || test(pair) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        every.unwrap_or(false)
    }
}

impl PartialEq for Approx<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.all(other, |_| false)
    }
}

impl AbsDiffEq for Approx<'_> {
    type Epsilon = f64;

    fn default_epsilon() -> f64 {
        f64::default_epsilon()
    }

    fn abs_diff_eq(&self, other: &Self, epsilon: f64) -> bool {
        self.all(other, |pair| pair.difference <= epsilon)
    }
}

impl RelativeEq for Approx<'_> {
    fn default_max_relative() -> f64 {
        f64::default_max_relative()
    }

    fn relative_eq(&self, other: &Self, epsilon: f64, max_relative: f64) -> bool {
        self.all(other, |pair| {
            let largest = pair.actual.abs().max(pair.expected.abs());
            let finite = largest.is_finite();
            finite && (pair.difference <= epsilon || pair.difference <= largest * max_relative)
        })
    }
}

impl UlpsEq for Approx<'_> {
    fn default_max_ulps() -> u32 {
        f64::default_max_ulps()
    }

    fn ulps_eq(&self, other: &Self, epsilon: f64, max_ulps: u32) -> bool {
        self.all(other, |pair| {
            let one_sign = pair.actual.is_sign_negative() == pair.expected.is_sign_negative();
            let near = pair.ulps.is_some_and(|ulps| ulps <= u64::from(max_ulps));
            pair.difference <= epsilon || (one_sign && near)
        })
    }
}

impl fmt::Debug for Approx<'_> {
    /// `f32 [2, 3]: 0.5, 1, 2, ...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: ", self.0.dtype().as_str(), self.0.dims())?;
        let few = || {
            let flat = self.0.flatten_all()?;
            let shown = flat.elem_count().min(VALUES_SHOWN);
            to_f64_vec(&flat.narrow(0, 0, shown)?)
        };
        match few() {
            Ok(values) => {
                let values: Vec<String> = values.iter().map(|value| format!("{value}")).collect();
                let more = self.0.elem_count() > values.len();
                let end = if more { ", ..." } else { "" };
                write!(f, "{}{end}", values.join(", "))
            }
            Err(_) => f.write_str("values that cannot be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use ::approx::{abs_diff_eq, relative_eq, ulps_eq};
    use candle_core::{DType, Device, Result};

    use super::*;

    fn tensor(values: &[f32]) -> Result<Tensor> {
        Tensor::new(values, &Device::Cpu)
    }

    #[test]
    fn each_trait_judges_by_its_own_rule() -> Result<()> {
        let x = tensor(&[1., 1000.])?;
        let y = tensor(&[1., 1000.5])?;
        let (a, b) = (Approx(&x), Approx(&y));
        assert!(abs_diff_eq!(a, b, epsilon = 0.5) && !abs_diff_eq!(a, b, epsilon = 0.4));
        assert!(
            relative_eq!(a, b, max_relative = 1e-3) && !relative_eq!(a, b, max_relative = 1e-4)
        );
        let next = tensor(&[1f32.next_up(), 1000.])?;
        assert!(ulps_eq!(a, Approx(&next), epsilon = 0.0, max_ulps = 1));
        assert!(!ulps_eq!(a, b, epsilon = 0.0, max_ulps = 4));
        assert!(a == a && a != b);
        Ok(())
    }

    #[test]
    fn nan_other_shapes_and_other_dtypes_are_never_equal() -> Result<()> {
        let nan = tensor(&[f32::NAN])?;
        assert!(!relative_eq!(Approx(&nan), Approx(&nan), epsilon = f64::INFINITY));
        assert!(Approx(&nan) != Approx(&nan));
        let inf = tensor(&[f32::INFINITY])?;
        assert!(relative_eq!(Approx(&inf), Approx(&inf)));
        assert!(!relative_eq!(Approx(&inf), Approx(&tensor(&[1.])?), max_relative = 1.0));
        let one = tensor(&[1.])?;
        assert!(Approx(&one) != Approx(&one.reshape((1, 1))?));
        assert!(Approx(&one) != Approx(&one.to_dtype(DType::F64)?));
        Ok(())
    }

    #[test]
    fn debug_is_short() -> Result<()> {
        let x = tensor(&[0.5; 20])?;
        assert_eq!(
            format!("{:?}", Approx(&x.reshape((4, 5))?)),
            "f32 [4, 5]: 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, ..."
        );
        assert_eq!(format!("{:?}", Approx(&tensor(&[2.])?)), "f32 [1]: 2");
        Ok(())
    }
}
