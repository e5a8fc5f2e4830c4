//! Floats of 16 and 8 bits as f32.

use half::f16;

/// Without branches, so that it becomes vector code: rescale the exponent by a product, then put infinities back.
#[inline(always)]
pub(super) fn f16_to_f32(value: f16) -> f32 {
    let bits = u32::from(value.to_bits());
    let magnitude = bits & 0x7fff;
    let rescaled = f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000);
    let special = if magnitude >= 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(rescaled.to_bits() | special | ((bits & 0x8000) << 16))
}

/// candle's f8e4m3 by its byte: one sign, four exponent and three mantissa bits, no infinity, NaN at all ones.
#[derive(Clone, Copy, Debug, Default)]
#[repr(transparent)]
pub(crate) struct F8(pub(crate) u8);

impl F8 {
    pub(super) fn to_f32(self) -> f32 {
        let exponent = i32::from(self.0 >> 3 & 0xf);
        let mantissa = f32::from(self.0 & 7);
        let magnitude = match (exponent, self.0 & 7) {
            (15, 7) => f32::NAN,
            (0, _) => mantissa * 2f32.powi(-9),
            _ => (8.0 + mantissa) * 2f32.powi(exponent - 10),
        };
        if self.0 & 0x80 == 0 { magnitude } else { -magnitude }
    }

    pub(super) fn is_nan(self) -> bool {
        self.0 & 0x7f == 0x7f
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;

    #[test]
    fn every_f8_survives_a_trip_through_candle() -> candle_core::Result<()> {
        let all: Vec<f32> =
            (0..=u8::MAX).map(|bits| F8(bits).to_f32()).filter(|value| !value.is_nan()).collect();
        assert_eq!(all.len(), 254);
        let there = Tensor::new(&all[..], &Device::Cpu)?.to_dtype(DType::F8E4M3)?;
        assert_eq!(there.to_dtype(DType::F32)?.to_vec1::<f32>()?, all);
        Ok(())
    }
}
