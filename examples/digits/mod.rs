//! Real handwritten digits; `examples/data/README.md` says whose.

use std::{collections::HashMap, path::Path};

use candling::{
    Batch,
    candle_core::{self, DType, Device, Tensor},
};

/// Images f32 `[n, 1, 8, 8]` in [0, 1] and labels u32 `[n]`.
pub(crate) struct Digits {
    pub(crate) images: Tensor,
    pub(crate) labels: Tensor,
}

impl Digits {
    pub(crate) fn load() -> candle_core::Result<Self> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/digits.safetensors");
        let mut tensors: HashMap<String, Tensor> =
            candle_core::safetensors::load(file, &Device::Cpu)?;
        let mut take = |name: &str| {
            tensors
                .remove(name)
                .ok_or_else(|| candle_core::Error::Msg(format!("no {name} in the file")))
        };
        Ok(Self {
            images: (take("images")?.unsqueeze(1)?.to_dtype(DType::F32)? / 16.0)?,
            labels: take("labels")?.to_dtype(DType::U32)?,
        })
    }

    pub(crate) fn rows(&self, from: usize, count: usize) -> candle_core::Result<(Tensor, Tensor)> {
        Ok((self.images.narrow(0, from, count)?, self.labels.narrow(0, from, count)?))
    }

    pub(crate) fn batch(&self) -> Batch {
        self.rows(0, 32).expect("the file has more than 32 digits").into()
    }
}
