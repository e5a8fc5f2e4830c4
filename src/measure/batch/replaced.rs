//! Which rows of an output notice that rows of the input were replaced.

use candle_core::{DType, Tensor, Var};

use super::Function;
use crate::{
    Failure, Result,
    measure::perturb::{Mix, cells_that_differ, code_words_and_halves, largest_difference},
};

/// A function beside its result on a batch, of which rows are replaced by other data.
pub(crate) struct Probed<'p, 'f> {
    f: &'p mut Function<'f>,
    /// The batch with two draws of other data.
    draws: [Mix; 2],
    own: Tensor,
    rows: usize,
}

/// Rows that were replaced together, by one of the draws.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    draw: usize,
    replaced: Vec<bool>,
}

/// What all probes together saw.
#[derive(Debug)]
pub(crate) struct Noticed {
    /// Whether the output of a row changed when the row itself was replaced.
    pub(crate) moved: Vec<bool>,
    /// The first probe that changed the output of a row that it left alone.
    pub(crate) disturbed: Vec<Option<Probe>>,
    /// The largest of these changes, as a share of the size of the row's output.
    pub(crate) share: f64,
}

impl Noticed {
    /// The rows whose output depends on others.
    pub(crate) fn affected(&self) -> Vec<usize> {
        (0..self.disturbed.len()).filter(|row| self.disturbed[*row].is_some()).collect()
    }
}

/// What replacing a single row does.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) source: usize,
    pub(crate) output: Tensor,
    /// The rows of the output that changed, the source's own among them.
    pub(crate) noticed: Vec<bool>,
}

impl<'p, 'f> Probed<'p, 'f> {
    /// `own` is the function's result on the batch itself, computed on the base of a [`Mix`].
    pub(crate) fn new(f: &'p mut Function<'f>, draws: [Mix; 2], own: Tensor) -> Result<Self> {
        let rows = own.dim(0)?;
        Ok(Self { f, draws, own: without_signed_zeros(&own)?, rows })
    }

    pub(crate) fn own(&self) -> &Tensor {
        &self.own
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The function on an input of the caller's making.
    pub(crate) fn call(&mut self, input: &[Tensor]) -> Result<Tensor> {
        let output = (self.f)(input)?;
        Ok(without_signed_zeros(&output)?)
    }

    /// The function with the graph behind it.
    pub(crate) fn graph(&mut self, input: &[Tensor]) -> Result<Tensor> {
        (self.f)(input)
    }

    /// The function once more on the batch itself.
    pub(crate) fn again(&mut self) -> Result<Tensor> {
        let base = self.draws[0].base()?;
        self.call(&base)
    }

    /// The function once more on the batch itself, with the graph behind it, down to the input where that is of floats.
    pub(crate) fn with_graph(&mut self) -> Result<Tensor> {
        let tracked = |member: &Tensor| match member.dtype().is_float() {
            true => Ok(Var::from_tensor(member)?.into_inner()),
            false => Ok(member.clone()),
        };
        let base = self.base()?;
        let base = base.iter().map(tracked).collect::<candle_core::Result<Vec<_>>>()?;
        (self.f)(&base)
    }

    /// The batch itself, contiguous.
    pub(crate) fn base(&self) -> Result<Vec<Tensor>> {
        Ok(self.draws[0].base()?)
    }

    fn with(&mut self, draw: usize, replaced: impl Fn(usize) -> bool) -> Result<Tensor> {
        let input = self.draws[draw].replacing(replaced)?;
        let output = self.call(&input).map_err(|failure| {
            failure.fact("called with", "rows of the batch replaced by other values of its range")
        })?;
        match output.dims() == self.own.dims() && output.dtype() == self.own.dtype() {
            true => Ok(output),
            false => Err(Failure::not_run(format!(
                "the function returned {} of dims {:?} on the batch, and {} of dims {:?} on one of the same shape with \
                 other values in some rows",
                self.own.dtype().as_str(),
                self.own.dims(),
                output.dtype().as_str(),
                output.dims(),
            ))),
        }
    }

    /// Sees every ordered pair of rows: one replaced and the other left alone, at least once.
    ///
    /// One call for every bit of a code (Sperner, 1928). The last two are of the second draw, of a half of the rows and then
    /// the other half: what one draw leaves as it was (an argmax, a shut gate) another may move.
    pub(crate) fn all_pairs(&mut self) -> Result<Noticed> {
        let mut noticed =
            Noticed { moved: vec![false; self.rows], disturbed: vec![None; self.rows], share: 0.0 };
        let (bits, words) = code_words_and_halves(self.rows);
        for bit in 0..bits + 2 {
            let replaced = words.iter().map(|word| word >> bit & 1 == 1).collect();
            self.look(&mut noticed, Probe { draw: usize::from(bit >= bits), replaced })?;
        }
        Ok(noticed)
    }

    fn look(&mut self, noticed: &mut Noticed, probe: Probe) -> Result<()> {
        let output = self.with(probe.draw, |row| probe.replaced[row])?;
        let differs = cells_that_differ(&self.own, &output, 0)?;
        for row in (0..self.rows).filter(|row| differs[*row]) {
            match probe.replaced[row] {
                true => noticed.moved[row] = true,
                false => {
                    let (difference, size) = largest_difference(&self.own, &output, 0, row)?;
                    let share = if size > 0.0 { difference / size } else { f64::INFINITY };
                    // NaN is no rounding.
                    noticed.share =
                        noticed.share.max(if share.is_nan() { f64::INFINITY } else { share });
                    noticed.disturbed[row].get_or_insert_with(|| probe.clone());
                }
            }
        }
        Ok(())
    }

    /// The rows among those of a probe that change the output of `row`: one, or as few as do it only together.
    ///
    /// Halves them again and again.
    pub(crate) fn sources(&mut self, row: usize, probe: &Probe) -> Result<(Vec<usize>, Column)> {
        let replaced = (0..self.rows).filter(|at| probe.replaced[*at]);
        let mut sources: Vec<usize> = replaced.collect();
        let mut seen = self.column(probe.draw, &sources)?;
        'halving: while sources.len() > 1 {
            let right = sources[sources.len() / 2..].to_vec();
            let left = sources[..sources.len() / 2].to_vec();
            for half in [left, right] {
                let column = self.column(probe.draw, &half)?;
                if column.noticed[row] {
                    (sources, seen) = (half, column);
                    continue 'halving;
                }
            }
            break;
        }
        Ok((sources, seen))
    }

    /// What replacing one row does.
    pub(crate) fn row(&mut self, source: usize) -> Result<Column> {
        self.column(0, &[source])
    }

    fn column(&mut self, draw: usize, sources: &[usize]) -> Result<Column> {
        let output = self.with(draw, |row| sources.contains(&row))?;
        let noticed = cells_that_differ(&self.own, &output, 0)?;
        Ok(Column { source: sources[0], output, noticed })
    }

    /// How far the output of `row` is from its own in a column, and how large its own is.
    pub(crate) fn change(&self, column: &Column, row: usize) -> Result<(f64, f64)> {
        Ok(largest_difference(&self.own, &column.output, 0, row)?)
    }
}

/// The output with 0 for -0, cut from its graph. The sign of a zero tells of a product with zero, which is how masks work.
fn without_signed_zeros(output: &Tensor) -> candle_core::Result<Tensor> {
    match output.dtype() {
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 => output.detach() + 0.0,
        _ => Ok(output.detach()),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::{Seed, measure::perturb::alternative};

    fn probed<'p, 'f>(f: &'p mut Function<'f>, x: &Tensor) -> Result<Probed<'p, 'f>> {
        let mix = |seed| -> Result<Mix> {
            Ok(Mix::new(std::slice::from_ref(x), &[alternative(x, Seed::new(seed), "x")?], 0)?)
        };
        let own = f(std::slice::from_ref(x))?;
        Probed::new(f, [mix(1)?, mix(2)?], own)
    }

    #[test]
    fn a_single_pair_of_rows_is_found_in_either_order() -> Result<()> {
        let n = 256;
        let x = Seed::new(1).normal("x", (n, 4), DType::F32, &Device::Cpu)?;
        for (to, from) in [(3, 200), (200, 3), (254, 255), (255, 254), (0, 1), (127, 128)] {
            let calls = std::cell::Cell::new(0);
            let mut leak = |x: &[Tensor]| -> Result<Tensor> {
                calls.set(calls.get() + 1);
                let rows: Vec<f32> = (0..n).map(|r| if r == to { 1e-6 } else { 0.0 }).collect();
                let there = Tensor::from_vec(rows, (n, 1), &Device::Cpu)?;
                Ok((&x[0] + there.broadcast_mul(&x[0].get(from)?.unsqueeze(0)?)?)?)
            };
            let mut probed = probed(&mut leak, &x)?;
            let noticed = probed.all_pairs()?;
            assert_eq!(noticed.affected(), [to]);
            assert_eq!(calls.get(), 1 + 10 + 2);
            let probe = noticed.disturbed[to].as_ref().unwrap();
            let (sources, column) = probed.sources(to, probe)?;
            assert_eq!(sources, [from]);
            let (difference, size) = probed.change(&column, to)?;
            assert!(difference > 0.0 && difference < 1e-4 * size, "{difference} of {size}");
        }
        Ok(())
    }

    #[test]
    fn rows_that_count_only_together_are_named_together() -> Result<()> {
        let x = Tensor::new(&[1f32, 2.0, 4.0, 8.0], &Device::Cpu)?;
        // Both of the rows 1 and 2 have to change for row 0 to notice.
        let mut both = |x: &[Tensor]| -> Result<Tensor> {
            let v = x[0].to_vec1::<f32>()?;
            let extra = if v[1] != 2.0 && v[2] != 4.0 { 1.0 } else { 0.0 };
            Ok(Tensor::new(&[v[0] + extra, v[1], v[2], v[3]], &Device::Cpu)?)
        };
        let mut probed = probed(&mut both, &x)?;
        let probe = Probe { draw: 0, replaced: vec![false, true, true, true] };
        assert_eq!(probed.sources(0, &probe)?.0, [1, 2, 3]);
        Ok(())
    }
}
