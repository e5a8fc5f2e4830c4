//! Does candle compute rightly on a tensor that lies in memory as this one does?

use candle_core::{DType, Module, Result, Tensor, Var};
use candle_nn::Linear;

use super::sites::{self, STRIDED_MATMUL};
use crate::{
    Result as CheckResult,
    measure::{graph::Graph, values::to_f64_vec},
};

/// How many values `Linear`, with the identity as weight, changes in a view of three or more dimensions; 0 where it changes
/// none, as it should, or cannot be called.
///
/// candle 0.11's CPU product takes a batch of matrices for one tall matrix where one matrix stands on the right for all of
/// them, without asking whether the rows on the left follow one another in memory.
pub(crate) fn changed_by_linear(view: &Tensor) -> Result<usize> {
    let Some(&width) = view.dims().last() else { return Ok(0) };
    // The identity is a square of the width: beyond this the probe would take longer than what it explains.
    const WIDEST: usize = 4096;
    if view.rank() < 3 || width > WIDEST || !view.dtype().is_float() {
        return Ok(0);
    }
    let Ok(identity) = Tensor::eye(width, view.dtype(), view.device()) else { return Ok(0) };
    let Ok(product) = Linear::new(identity, None).forward(&view.detach()) else { return Ok(0) };
    let (own, product) = (to_f64_vec(view)?, to_f64_vec(&product)?);
    Ok(own.iter().zip(&product).filter(|(a, b)| a.is_finite() && a != b).count())
}

/// Whether a product of a strided tensor is in the graph of `output`.
pub(crate) fn has_strided_product(output: &Tensor) -> CheckResult<bool> {
    let sites = sites::of(&Graph::of(output, &[]), false)?;
    Ok(sites.iter().any(|site| site.operation == STRIDED_MATMUL))
}

/// A variable with the values of a tensor, where there can be one: it makes a function's graph visible.
pub(crate) fn tracked(tensor: &Tensor) -> Result<Option<Var>> {
    match tensor.dtype() {
        DType::F16 | DType::BF16 | DType::F32 | DType::F64 => Var::from_tensor(tensor).map(Some),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::Seed;

    #[test]
    fn a_strided_product_is_seen_in_the_graph_and_by_the_identity() -> CheckResult<()> {
        let x = Seed::new(1).normal("x", (3, 4, 2), DType::F32, &Device::Cpu)?;
        let weight =
            Var::from_tensor(&Seed::new(1).normal("w", (5, 4), DType::F32, &Device::Cpu)?)?;
        let linear = Linear::new(weight.as_tensor().clone(), None);
        let stored = Var::from_tensor(&x)?;
        let view = stored.transpose(1, 2)?;
        assert!(has_strided_product(&linear.forward(&view)?)?);
        assert!(!has_strided_product(&linear.forward(&view.contiguous()?)?)?);
        assert!(changed_by_linear(&view)? > 0);
        assert_eq!(changed_by_linear(&view.contiguous()?)?, 0);
        assert_eq!(changed_by_linear(&x.get(0)?.t()?)?, 0);
        Ok(())
    }
}
