//! candle's AdamW (Loshchilov and Hutter, 2019) in one pass over each variable, in place.
//!
//! candle's own makes some fifteen temporary tensors a variable: more than half of a small network's step. This one does
//! the same operations on each element in the same order and rounds each of them to the variable's dtype, half precision
//! included, so that it gives the same values; candle's stays the reference of the tests. While a gradient is in the
//! cache its norm is taken too, so that nobody has to read it again.

mod kernel;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};

use candle_core::{
    CpuStorage, DType, InplaceOp2, Layout, Result, Tensor, Var, backprop::GradStore, bail,
};
use candle_nn::ParamsAdamW;

use super::Stepper;
use kernel::Factors;

/// What a pass saw of one variable's gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    /// The sum of squares, accumulated in f64.
    pub(crate) squared_norm: f64,
    /// How many entries are NaN or infinite.
    pub(crate) non_finite: usize,
}

#[derive(Debug)]
pub(super) struct FusedAdamW {
    variables: Vec<Trained>,
    params: ParamsAdamW,
    steps: i32,
    seen: Vec<Option<Seen>>,
}

#[derive(Debug)]
struct Trained {
    var: Var,
    moments: RefCell<Moments>,
}

/// Running means of the gradient and of its square, in the variable's dtype as candle keeps them.
#[derive(Debug)]
struct Moments {
    first: CpuStorage,
    second: CpuStorage,
}

impl FusedAdamW {
    /// `None` where a variable is on another device, or of a dtype or a layout that the pass does not know.
    pub(super) fn new(vars: &[Var], params: ParamsAdamW) -> Option<Self> {
        let trained = |var: &Var| {
            if !var.device().is_cpu() || !var.is_contiguous() {
                return None;
            }
            let zeros = || zeros(var.dtype(), var.elem_count());
            let moments = RefCell::new(Moments { first: zeros()?, second: zeros()? });
            Some(Trained { var: var.clone(), moments })
        };
        let variables = vars.iter().map(trained).collect::<Option<Vec<_>>>()?;
        Some(Self { seen: vec![None; variables.len()], variables, params, steps: 0 })
    }
}

impl Stepper for FusedAdamW {
    fn step(&mut self, grads: &GradStore) -> Result<()> {
        self.steps += 1;
        let factors = Factors::of(&self.params, self.steps);
        for (trained, seen) in self.variables.iter().zip(&mut self.seen) {
            *seen = match grads.get(trained.var.as_tensor()) {
                Some(grad) => Some(trained.step(grad, factors)?),
                None => None,
            };
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.params.lr
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.params.lr = learning_rate;
    }

    fn seen(&self) -> Option<&[Option<Seen>]> {
        Some(&self.seen)
    }
}

impl Trained {
    fn step(&self, grad: &Tensor, factors: Factors<f64>) -> Result<Seen> {
        if grad.dims() != self.var.dims() {
            bail!("a variable of {:?} has a gradient of {:?}", self.var.dims(), grad.dims());
        }
        let pass = Pass { moments: &self.moments, factors, seen: Cell::default() };
        // A broadcast or transposed gradient is copied into order; one in order is only a handle.
        self.var.inplace_op2(&grad.contiguous()?, &pass)?;
        Ok(pass.seen.get())
    }
}

struct Pass<'m> {
    moments: &'m RefCell<Moments>,
    factors: Factors<f64>,
    seen: Cell<Seen>,
}

impl InplaceOp2 for Pass<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        values: &mut CpuStorage,
        values_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<()> {
        let (Some((from, to)), Some((grad_from, grad_to))) =
            (values_layout.contiguous_offsets(), grad_layout.contiguous_offsets())
        else {
            bail!("a variable or its gradient is not contiguous");
        };
        let Moments { first, second } = &mut *self.moments.borrow_mut();
        macro_rules! by_dtype {
            ($($dtype:ident)*) => {
                match (values, grad, first, second) {
                    $((
                        CpuStorage::$dtype(values),
                        CpuStorage::$dtype(grad),
                        CpuStorage::$dtype(first),
                        CpuStorage::$dtype(second),
                    ) => {
                        kernel::step(&mut values[from..to], &grad[grad_from..grad_to], first, second, self.factors)
                    })*
                    (values, grad, ..) => bail!(
                        "a variable of {} has a gradient of {}",
                        dtype_of(values).as_str(),
                        dtype_of(grad).as_str(),
                    ),
                }
            };
        }
        self.seen.set(by_dtype!(F32 F64 BF16 F16));
        Ok(())
    }
}

fn dtype_of(storage: &CpuStorage) -> DType {
    candle_core::backend::BackendStorage::dtype(storage)
}

fn zeros(dtype: DType, len: usize) -> Option<CpuStorage> {
    Some(match dtype {
        DType::F32 => CpuStorage::F32(vec![0.0; len]),
        DType::F64 => CpuStorage::F64(vec![0.0; len]),
        DType::BF16 => CpuStorage::BF16(vec![half::bf16::ZERO; len]),
        DType::F16 => CpuStorage::F16(vec![half::f16::ZERO; len]),
        _ => return None,
    })
}
