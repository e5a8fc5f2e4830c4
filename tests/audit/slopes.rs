//! The slopes of a function by finite differences, element by element: the witness that a backward pass is held against.

use candle_core::{Result, Tensor};

use super::{
    case::{Case, Stream},
    examine::values,
};

/// A case as a function of numbers: the sum of its outputs, each with a weight of its own.
pub(crate) struct Objective<'a> {
    case: &'a Case,
    pub(crate) weights: Tensor,
    /// Its value at the case's inputs.
    here: f64,
}

/// The slope along one coordinate, and whether the function has a corner there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slope {
    Smooth(f64),
    /// The slopes on either side. Anything between them is a gradient (a subgradient).
    Kink(f64, f64),
}

impl<'a> Objective<'a> {
    pub(crate) fn new(case: &'a Case, output: &Tensor) -> Result<Self> {
        // Every output counts, and none as much as another: a plain sum would hide what cancels in it.
        let mut stream = Stream::new(&format!("{}/weights", case.name()));
        let weights: Vec<f64> = (0..output.elem_count())
            .map(|_| {
                let size = 0.5 + stream.unit();
                if stream.unit() < 0.5 { -size } else { size }
            })
            .collect();
        let weights = Tensor::from_vec(weights, output.dims(), output.device())?;
        let weights = weights.to_dtype(output.dtype())?;
        let here = weighted(output, &weights)?;
        Ok(Self { case, weights, here })
    }

    pub(crate) fn of(&self, operands: &[Tensor]) -> Result<Tensor> {
        ((self.case.f)(operands)? * &self.weights)?.sum_all()
    }

    /// The same number from a result whose two dimensions change places.
    pub(crate) fn transposed(&self, operands: &[Tensor], (a, b): (usize, usize)) -> Result<Tensor> {
        let weights = self.weights.transpose(a, b)?.contiguous()?;
        ((self.case.f)(operands)?.transpose(a, b)? * weights)?.sum_all()
    }

    pub(crate) fn slopes(&self, inputs: &[Tensor], operand: usize) -> Result<Vec<Slope>> {
        let at = values(&inputs[operand])?;
        (0..at.len())
            .map(|i| {
                self.along(inputs, |step, operands| {
                    let mut moved = at.clone();
                    moved[i] += step;
                    operands[operand] = like(&inputs[operand], moved)?;
                    Ok(())
                })
            })
            .collect()
    }

    /// The slope when every element of every differentiable operand moves by the same amount.
    ///
    /// Where two elements tie for a maximum each of them sits at a corner, but along this direction they stay tied.
    pub(crate) fn slope_of_all(&self, inputs: &[Tensor]) -> Result<Slope> {
        self.along(inputs, |step, operands| {
            for i in self.case.differentiable() {
                let moved = values(&inputs[i])?.iter().map(|x| x + step).collect();
                operands[i] = like(&inputs[i], moved)?;
            }
            Ok(())
        })
    }

    /// Central differences. A second step, half as long, tells a corner from a curve: the gap between the slopes on
    /// either side halves with the step on a curve, and stays on a corner.
    fn along(
        &self,
        inputs: &[Tensor],
        move_by: impl Fn(f64, &mut [Tensor]) -> Result<()>,
    ) -> Result<Slope> {
        let at = |step: f64| {
            let mut operands = inputs.to_vec();
            move_by(step, &mut operands)?;
            weighted(&(self.case.f)(&operands)?, &self.weights)
        };
        let sides = |step: f64| -> Result<(f64, f64)> {
            Ok(((self.here - at(-step)?) / step, (at(step)? - self.here) / step))
        };
        let step = if self.case.single_precision { 1e-2 } else { 1e-5 };
        let (left, right) = sides(step)?;
        let gap = (right - left).abs();
        if gap > 1e-3 * left.abs().max(right.abs()).max(1.0) {
            let (left, right) = sides(step / 2.0)?;
            if (right - left).abs() > 0.75 * gap {
                return Ok(Slope::Kink(left, right));
            }
        }
        Ok(Slope::Smooth((left + right) / 2.0))
    }
}

fn like(tensor: &Tensor, values: Vec<f64>) -> Result<Tensor> {
    Tensor::from_vec(values, tensor.shape(), tensor.device())?.to_dtype(tensor.dtype())
}

/// In f64 whatever the case computes in: the sum over outputs adds no rounding.
fn weighted(outputs: &Tensor, weights: &Tensor) -> Result<f64> {
    let outputs = values(outputs)?;
    Ok(outputs.iter().zip(values(weights)?).map(|(y, w)| y * w).sum())
}
