//! Outputs that were computed in a narrower format than they have.

use candle_core::{DType, Result, Tensor};

use crate::measure::values::{on_cpu, same_bits, to_f64_vec};

/// Fractions that must fit. One computed in f32 ends in sixteen zero bits, as all of bf16 do, once in 65,536; fractions such
/// as 1/2 do so for other reasons, but not so many.
const FRACTIONS: usize = 16;

/// The narrowest format that holds every value of this output, where it is narrower than the output's own: models cast their
/// logits to f32 at the end, whatever they compute in.
pub(super) fn computed_in(output: &Tensor) -> Result<Option<DType>> {
    let narrower: &[DType] = match output.dtype() {
        DType::F32 => &[DType::BF16, DType::F16],
        DType::F64 => &[DType::BF16, DType::F16, DType::F32],
        _ => return Ok(None),
    };
    let fractions = to_f64_vec(output)?.iter().filter(|value| value.fract() != 0.0).count();
    if fractions < FRACTIONS {
        return Ok(None);
    }
    let output = on_cpu(output)?;
    for format in narrower {
        let through = output.to_dtype(*format)?.to_dtype(output.dtype())?;
        if same_bits(&through, &output)? {
            return Ok(Some(*format));
        }
    }
    Ok(None)
}
