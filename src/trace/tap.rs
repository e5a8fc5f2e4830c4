//! A name for an intermediate, where its maker wants one.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex},
};

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Result, Shape, Tensor,
    backend::BackendStorage,
};

thread_local! {
    /// Who listens on this thread; the innermost recording alone.
    static LISTENING: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

/// Names an intermediate of a model: the tensor itself, and free, when nobody listens.
///
/// While a [`Trace`](crate::Trace) records, it keeps the tensor under that name, and, after a backward pass through it,
/// its gradient. Values, layout and the gradients of everything else stay as they are, bit for bit; one copy of the
/// tensor is made.
///
/// ```
/// use candling::{Trace, prelude::*};
///
/// let (vars, vb) = Seed::new(42).var_builder(DType::F32, &Device::Cpu);
/// let (l1, l2) = (candle_nn::linear(2, 4, vb.pp("l1"))?, candle_nn::linear(4, 1, vb.pp("l2"))?);
/// let forward = |x: &Tensor| l2.forward(&tap("hidden", &l1.forward(x)?.tanh()?)?);
///
/// let x = Tensor::ones((3, 2), DType::F32, &Device::Cpu)?;
/// let trace = Trace::record(&vars, || forward(&x)?.sum_all())?;
/// assert_eq!(trace.get("hidden").unwrap().dims(), [3, 4]);
///
/// trace.output().backward()?;
/// assert_eq!(trace.gradient("hidden").unwrap().dims(), [3, 4]);
/// # candling::Result::Ok(())
/// ```
///
/// # Errors
///
/// candle's, from the copy.
pub fn tap(name: &str, tensor: &Tensor) -> Result<Tensor> {
    match LISTENING.with(|listening| listening.borrow().clone()) {
        None => Ok(tensor.clone()),
        Some(recorder) => recorder.tapped(name, tensor),
    }
}

/// What was tapped while a trace was recorded, and the gradients that came by later.
#[derive(Clone, Default)]
pub(super) struct Recorder {
    pub(super) values: Arc<Mutex<Vec<(String, Tensor)>>>,
    pub(super) gradients: Arc<Mutex<Vec<(String, Tensor)>>>,
}

impl Recorder {
    /// Listens on this thread while `work` runs, whatever comes of it.
    pub(super) fn listen<T>(&self, work: impl FnOnce() -> T) -> T {
        struct Restore(Option<Recorder>);
        impl Drop for Restore {
            fn drop(&mut self) {
                LISTENING.with(|listening| *listening.borrow_mut() = self.0.take());
            }
        }
        let before = LISTENING.with(|listening| listening.replace(Some(self.clone())));
        let _restore = Restore(before);
        work()
    }

    fn tapped(&self, name: &str, tensor: &Tensor) -> Result<Tensor> {
        // What no gradient flows through needs no copy to catch one.
        let tensor = match tensor.track_op() {
            true => in_storage_order(tensor, |packed| {
                let tap = Tap { name: name.to_owned(), recorder: self.clone() };
                packed.force_contiguous()?.apply_op1(tap)
            })?,
            false => tensor.clone(),
        };
        push(&self.values, name, &tensor);
        Ok(tensor)
    }
}

fn push(list: &Mutex<Vec<(String, Tensor)>>, name: &str, tensor: &Tensor) {
    let mut list = list.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    list.push((name.to_owned(), tensor.clone()));
}

/// Applies `work` to the dimensions in the order they are stored, so that a transposed tensor stays a transposed one:
/// some of candle's operations give other results for another layout.
fn in_storage_order(
    tensor: &Tensor,
    work: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let mut order: Vec<usize> = (0..tensor.rank()).collect();
    order.sort_by_key(|dim| std::cmp::Reverse(tensor.stride()[*dim]));
    if order.is_sorted() {
        return work(tensor);
    }
    let mut back = vec![0; order.len()];
    for (place, dim) in order.iter().enumerate() {
        back[*dim] = place;
    }
    work(&tensor.permute(order)?)?.permute(back)
}

/// The identity; its backward pass keeps the gradient.
struct Tap {
    name: String,
    recorder: Recorder,
}

impl CustomOp1 for Tap {
    fn name(&self) -> &'static str {
        "tap"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((storage.try_clone(layout)?, layout.shape().clone()))
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        Ok((storage.try_clone(layout)?, layout.shape().clone()))
    }

    fn metal_fwd(&self, storage: &MetalStorage, layout: &Layout) -> Result<(MetalStorage, Shape)> {
        Ok((storage.try_clone(layout)?, layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        push(&self.recorder.gradients, &self.name, &gradient.detach());
        Ok(Some(gradient.clone()))
    }
}
