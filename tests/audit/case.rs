//! One op in one setting: what it is called with, and how to call it.

use candle_core::{DType, Device, Result, Tensor};

/// The op under test. It is given all operands, the constant ones too.
pub(crate) type Op = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

pub(crate) struct Case {
    pub(crate) group: &'static str,
    pub(crate) op: String,
    /// Empty where the op has only one.
    pub(crate) setting: String,
    pub(crate) operands: Vec<Operand>,
    pub(crate) f: Op,
    pub(crate) dtype: DType,
    /// The op computes in f32 whatever it is given: larger steps, wider tolerances.
    pub(crate) single_precision: bool,
    /// The operands with a batch as first dimension, where the op treats its rows one by one.
    pub(crate) batched: Vec<usize>,
    /// The op is there to stop the gradient: none is the right one.
    pub(crate) blocks_gradient: bool,
}

#[derive(Clone)]
pub(crate) struct Operand {
    shape: Vec<usize>,
    values: Values,
    pub(crate) differentiable: bool,
}

#[derive(Clone)]
enum Values {
    /// Of either sign, none close to 0.
    Signed,
    Positive,
    /// Between 0.1 and 0.9.
    Unit,
    /// Of either sign, and no two close to each other.
    Spread,
    /// These, from the first on.
    Exactly(&'static [f64]),
}

pub(crate) fn signed<const N: usize>(shape: [usize; N]) -> Operand {
    Operand { shape: shape.to_vec(), values: Values::Signed, differentiable: true }
}

pub(crate) fn positive<const N: usize>(shape: [usize; N]) -> Operand {
    Operand { values: Values::Positive, ..signed(shape) }
}

pub(crate) fn unit<const N: usize>(shape: [usize; N]) -> Operand {
    Operand { values: Values::Unit, ..signed(shape) }
}

pub(crate) fn spread<const N: usize>(shape: [usize; N]) -> Operand {
    Operand { values: Values::Spread, ..signed(shape) }
}

pub(crate) fn exactly<const N: usize>(shape: [usize; N], values: &'static [f64]) -> Operand {
    Operand { values: Values::Exactly(values), ..signed(shape) }
}

/// The operand as a constant: its gradient is of no interest.
pub(crate) fn constant(operand: Operand) -> Operand {
    Operand { differentiable: false, ..operand }
}

/// Indices, or a mask.
pub(crate) fn ids<const N: usize>(shape: [usize; N], values: &[u32]) -> Result<Tensor> {
    Tensor::from_slice(values, shape.to_vec(), &Device::Cpu)
}

impl Case {
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.op, self.setting).trim_end().to_owned()
    }

    /// Contiguous tensors without history; the same for every call.
    pub(crate) fn inputs(&self) -> Result<Vec<Tensor>> {
        let operands = self.operands.iter().enumerate();
        operands
            .map(|(i, operand)| operand.tensor(&format!("{}/{i}", self.name()), self.dtype))
            .collect()
    }

    /// The places of the operands that have a gradient.
    pub(crate) fn differentiable(&self) -> impl Iterator<Item = usize> {
        (0..self.operands.len()).filter(|i| self.operands[*i].differentiable)
    }

    /// For ops that have no f64.
    pub(crate) fn f32(&mut self) -> &mut Self {
        self.dtype = DType::F32;
        self.single_precision()
    }

    pub(crate) fn single_precision(&mut self) -> &mut Self {
        self.single_precision = true;
        self
    }

    pub(crate) fn batched(&mut self, operands: &[usize]) -> &mut Self {
        self.batched = operands.to_vec();
        self
    }

    pub(crate) fn blocks_gradient(&mut self) -> &mut Self {
        self.blocks_gradient = true;
        self
    }
}

impl Operand {
    fn tensor(&self, label: &str, dtype: DType) -> Result<Tensor> {
        let n = self.shape.iter().product();
        let mut stream = Stream::new(label);
        let values: Vec<f64> = match self.values {
            Values::Signed => (0..n)
                .map(|_| {
                    let size = 0.1 + 1.4 * stream.unit();
                    if stream.unit() < 0.5 { -size } else { size }
                })
                .collect(),
            Values::Positive => (0..n).map(|_| 0.3 + 1.7 * stream.unit()).collect(),
            Values::Unit => (0..n).map(|_| 0.1 + 0.8 * stream.unit()).collect(),
            Values::Spread => {
                let mut values: Vec<f64> =
                    (0..n).map(|i| 0.17 * (i as f64 - n as f64 / 2.0 + 0.37)).collect();
                for i in (1..n).rev() {
                    values.swap(i, (stream.unit() * (i + 1) as f64) as usize);
                }
                values
            }
            Values::Exactly(values) => values[..n].to_vec(),
        };
        Tensor::from_vec(values, self.shape.clone(), &Device::Cpu)?.to_dtype(dtype)
    }
}

/// SplitMix64 keyed by FNV-1a of a label: a case's numbers do not depend on the other cases.
pub(crate) struct Stream(u64);

impl Stream {
    pub(crate) fn new(label: &str) -> Self {
        Self(label.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    /// From 0, below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The cases as they are listed.
#[derive(Default)]
pub(crate) struct Table {
    group: &'static str,
    pub(crate) cases: Vec<Case>,
}

impl Table {
    pub(crate) fn group(&mut self, group: &'static str) {
        self.group = group;
    }

    pub(crate) fn case<const N: usize>(
        &mut self,
        op: impl Into<String>,
        setting: impl Into<String>,
        operands: [Operand; N],
        f: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
    ) -> &mut Case {
        self.cases.push(Case {
            group: self.group,
            op: op.into(),
            setting: setting.into(),
            operands: operands.to_vec(),
            f: Box::new(f),
            dtype: DType::F64,
            single_precision: false,
            batched: Vec::new(),
            blocks_gradient: false,
        });
        self.cases.last_mut().expect("one was just added")
    }
}
