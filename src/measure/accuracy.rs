//! The share of right classes.

use candle_core::{Result, Tensor};

use super::values::to_f64_vec;

/// The share of rows whose largest output is at their label; `None` where the targets are not class ids of the output's
/// last dimension.
pub(crate) fn accuracy(output: &Tensor, target: &Tensor) -> Result<Option<f64>> {
    let classes = output.dims().last().copied().unwrap_or(1);
    let pairs = target.elem_count();
    if target.dtype().is_float()
        || classes < 2
        || pairs == 0
        || output.elem_count() != pairs * classes
    {
        return Ok(None);
    }
    let (output, labels) = (to_f64_vec(output)?, to_f64_vec(target)?);
    let right = output.chunks_exact(classes).zip(&labels).filter(|(row, label)| {
        let largest = (0..classes).max_by(|a, b| row[*a].total_cmp(&row[*b]));
        largest.is_some_and(|class| class as f64 == **label)
    });
    Ok(Some(right.count() as f64 / pairs as f64))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn the_largest_output_is_the_class() -> Result<()> {
        let output = Tensor::new(&[[0.1f32, 0.9], [0.8, 0.2], [0.3, 0.7]], &Device::Cpu)?;
        let labels = Tensor::new(&[1u32, 0, 0], &Device::Cpu)?;
        assert_eq!(accuracy(&output, &labels)?, Some(2.0 / 3.0));
        assert_eq!(accuracy(&output, &Tensor::new(&[1f32, 0.0, 0.0], &Device::Cpu)?)?, None);
        Ok(())
    }
}
