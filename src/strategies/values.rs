//! What a strategy fills its tensors with.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use crate::{Failure, Result, Seed};

/// What the elements are. Each is a pure function of a seed and the shape.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Values {
    /// Standard normal: [`Seed::normal`] with the label `x`.
    Normal,
    /// Uniform in the range: [`Seed::uniform`] with the label `x`, rounded to the dtype.
    Uniform(Range<f64>),
    /// Whole numbers of the range, each as likely: sums of them are exact in every order.
    Whole(Range<i64>),
    /// All the same.
    Constant(f64),
    /// The second element 1, the others 0 (the first, where there is but one). A swapped axis moves it.
    OneNonzero,
    /// Ids below that number: [`Seed::tokens`] with the label `x`.
    Tokens(usize),
    /// 0 or 1, each as likely, and at least a single 1 in each row of the last dimension.
    Mask,
    /// In each row of the last dimension a 1, up to as many as there are, and 0 behind them: every length is as likely.
    Padding,
    /// A 1 in each row of the last dimension, among the first that many.
    OneHot(usize),
    /// Rows of the last dimension that are the softmax of standard normal numbers.
    Probabilities,
    /// Rows of the last dimension whose elements are one over their number.
    Even,
}

const FLOATS: [DType; 4] = [DType::F64, DType::F32, DType::F16, DType::BF16];
const INTEGERS: [DType; 3] = [DType::U8, DType::U32, DType::I64];

impl Values {
    /// The values in a dtype that holds them all, on the CPU.
    pub(super) fn fill(&self, seed: Seed, dims: &[usize]) -> candle_core::Result<Tensor> {
        const CPU: &Device = &Device::Cpu;
        let count: usize = dims.iter().product();
        let row = dims.last().copied().unwrap_or(1).max(1);
        match self {
            Self::Normal => seed.normal("x", dims, DType::F64, CPU),
            Self::Uniform(range) => seed.uniform("x", range.clone(), dims, DType::F64, CPU),
            Self::Whole(range) => {
                let numbers = range.end.abs_diff(range.start) as usize;
                seed.tokens("x", numbers, dims, CPU)?.to_dtype(DType::F64)? + range.start as f64
            }
            Self::Constant(value) => Tensor::full(*value, dims, CPU),
            Self::OneNonzero => {
                let mut values = vec![0f64; count];
                if let Some(value) = values.iter_mut().take(2).last() {
                    *value = 1.0;
                }
                Tensor::from_vec(values, dims, CPU)
            }
            Self::Tokens(vocab) => seed.tokens("x", *vocab, dims, CPU),
            Self::Mask => {
                let chances: Vec<f64> =
                    seed.uniform("x", 0.0..1.0, count, DType::F64, CPU)?.to_vec1()?;
                let mut values = Vec::with_capacity(count);
                for row in chances.chunks(row) {
                    // The smallest is at most that, whatever it is: no row is empty.
                    let bar = row.iter().copied().fold(f64::INFINITY, f64::min).max(0.5);
                    values.extend(row.iter().map(|chance| u8::from(*chance <= bar)));
                }
                Tensor::from_vec(values, dims, CPU)
            }
            Self::Padding => {
                let lengths: Vec<u32> = seed.tokens("x", row, count / row, CPU)?.to_vec1()?;
                let ones = lengths.into_iter().map(|beyond_first| beyond_first as usize + 1);
                let values: Vec<u8> = ones
                    .flat_map(|ones| (0..row).map(move |place| u8::from(place < ones)))
                    .collect();
                Tensor::from_vec(values, dims, CPU)
            }
            Self::OneHot(classes) => {
                let labels: Vec<u32> = seed.tokens("x", *classes, count / row, CPU)?.to_vec1()?;
                let mut values = vec![0f64; count];
                for (row, label) in values.chunks_mut(row).zip(labels) {
                    if let Some(value) = row.get_mut(label as usize) {
                        *value = 1.0;
                    }
                }
                Tensor::from_vec(values, dims, CPU)
            }
            Self::Probabilities => {
                let mut values: Vec<f64> = seed.normal("x", count, DType::F64, CPU)?.to_vec1()?;
                for row in values.chunks_mut(row) {
                    // libm's, as every draw of a seed: the same bits on every platform. Normal numbers overflow nothing.
                    row.iter_mut().for_each(|value| *value = libm::exp(*value));
                    let sum: f64 = row.iter().sum();
                    row.iter_mut().for_each(|value| *value /= sum);
                }
                Tensor::from_vec(values, dims, CPU)
            }
            Self::Even => Tensor::full(1.0 / row as f64, dims, CPU),
        }
    }

    /// Simpler ones that are still of this kind (in the range, a mask, probabilities), the simplest first; and whether those between them are in an order worth bisecting.
    pub(super) fn simpler(&self) -> (Vec<Self>, bool) {
        let plain = |has: &dyn Fn(f64) -> bool| {
            let mut plain = Vec::new();
            if has(0.0) {
                plain.push(Self::Constant(0.0));
            }
            if has(0.0) && has(1.0) {
                plain.push(Self::OneNonzero);
            }
            if has(1.0) {
                plain.push(Self::Constant(1.0));
            }
            plain
        };
        match self {
            Self::Normal => {
                let mut simpler = plain(&|_| true);
                simpler.push(Self::Whole(-2..3));
                (simpler, false)
            }
            Self::Uniform(range) => {
                let mut simpler = plain(&|value| range.contains(&value));
                if simpler.is_empty() {
                    simpler.push(Self::Constant(range.start));
                }
                let (low, end) = (range.start.ceil(), range.end.ceil());
                // Few enough to read, and exact in every dtype from bf16 on.
                if end - low > 1.0 && low.abs().max(end.abs()) <= 256.0 {
                    simpler.push(Self::Whole(low as i64..end as i64));
                }
                (simpler, false)
            }
            Self::Whole(range) => {
                let mut simpler = plain(&|value| range.contains(&(value as i64)));
                if simpler.is_empty() && range.end.abs_diff(range.start) > 1 {
                    simpler.push(Self::Constant(range.start as f64));
                }
                (simpler, false)
            }
            Self::Constant(_) | Self::OneNonzero | Self::Even => (Vec::new(), false),
            Self::Tokens(vocab) => {
                (numbers(1, *vocab).into_iter().map(Self::Tokens).collect(), true)
            }
            Self::Mask | Self::Padding => (vec![Self::Constant(1.0)], false),
            Self::OneHot(classes) => {
                (numbers(1, *classes).into_iter().map(Self::OneHot).collect(), true)
            }
            Self::Probabilities => (vec![Self::Even], false),
        }
    }

    /// Whether a shape can hold them; where it cannot, which shapes can.
    pub(super) fn fit(&self, dims: &[usize]) -> std::result::Result<(), String> {
        match (self, dims.last()) {
            (Self::OneHot(classes), last)
                if last.is_none_or(|last| last < classes) && !dims.contains(&0) =>
            {
                Err(format!("a last dimension of {classes} or more"))
            }
            (Self::Mask | Self::Padding | Self::Probabilities | Self::Even, None) => {
                Err("one dimension or more".to_owned())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check(&self, dtypes: &[DType]) -> Result<()> {
        const COUNT: &str = "1 to 4294967296";
        match self {
            Self::Tokens(vocab) if *vocab == 0 || *vocab > 1 << 32 => {
                return Err(Failure::bad_argument("the number of ids or classes", vocab, COUNT));
            }
            Self::Tokens(vocab) if *vocab > 1 << 8 && dtypes.contains(&DType::U8) => {
                return Err(Failure::bad_argument(
                    "vocab",
                    format_args!("{vocab} in u8"),
                    "1 to 256, or a wider dtype",
                ));
            }
            Self::OneHot(classes) if *classes == 0 || *classes > 1 << 32 => {
                return Err(Failure::bad_argument("classes", classes, COUNT));
            }
            Self::Uniform(range)
                if !(range.start < range.end && (range.end - range.start).is_finite()) =>
            {
                return Err(Failure::bad_argument(
                    "range",
                    format_args!("{}..{}", range.start, range.end),
                    "finite bounds, the first below the second",
                ));
            }
            Self::Whole(range)
                if range.is_empty()
                    || range.end.abs_diff(range.start) > 1 << 32
                    || range.start.unsigned_abs().max(range.end.unsigned_abs()) > 1 << 53 =>
            {
                return Err(Failure::bad_argument(
                    "range",
                    format_args!("{}..{}", range.start, range.end),
                    "1 to 4294967296 whole numbers, none beyond 2^53",
                ));
            }
            _ => {}
        }
        let Some(first) = dtypes.first() else {
            return Err(Failure::bad_argument("dtypes", "empty", "at least one dtype"));
        };
        let held = self.dtypes();
        match dtypes.iter().find(|dtype| !held.contains(dtype)) {
            None => Ok(()),
            Some(dtype) => {
                let names: Vec<&str> = held.iter().map(DType::as_str).collect();
                let argument = if dtype == first { "dtype" } else { "dtypes" };
                Err(Failure::bad_argument(
                    argument,
                    format_args!("{} for {self:?}", dtype.as_str()),
                    names.join(", "),
                ))
            }
        }
    }

    fn dtypes(&self) -> Vec<DType> {
        let all = || INTEGERS.into_iter().chain(FLOATS).collect();
        match self {
            Self::Normal | Self::Uniform(_) | Self::Probabilities | Self::Even => FLOATS.to_vec(),
            Self::Tokens(_) => INTEGERS.to_vec(),
            Self::Mask | Self::Padding | Self::OneHot(_) | Self::OneNonzero => all(),
            Self::Constant(value) if value.fract() == 0.0 && (0.0..256.0).contains(value) => all(),
            Self::Constant(_) => FLOATS.to_vec(),
            Self::Whole(range) if range.start >= 0 && range.end <= 256 => all(),
            Self::Whole(range) if range.start >= 0 && range.end <= 1 << 32 => {
                all().into_iter().filter(|dtype| *dtype != DType::U8).collect()
            }
            Self::Whole(_) => [DType::I64].into_iter().chain(FLOATS).collect(),
        }
    }
}

/// The numbers from `low` below `end`, in order. Of a long range those near `low`, and those a power of two below `end` or
/// above `low`: bisected, they halve the range again and again, and no list is long.
pub(super) fn numbers(low: usize, end: usize) -> Vec<usize> {
    const SHORT: usize = 1024;
    let near = end.min(low.saturating_add(SHORT));
    let powers = || (0..usize::BITS).map(|bit| 1usize << bit);
    let above = powers().filter_map(|power| low.checked_add(power));
    let below = powers().filter_map(|power| end.checked_sub(power));
    let mut far: Vec<usize> = above.chain(below).filter(|n| (near..end).contains(n)).collect();
    far.sort_unstable();
    far.dedup();
    (low..near).chain(far).collect()
}
