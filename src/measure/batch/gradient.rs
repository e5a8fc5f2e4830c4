//! Whether the gradient of a row of the output reaches other rows of the input.

use candle_core::{DType, Tensor, Var};

use super::Function;
use crate::{
    Failure, Result, Seed,
    measure::{backward::backward, perturb::code_words, values::to_f64_vec},
};

/// What the backward pass says about the rows.
#[derive(Debug)]
pub(crate) enum Flow {
    /// Every row of the output sends its gradient to the same row of the input, and to no other.
    Apart {
        /// Backward passes.
        passes: usize,
        /// Rows of the input that get a gradient.
        reached: usize,
    },
    /// No gradient arrives at the input, or one of zeros only.
    None,
    /// NaN or infinities: nothing can be told.
    NotFinite,
    /// The backward pass returned an error.
    Refused(Failure),
    Mixed(Vec<GradientLeak>),
}

/// A row of the input that gets a gradient from another row of the output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct GradientLeak {
    pub(crate) output: usize,
    pub(crate) input: usize,
    /// The largest entry of that gradient.
    pub(crate) size: f64,
    /// The largest entry of the gradient that the row gets from its own output.
    pub(crate) own: f64,
}

/// How many rows that receive a gradient of others are traced to the row it came from.
const NAMED: usize = 3;

/// A result of the function with the graph behind it, down to the input.
pub(crate) struct Backward {
    inputs: Vec<Var>,
    output: Tensor,
    /// What the output is multiplied with before it is summed. A plain sum would cancel behind a softmax or a norm.
    projection: Tensor,
    rows: usize,
    passes: usize,
}

/// The gradients of the float inputs, row after row; `None` where nothing arrived.
struct Arrived(Vec<Option<Vec<f64>>>);

impl Backward {
    /// `None` where the input or the output has no format with a backward pass.
    pub(crate) fn of(f: &mut Function<'_>, base: &[Tensor], seed: Seed) -> Result<Option<Self>> {
        let differentiable =
            |t: &Tensor| matches!(t.dtype(), DType::F64 | DType::F32 | DType::F16 | DType::BF16);
        let (mut inputs, mut members) = (Vec::new(), Vec::new());
        for member in base {
            if differentiable(member) {
                let var = Var::from_tensor(member)?;
                members.push(var.as_tensor().clone());
                inputs.push(var);
            } else {
                members.push(member.clone());
            }
        }
        if inputs.is_empty() {
            return Ok(None);
        }
        let output = f(&members)?;
        if !differentiable(&output) {
            return Ok(None);
        }
        let shape = output.shape();
        let projection =
            seed.uniform("projection", -1.0..1.0, shape, output.dtype(), output.device())?;
        let rows = output.dim(0)?;
        Ok(Some(Self { inputs, output, projection, rows, passes: 0 }))
    }

    /// The result whose graph is walked.
    pub(crate) fn output(&self) -> &Tensor {
        &self.output
    }

    /// Whether any row of the output sends its gradient to another row of the input. All ordered pairs.
    pub(crate) fn flow(&mut self) -> Result<Flow> {
        let scaled = match self.largest_exponent() {
            Some(largest) => self.scaled(largest),
            None => Ok(Scaled::Unclear),
        };
        match scaled {
            Err(failure) => Ok(Flow::Refused(failure)),
            Ok(Scaled::Flow(flow)) => Ok(flow),
            Ok(Scaled::Unclear) => self.masked(),
        }
    }

    /// How far exponents may go, so that neither what is multiplied with them nor what a backward pass makes of it
    /// leaves the format: a quarter of its range. `None` for a format with too few.
    fn largest_exponent(&self) -> Option<i32> {
        let formats = self.inputs.iter().map(|var| var.dtype()).chain([self.output.dtype()]);
        formats
            .map(|dtype| match dtype {
                DType::F64 => Some(128),
                DType::F32 | DType::BF16 => Some(32),
                _ => None,
            })
            .min()
            .flatten()
    }

    /// Two backward passes with powers of two as the rows' weights. A backward pass is linear in them, and a power of two
    /// scales a float exactly: without a term of another row, the gradients of a row are equal bit for bit after
    /// dividing by its own two weights. No two rows have the same ratio of weights and the same sign, so a term of
    /// another row scales otherwise. Where there are more rows than such pairs, they are numbered with several digits,
    /// and each digit has two passes of its own.
    fn scaled(&mut self, largest: i32) -> Result<Scaled> {
        let base = 2 * (4 * largest as usize + 1);
        let mut reached = vec![false; self.rows];
        let mut place = 1;
        while place < self.rows {
            let weights: Vec<(f64, f64)> =
                (0..self.rows).map(|row| pair_of_weights(row / place % base)).collect();
            let column = |of: fn(&(f64, f64)) -> f64| weights.iter().map(of).collect::<Vec<_>>();
            let first = self.pass(&column(|w| w.0))?;
            let second = self.pass(&column(|w| w.1))?;
            if !first.is_finite() || !second.is_finite() {
                // Weights may have driven it there: the masks have none.
                return Ok(Scaled::Unclear);
            }
            for (a, b) in first.0.iter().zip(&second.0) {
                let (Some(a), Some(b)) = (a, b) else { continue };
                let width = a.len() / self.rows;
                for (row, (a, b)) in a.chunks(width).zip(b.chunks(width)).enumerate() {
                    let (wa, wb) = weights[row];
                    if a.iter().zip(b).any(|(a, b)| a / wa != b / wb) {
                        return Ok(Scaled::Unclear);
                    }
                    reached[row] |= a.iter().any(|value| *value != 0.0);
                }
            }
            place *= base;
        }
        Ok(Scaled::Flow(self.apart(&reached)))
    }

    fn apart(&self, reached: &[bool]) -> Flow {
        match reached.iter().filter(|reached| **reached).count() {
            0 => Flow::None,
            reached => Flow::Apart { passes: self.passes, reached },
        }
    }

    /// Backward passes from a part of the rows, by the bits of a code: the other rows' gradients must be exactly zero.
    /// Slower, and beyond the reach of rounding: it decides where scaled weights saw a difference, and for formats with
    /// too few exponents.
    fn masked(&mut self) -> Result<Flow> {
        let (bits, words) = code_words(self.rows);
        let mut reached = vec![false; self.rows];
        let mut disturbed: Vec<Option<Vec<usize>>> = vec![None; self.rows];
        for bit in 0..bits {
            let sent: Vec<usize> =
                (0..self.rows).filter(|row| words[*row] >> bit & 1 == 1).collect();
            let arrived = match self.sent_by(&sent) {
                Ok(arrived) => arrived,
                Err(failure) => return Ok(Flow::Refused(failure)),
            };
            if !arrived.is_finite() {
                return Ok(Flow::NotFinite);
            }
            for row in 0..self.rows {
                let any = arrived.largest(row, self.rows) > 0.0;
                match words[row] >> bit & 1 == 1 {
                    true => reached[row] |= any,
                    false if any => {
                        disturbed[row].get_or_insert_with(|| sent.clone());
                    }
                    false => {}
                }
            }
        }
        let mut leaks = Vec::new();
        for (input, sent) in disturbed.iter().enumerate() {
            if let (Some(sent), true) = (sent, leaks.len() < NAMED) {
                leaks.push(self.traced(input, sent)?);
            }
        }
        Ok(match leaks.is_empty() {
            true => self.apart(&reached),
            false => Flow::Mixed(leaks),
        })
    }

    /// Halves the rows whose gradient reaches `input` until one is left.
    fn traced(&mut self, input: usize, sent: &[usize]) -> Result<GradientLeak> {
        let mut sent = sent.to_vec();
        while sent.len() > 1 {
            let (left, right) = sent.split_at(sent.len() / 2);
            // A gradient is linear: if it is not zero from both, it is not zero from one of them.
            let reaches = self.sent_by(left)?.largest(input, self.rows) > 0.0;
            sent = if reaches { left.to_vec() } else { right.to_vec() };
        }
        let size = self.sent_by(&sent)?.largest(input, self.rows);
        let own = self.sent_by(&[input])?.largest(input, self.rows);
        Ok(GradientLeak { output: sent[0], input, size, own })
    }

    fn sent_by(&mut self, sent: &[usize]) -> Result<Arrived> {
        let weights: Vec<f64> =
            (0..self.rows).map(|row| if sent.contains(&row) { 1.0 } else { 0.0 }).collect();
        self.pass(&weights)
    }

    fn pass(&mut self, weights: &[f64]) -> Result<Arrived> {
        let mut shape = vec![1; self.output.rank()];
        shape[0] = self.rows;
        let weights = Tensor::new(weights, &candle_core::Device::Cpu)?
            .reshape(shape)?
            .to_dtype(self.output.dtype())?
            .to_device(self.output.device())?;
        let weighted = (&self.output * self.projection.broadcast_mul(&weights)?)?;
        let grads = backward(&weighted.sum_all()?)?;
        self.passes += 1;
        let of = |var: &Var| grads.get(var.as_tensor()).map(to_f64_vec).transpose();
        Ok(Arrived(self.inputs.iter().map(of).collect::<candle_core::Result<_>>()?))
    }
}

enum Scaled {
    Flow(Flow),
    /// Some row scaled otherwise, by another row's gradient or because a number left its format.
    Unclear,
}

impl Arrived {
    fn is_finite(&self) -> bool {
        self.0.iter().flatten().flatten().all(|value| value.is_finite())
    }

    /// The largest entry at a row, over all inputs.
    fn largest(&self, row: usize, rows: usize) -> f64 {
        let of = |values: &Vec<f64>| {
            let width = values.len() / rows;
            values[row * width..(row + 1) * width].iter().map(|v| v.abs()).fold(0.0, f64::max)
        };
        self.0.iter().flatten().map(of).fold(0.0, f64::max)
    }
}

/// Weights `2^a` and `+-2^b` of which `b - a` and the sign are the digit's own. Small digits have small exponents.
///
/// For two digits `a` differs in one direction and `b` in the other, so one of the passes makes a term of the other row
/// at least as large as it is.
fn pair_of_weights(digit: usize) -> (f64, f64) {
    let sign = if digit.is_multiple_of(2) { 1.0 } else { -1.0 };
    // 0, 1, -1, 2, -2, ..
    let step = (digit / 2) as i32;
    let apart = if step % 2 == 0 { -step / 2 } else { (step + 1) / 2 };
    let a = -apart.div_euclid(2);
    (2f64.powi(a), sign * 2f64.powi(apart + a))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn backward_of(
        x: &Tensor,
        mut f: impl FnMut(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Option<Backward>> {
        let mut f = |members: &[Tensor]| Ok(f(&members[0])?);
        Backward::of(&mut f, &[x.contiguous()?], Seed::new(1))
    }

    fn flow(x: &Tensor, f: impl FnMut(&Tensor) -> candle_core::Result<Tensor>) -> Result<Flow> {
        backward_of(x, f)?.expect("floats").flow()
    }

    #[test]
    fn no_two_digits_have_the_same_weights_and_none_leaves_its_range() {
        let base = 2 * (4 * 32 + 1);
        let mut ratios: Vec<f64> = (0..base)
            .map(|digit| {
                let (a, b) = pair_of_weights(digit);
                assert!(a.log2().abs() <= 32.0 && b.abs().log2().abs() <= 32.0, "{digit}");
                b / a
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        ratios.dedup();
        assert_eq!(ratios.len(), base);
    }

    #[test]
    fn rows_apart_take_two_passes_and_more_rows_than_weights_take_four() -> Result<()> {
        for (rows, passes, dtype) in
            [(2, 2, DType::F32), (258, 2, DType::F32), (259, 4, DType::F32), (600, 2, DType::F64)]
        {
            let x = Seed::new(1).normal("x", (rows, 3), dtype, &Device::Cpu)?;
            let flow = flow(&x, |x| x.tanh()?.sqr())?;
            assert!(
                matches!(flow, Flow::Apart { passes: p, reached } if p == passes && reached == rows),
                "{rows}: {flow:?}"
            );
        }
        let x = Seed::new(1).normal("x", (8, 3), DType::F16, &Device::Cpu)?;
        assert!(matches!(flow(&x, |x| x.sqr())?, Flow::Apart { passes: 5, reached: 8 }));
        Ok(())
    }

    #[test]
    fn one_gradient_to_another_row_is_traced_in_either_order() -> Result<()> {
        let n = 300;
        let x = Seed::new(1).normal("x", (n, 3), DType::F32, &Device::Cpu)?;
        for (to, from) in [(0, 299), (299, 0), (17, 275), (41, 40)] {
            let rows: Vec<f32> = (0..n).map(|r| if r == to { 1e-6 } else { 0.0 }).collect();
            let there = Tensor::from_vec(rows, (n, 1), &Device::Cpu)?;
            let flow =
                flow(&x, |x| x.tanh()? + there.broadcast_mul(&x.get(from)?.unsqueeze(0)?)?)?;
            let Flow::Mixed(leaks) = flow else { panic!("{flow:?}") };
            assert_eq!((leaks.len(), leaks[0].output, leaks[0].input), (1, to, from));
            assert!(leaks[0].size < 1e-5 * leaks[0].own);
        }
        Ok(())
    }

    #[test]
    fn what_says_nothing_says_so() -> Result<()> {
        let x = Seed::new(1).normal("x", (4, 3), DType::F32, &Device::Cpu)?;
        assert!(matches!(flow(&x, |x| Ok(x.detach()))?, Flow::None));
        assert!(backward_of(&x, |x| x.argmax(1))?.is_none());
        let ids = x.to_dtype(DType::U32)?;
        assert!(backward_of(&ids, |x| x.to_dtype(DType::F32))?.is_none());
        let zeros = x.zeros_like()?;
        assert!(matches!(flow(&zeros, |x| x.sqrt())?, Flow::NotFinite));
        let up = Seed::new(1).normal("x", (2, 1, 4, 4), DType::F32, &Device::Cpu)?;
        assert!(matches!(flow(&up, |x| x.max_pool2d_with_stride(3, 1))?, Flow::Refused(_)));
        Ok(())
    }

    #[test]
    fn weights_that_drive_a_half_inside_out_of_its_range_raise_no_alarm() -> Result<()> {
        let x = Seed::new(1).normal("x", (200, 3), DType::F32, &Device::Cpu)?;
        let flow = flow(&x, |x| x.to_dtype(DType::F16)?.tanh()?.to_dtype(DType::F32))?;
        assert!(matches!(flow, Flow::Apart { reached: 200, .. }), "{flow:?}");
        Ok(())
    }
}
