//! Other orders of the input, and whether the function notices.

use candle_core::Tensor;

use super::super::rounding::{Bound, Rounding};
use crate::{
    Failure, Result,
    check::function::Function,
    measure::values::{is_floating, same_bits, to_f64_vec},
};

/// Exchanges at so many distances are tried, evenly spread over longer inputs.
const DISTANCES: usize = 64;

/// An order of the positions that is not their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Reversed,
    Rotated,
    Exchanged(usize, usize),
}

impl Order {
    /// Which position of the input stands at `at`.
    fn source(self, at: usize, len: usize) -> usize {
        match self {
            Self::Reversed => len - 1 - at,
            Self::Rotated => (at + 1) % len,
            Self::Exchanged(i, k) if at == i => k,
            Self::Exchanged(i, k) if at == k => i,
            Self::Exchanged(..) => at,
        }
    }

    pub(super) fn name(self) -> String {
        match self {
            Self::Reversed => "reversed".to_owned(),
            Self::Rotated => "rotated by one".to_owned(),
            Self::Exchanged(i, k) => format!("{i} and {k} exchanged"),
        }
    }
}

/// What one order did to the output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noticed {
    pub(super) order: Order,
    /// More than rounding explains, and more than the order of the output.
    pub(super) noticed: bool,
    /// The largest change beyond the order of the output.
    pub(super) change: f64,
    /// Whether it is the own output in the other order, rather than the own output.
    pub(super) follows: bool,
}

pub(super) struct Trial<'t, 'f> {
    pub(super) f: &'t mut Function<'f>,
    pub(super) x: &'t [Tensor],
    pub(super) own: Tensor,
    pub(super) dim: usize,
    pub(super) len: usize,
    pub(super) bound: Bound,
    pub(super) rounding: Rounding,
    pub(super) per_position: bool,
}

impl Trial<'_, '_> {
    /// Integers are what is left of scores: most changes of those leave them.
    pub(super) fn is_decided(&self) -> bool {
        !is_floating(self.own.dtype())
    }

    /// Whether the output has the positions, and not as many of something else: it shrinks with the input. A function that
    /// takes no shorter input leaves it at the size.
    pub(super) fn find_positions(&mut self) -> Result<()> {
        let Some(own) = self.own.dims().get(self.dim).copied() else { return Ok(()) };
        self.per_position = own == self.len;
        if !self.per_position {
            return Ok(());
        }
        let shorter = self.x.iter().map(|tensor| match tensor.dims().get(self.dim) {
            Some(len) if *len == self.len => tensor.narrow(self.dim, 0, len - 1)?.contiguous(),
            _ => Ok(tensor.clone()),
        });
        let shorter = shorter.collect::<candle_core::Result<Vec<_>>>()?;
        if let Ok(output) = (self.f)(&shorter)
            && output.dims() == self.own.dims()
        {
            self.per_position = false;
        }
        Ok(())
    }

    fn ordered(&self, tensor: &Tensor, order: Order) -> Result<Tensor> {
        if tensor.dims().get(self.dim) != Some(&self.len) {
            return Ok(tensor.clone());
        }
        let sources: Vec<u32> = (0..self.len).map(|at| order.source(at, self.len) as u32).collect();
        let sources = Tensor::new(sources, tensor.device())?;
        Ok(tensor.contiguous()?.index_select(&sources, self.dim)?)
    }

    fn input(&self, order: Order) -> Result<Vec<Tensor>> {
        self.x.iter().map(|tensor| self.ordered(tensor, order)).collect()
    }

    /// Whether the input in this order is another input.
    pub(super) fn changes_input(&self, order: Order) -> Result<bool> {
        for (own, ordered) in self.x.iter().zip(self.input(order)?) {
            if !same_bits(own, &ordered)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// An exchange of two positions at this distance that is noticed, or else the first that was tried: two positions may
    /// be padding, or outside a window.
    pub(super) fn exchanged(&mut self, distance: usize) -> Result<Option<Noticed>> {
        let last = self.len - distance - 1;
        let mut starts = vec![last / 2, 0, last, last / 4];
        starts.dedup();
        let mut first = None;
        for start in starts {
            let order = Order::Exchanged(start, start + distance);
            if !self.changes_input(order)? {
                continue;
            }
            let seen = self.notice(order)?;
            if seen.noticed {
                return Ok(Some(seen));
            }
            first.get_or_insert(seen);
        }
        Ok(first)
    }

    pub(super) fn notice(&mut self, order: Order) -> Result<Noticed> {
        let input = self.input(order)?;
        let output = (self.f)(&input)?;
        if output.dims() != self.own.dims() {
            return Err(Failure::not_run(format!(
                "the function returned dims {:?}, and {:?} for the same positions {}",
                self.own.dims(),
                output.dims(),
                order.name(),
            )));
        }
        let values = to_f64_vec(&output)?;
        let against = |expected: &Tensor| -> Result<(bool, f64)> {
            let expected = to_f64_vec(expected)?;
            let same = self.bound.allows_all(&values, &expected);
            let apart =
                values.iter().zip(&expected).map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() });
            Ok((same, apart.fold(0.0, f64::max)))
        };
        let (same, change) = against(&self.own)?;
        if !self.per_position {
            return Ok(Noticed { order, noticed: !same, change, follows: false });
        }
        let (follows, beyond) = against(&self.ordered(&self.own, order)?)?;
        Ok(Noticed { order, noticed: !same && !follows, change: change.min(beyond), follows })
    }
}

/// `1..=most`, or as many as are tried, evenly spread with both ends.
pub(super) fn spread(most: usize) -> Vec<usize> {
    if most <= DISTANCES {
        return (1..=most).collect();
    }
    (0..DISTANCES).map(|i| 1 + i * (most - 1) / (DISTANCES - 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_a_permutation() {
        for order in [Order::Reversed, Order::Rotated, Order::Exchanged(1, 3)] {
            let mut sources: Vec<usize> = (0..5).map(|at| order.source(at, 5)).collect();
            assert_ne!(sources, [0, 1, 2, 3, 4]);
            sources.sort_unstable();
            assert_eq!(sources, [0, 1, 2, 3, 4]);
        }
        assert_eq!(spread(3), [1, 2, 3]);
        let many = spread(500);
        assert!(many.len() == DISTANCES && many[0] == 1 && many[DISTANCES - 1] == 500);
    }
}
