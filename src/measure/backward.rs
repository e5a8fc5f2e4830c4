//! The backward pass, whatever candle does in it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{Tensor, backprop::GradStore};

use crate::{Failure, Result};

/// The gradients of `loss`.
///
/// # Errors
///
/// candle's own: operations without a backward pass. A panic inside candle, which some of its backward passes and every
/// custom operation that returns no gradient end in, becomes an error too.
pub(crate) fn backward(loss: &Tensor) -> Result<GradStore> {
    match catch_unwind(AssertUnwindSafe(|| loss.backward())) {
        Ok(grads) => grads.map_err(|e| {
            Failure::from_candle("the backward pass", e).help(
                "an operation on the way has no backward pass for these arguments; docs/candle-audit.md lists them",
            )
        }),
        Err(panic) => {
            let message = (panic.downcast_ref::<String>().map(String::as_str))
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(Failure::not_run("candle panicked in the backward pass").fact("panic", message).help(
                "a custom operation whose `bwd` returns `Ok(None)` does that, and some convolutions with padding; \
                 docs/candle-audit.md lists them",
            ))
        }
    }
}
