//! The small models these tests train.

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::{Linear, VarBuilder, VarMap, linear};
use candling::Seed;

/// Two layers with a ReLU between them.
pub(crate) struct Mlp {
    pub(crate) l1: Linear,
    pub(crate) l2: Linear,
}

impl Mlp {
    pub(crate) fn new(sizes: [usize; 3], vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            l1: linear(sizes[0], sizes[1], vb.pp("l1"))?,
            l2: linear(sizes[1], sizes[2], vb.pp("l2"))?,
        })
    }

    pub(crate) fn seeded(seed: u64, sizes: [usize; 3], dtype: DType) -> (VarMap, Self) {
        let (vars, vb) = Seed::new(seed).var_builder(dtype, &device());
        (vars, Self::new(sizes, vb).unwrap())
    }
}

impl Module for Mlp {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.l2.forward(&self.l1.forward(x)?.relu()?)
    }
}

/// The device that `CANDLING_DEVICE` names.
pub(crate) fn device() -> Device {
    candling::device().unwrap()
}

/// 16 rows of 6 features in 4 classes, each class four times, at random.
pub(crate) fn classes(seed: u64, dtype: DType) -> (Tensor, Tensor) {
    let x = Seed::new(seed).normal("x", (16, 6), dtype, &device()).unwrap();
    let labels: Vec<u32> = (0..16).map(|i| (i * 7 + i / 4) % 4).collect();
    (x, Tensor::from_vec(labels, 16, &device()).unwrap())
}

/// The bits of every variable, by name.
pub(crate) fn bits(vars: &VarMap) -> Vec<(String, Vec<u64>)> {
    let data = vars.data().lock().unwrap();
    let mut bits: Vec<(String, Vec<u64>)> = (data.iter())
        .map(|(name, var)| {
            let values = var.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
            let values = values.to_vec1::<f64>().unwrap();
            (name.clone(), values.into_iter().map(f64::to_bits).collect())
        })
        .collect();
    bits.sort();
    bits
}
