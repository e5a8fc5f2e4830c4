//! What a difference looks like as a whole. Every pattern reported here has been verified on every element.

use std::ops::ControlFlow;

use candle_core::{Result, Tensor};

use super::{Bounds, compare, visit};
use crate::measure::values::{multi_index, to_f64_vec};

/// Matching rows is quadratic in their number; beyond this many nobody waits for it.
const ROWS: usize = 1024;
/// Matching rows copies both tensors; beyond this many elements it is not tried.
const ELEMENTS_COPIED: usize = 1 << 20;
/// A line is guessed from so many elements and then verified on all, so that a wrong guess costs next to nothing.
const ELEMENTS_FOR_A_GUESS: usize = 1 << 14;
/// Fewer elements fit a line too easily.
const ELEMENTS_FOR_A_LINE: usize = 4;

/// One sentence would say it: how `actual` comes from `expected`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Pattern {
    /// Every value is this one.
    Constant(f64),
    Negated,
    Scaled(f64),
    Shifted(f64),
    /// These two dimensions are swapped.
    Transposed(usize, usize),
    /// Along dimension 0: the row of `expected` that each row of `actual` is.
    Permuted(Vec<usize>),
}

/// Where the mismatches lie, if they share an index of a dimension longer than one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Confined {
    pub(crate) dim: usize,
    pub(crate) index: usize,
}

/// The first pattern that explains the whole difference within the bounds.
pub(crate) fn find(actual: &Tensor, expected: &Tensor, bounds: Bounds) -> Result<Option<Pattern>> {
    if let Some(pattern) = line(actual, expected, bounds)? {
        return Ok(Some(pattern));
    }
    if let Some(pattern) = transposed(actual, expected, bounds)? {
        return Ok(Some(pattern));
    }
    permuted(actual, expected, bounds)
}

/// Two swapped dimensions: also where the shapes differ by just that.
pub(crate) fn transposed(
    actual: &Tensor,
    expected: &Tensor,
    bounds: Bounds,
) -> Result<Option<Pattern>> {
    if actual.dtype() != expected.dtype() || actual.rank() != expected.rank() {
        return Ok(None);
    }
    let rank = actual.rank();
    // The last two dimensions first: that is where weights and attention heads are swapped.
    for second in (1..rank).rev() {
        for first in (0..second).rev() {
            let turned = expected.detach().transpose(first, second)?;
            let trivial = actual.dim(first)? == 1 || actual.dim(second)? == 1;
            if trivial || turned.dims() != actual.dims() {
                continue;
            }
            if matches(actual, &turned, bounds)? {
                return Ok(Some(Pattern::Transposed(first, second)));
            }
        }
    }
    Ok(None)
}

/// Stops at the first mismatch, unlike [`compare`].
fn matches(actual: &Tensor, expected: &Tensor, bounds: Bounds) -> Result<bool> {
    visit(actual, expected, bounds, &mut |pair| keep_on(pair.within))
}

fn keep_on(yes: bool) -> ControlFlow<()> {
    if yes { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

fn line(actual: &Tensor, expected: &Tensor, bounds: Bounds) -> Result<Option<Pattern>> {
    let (mut xy, mut yy, mut difference, mut count) = (0.0, 0.0, 0.0, 0);
    let mut least = (f64::INFINITY, f64::INFINITY);
    let mut greatest = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    visit(actual, expected, bounds, &mut |pair| {
        let (x, y) = (pair.actual, pair.expected);
        xy += x * y;
        yy += y * y;
        difference += x - y;
        count += 1;
        least = (least.0.min(x), least.1.min(y));
        greatest = (greatest.0.max(x), greatest.1.max(y));
        keep_on(count < ELEMENTS_FOR_A_GUESS)
    })?;
    // Values that are not finite leave their mark on the sums; a constant fits every line.
    let finite = (xy + yy + difference).is_finite();
    if !finite || count < ELEMENTS_FOR_A_LINE || least.1 == greatest.1 {
        return Ok(None);
    }
    if least.0 == greatest.0 {
        let value = least.0;
        let all = visit(actual, expected, bounds, &mut |pair| keep_on(pair.actual == value))?;
        return Ok(all.then_some(Pattern::Constant(value)));
    }
    // A bound on differences grows with the numbers; one on ratios does not.
    let fits = |factor: f64, offset: f64| {
        let stretch = factor.abs().max(1.0);
        let Bounds { relative, absolute } = bounds;
        visit(actual, expected, bounds, &mut |pair| {
            let wanted = factor * pair.expected + offset;
            let allowed = absolute * stretch + relative * (wanted.abs() + offset.abs());
            keep_on((pair.actual - wanted).abs() <= allowed)
        })
    };
    if fits(-1.0, 0.0)? {
        return Ok(Some(Pattern::Negated));
    }
    let factor = rounded(xy / yy);
    let spread = greatest.1.abs().max(least.1.abs());
    // A factor near zero fits whatever is small; one near 1 explains nothing.
    let telling = factor != 1.0 && factor.abs() * spread > 100.0 * bounds.absolute;
    if telling && factor.is_finite() && fits(factor, 0.0)? {
        return Ok(Some(Pattern::Scaled(factor)));
    }
    let offset = rounded(difference / count as f64);
    let bent = greatest.1 - least.1 > 100.0 * bounds.absolute;
    if offset != 0.0 && bent && fits(1.0, offset)? {
        return Ok(Some(Pattern::Shifted(offset)));
    }
    Ok(None)
}

/// A whole number, or one over a whole number, if rounding is all that separates it from that.
fn rounded(value: f64) -> f64 {
    let near = |candidate: f64| (value - candidate).abs() <= 1e-3 * candidate.abs();
    let whole = value.round();
    if whole != 0.0 && near(whole) {
        return whole;
    }
    let part = value.recip().round();
    if part != 0.0 && near(part.recip()) {
        return part.recip();
    }
    value
}

fn permuted(actual: &Tensor, expected: &Tensor, bounds: Bounds) -> Result<Option<Pattern>> {
    let rows = actual.dims().first().copied().unwrap_or(1);
    if !(2..=ROWS).contains(&rows) || actual.elem_count() > ELEMENTS_COPIED {
        return Ok(None);
    }
    let (xs, ys) = (to_f64_vec(actual)?, to_f64_vec(expected)?);
    let width = xs.len() / rows;
    let mut free = vec![true; rows];
    let mut order = Vec::with_capacity(rows);
    for x in xs.chunks(width) {
        let found = ys.chunks(width).enumerate().position(|(row, y)| {
            free[row]
                && x.iter().zip(y).all(|(x, y)| {
                    x == y || (x - y).abs() <= bounds.absolute + bounds.relative * y.abs()
                })
        });
        let Some(row) = found else {
            return Ok(None);
        };
        free[row] = false;
        order.push(row);
    }
    Ok(Some(Pattern::Permuted(order)))
}

/// The first dimension of which all mismatches share one index.
pub(crate) fn confined(
    actual: &Tensor,
    expected: &Tensor,
    bounds: Bounds,
) -> Result<Option<Confined>> {
    let dims = actual.dims();
    let mut shared: Option<Vec<Option<usize>>> = None;
    visit(actual, expected, bounds, &mut |pair| {
        if pair.within {
            return ControlFlow::Continue(());
        }
        let index = multi_index(pair.position(), dims);
        match &mut shared {
            None => shared = Some(index.into_iter().map(Some).collect()),
            Some(shared) => {
                for (known, at) in shared.iter_mut().zip(index) {
                    if *known != Some(at) {
                        *known = None;
                    }
                }
                return keep_on(shared.iter().any(Option::is_some));
            }
        }
        ControlFlow::Continue(())
    })?;
    let dim = |shared: Vec<Option<usize>>| {
        let mut found = shared.into_iter().enumerate();
        found.find_map(|(dim, index)| {
            Some(Confined { dim, index: index? }).filter(|_| dims[dim] > 1)
        })
    };
    Ok(shared.and_then(dim))
}

/// Whether `actual` equals `expected` once both are brought to one shape by dropping dimensions of size one.
pub(crate) fn squeezed(actual: &Tensor, expected: &Tensor, bounds: Bounds) -> Result<bool> {
    let longer = |t: &Tensor| t.dims().iter().copied().filter(|d| *d != 1).collect::<Vec<_>>();
    if actual.dtype() != expected.dtype() || longer(actual) != longer(expected) {
        return Ok(false);
    }
    let expected = expected.detach().reshape(actual.shape())?;
    Ok(compare(actual, &expected, bounds)?.mismatches.is_none())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    const BOUNDS: Bounds = Bounds { relative: 1.3e-6, absolute: 1e-5 };

    fn base() -> Result<Tensor> {
        Tensor::new(&[[1f32, -2., 3.5], [0.25, 5., -6.], [7., 0.5, 9.]], &Device::Cpu)
    }

    fn pattern(actual: Tensor) -> Result<Option<Pattern>> {
        find(&actual, &base()?, BOUNDS)
    }

    #[test]
    fn each_pattern_is_recognised() -> Result<()> {
        let x = base()?;
        assert_eq!(pattern(x.neg()?)?, Some(Pattern::Negated));
        assert_eq!(pattern((&x * 0.125)?)?, Some(Pattern::Scaled(0.125)));
        assert_eq!(pattern((&x + 1.0)?)?, Some(Pattern::Shifted(1.0)));
        assert_eq!(pattern(x.t()?)?, Some(Pattern::Transposed(0, 1)));
        assert_eq!(pattern(x.zeros_like()?)?, Some(Pattern::Constant(0.0)));
        let order = Tensor::new(&[2u32, 0, 1], &Device::Cpu)?;
        let permuted = x.index_select(&order, 0)?;
        assert_eq!(pattern(permuted)?, Some(Pattern::Permuted(vec![2, 0, 1])));
        Ok(())
    }

    #[test]
    fn what_fits_no_pattern_is_given_none() -> Result<()> {
        assert_eq!(pattern(base()?.sqr()?)?, None);
        let mut values = to_f64_vec(&(base()? * 2.0)?)?;
        values[4] += 0.1;
        let almost =
            Tensor::from_vec(values, (3, 3), &Device::Cpu)?.to_dtype(candle_core::DType::F32)?;
        assert_eq!(pattern(almost)?, None);
        Ok(())
    }

    #[test]
    fn mismatches_in_one_column_are_confined_to_it() -> Result<()> {
        let x = base()?;
        let bump = Tensor::new(&[0f32, 0., 1.], &Device::Cpu)?;
        let actual = x.broadcast_add(&bump)?;
        assert_eq!(confined(&actual, &x, BOUNDS)?, Some(Confined { dim: 1, index: 2 }));
        assert_eq!(confined(&(&x + 1.0)?, &x, BOUNDS)?, None);
        Ok(())
    }
}
