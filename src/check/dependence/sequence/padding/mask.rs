//! The function under test, and which mask it takes.

use candle_core::{DType, Tensor};

use crate::{Failure, Result};

/// The closure of an input and a mask, without its type.
pub(super) type Padded<'f> = dyn FnMut(&Tensor, &Tensor) -> Result<Tensor> + 'f;

/// The dtype that was asked for, or the first that the function takes for a mask of ones.
pub(super) fn dtype(f: &mut Padded<'_>, x: &Tensor, asked: Option<DType>) -> Result<DType> {
    let dtypes = match asked {
        Some(dtype) => vec![dtype],
        None => {
            let float = if x.dtype().is_float() { x.dtype() } else { DType::F32 };
            let others = [
                DType::U8,
                DType::U32,
                DType::I64,
                DType::F32,
                DType::F64,
                DType::F16,
                DType::BF16,
            ];
            let others = others.into_iter().filter(|dtype| *dtype != float);
            std::iter::once(float).chain(others).collect()
        }
    };
    let mut first = None;
    for dtype in &dtypes {
        let ones = Tensor::ones((x.dim(0)?, x.dim(1)?), *dtype, x.device())
            .map_err(|e| Failure::from_candle("a mask of this dtype", e))?;
        match f(x, &ones) {
            Ok(_) => return Ok(*dtype),
            Err(failure) => {
                first.get_or_insert(failure);
            }
        }
    }
    let names: Vec<&str> = dtypes.iter().map(|dtype| dtype.as_str()).collect();
    let failure = first.unwrap_or_else(|| Failure::not_run("no dtype to give a mask"));
    Err(failure.fact(
        "mask",
        format!("ones of dims [{}, {}], tried as {}", x.dim(0)?, x.dim(1)?, names.join(", ")),
    ))
}
