//! A tensor as what was drawn of it: all that shrinks, and all that its line says.

use candle_core::{DType, Tensor};

use super::{Layout, Values};
use crate::Seed;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recipe {
    pub(super) seed: u64,
    pub(super) dims: Vec<usize>,
    pub(super) values: Values,
    pub(super) dtype: DType,
    pub(super) layout: Layout,
}

impl Recipe {
    pub(super) fn make(&self) -> candle_core::Result<Tensor> {
        let values = self.values.fill(Seed::new(self.seed), &self.dims)?;
        self.layout.of(&values.to_dtype(self.dtype)?)
    }

    /// The Rust that makes the tensor again, with `candling::strategies` and the prelude in scope.
    pub(super) fn line(&self) -> String {
        let (function, by_itself) = self.function();
        let dtype = match self.dtype {
            dtype if dtype == by_itself => String::new(),
            dtype => format!(".dtype(DType::{dtype:?})"),
        };
        let layout = match self.layout {
            Layout::Contiguous => String::new(),
            layout => format!(".layout(strategies::Layout::{layout:?})"),
        };
        format!("{function}{dtype}{layout}.sample(Seed::new({}))?", self.seed)
    }

    /// The call that names these values and dims, and the dtype it has by itself.
    fn function(&self) -> (String, DType) {
        let dims = shown(&self.dims);
        let by_row = self.dims.split_last().map(|(row, lead)| (row, shown(lead)));
        match (&self.values, by_row) {
            (Values::Normal, _) => (format!("strategies::tensor({dims})"), DType::F32),
            (Values::Tokens(vocab), _) => {
                (format!("strategies::tokens({vocab}, {dims})"), DType::U32)
            }
            (Values::Mask, _) => (format!("strategies::mask({dims})"), DType::U8),
            (Values::Padding, _) => (format!("strategies::padding({dims})"), DType::U8),
            (Values::OneHot(classes), Some((row, lead))) if classes == row => {
                (format!("strategies::one_hot({classes}, {lead})"), DType::F32)
            }
            (Values::Probabilities, Some((row, lead))) if *row > 0 => {
                (format!("strategies::probabilities({row}, {lead})"), DType::F32)
            }
            (values, _) => {
                let values = code(values);
                (
                    format!("strategies::tensor({dims}).values(strategies::Values::{values})"),
                    DType::F32,
                )
            }
        }
    }
}

/// As Rust writes it: what `Debug` prints, but for the constants that are no literals.
fn code(values: &Values) -> String {
    match values {
        Values::Constant(value) if value.is_nan() => "Constant(f64::NAN)".to_owned(),
        Values::Constant(f64::INFINITY) => "Constant(f64::INFINITY)".to_owned(),
        Values::Constant(f64::NEG_INFINITY) => "Constant(f64::NEG_INFINITY)".to_owned(),
        values => format!("{values:?}"),
    }
}

/// An empty list has no type of its own.
fn shown(dims: &[usize]) -> String {
    match dims {
        [] => "()".to_owned(),
        dims => format!("{dims:?}"),
    }
}
