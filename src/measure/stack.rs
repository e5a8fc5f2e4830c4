//! Room for candle's recursion over deep graphs.

/// A chain of 2,000 operations overflows the 2 MiB stack of a test thread in the dev profile, which aborts the whole
/// test binary. One operation takes about 1 KiB there, so this holds chains of some 250,000; untouched pages cost
/// nothing.
const STACK: usize = 256 << 20;

/// Below this much of it, a nested call grows the stack anew.
const RED_ZONE: usize = STACK / 4;

/// Runs `work`, and drops what it drops, on a stack that deep graphs fit in. Works for closures that are not `Send`.
pub(crate) fn deep<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(RED_ZONE, STACK, work)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    #[test]
    fn a_chain_of_ten_thousand_operations_has_its_gradient() -> candle_core::Result<()> {
        super::deep(|| {
            let x = Var::new(1f32, &Device::Cpu)?;
            let mut y = x.as_tensor().clone();
            for _ in 0..10_000 {
                y = (y + 1.0)?;
            }
            let grads = y.backward()?;
            assert_eq!(grads.get(&x).unwrap().to_scalar::<f32>()?, 1.0);
            Ok(())
        })
    }
}
