//! Is a wrong gradient candle's own doing?
//!
//! Some of candle's operations have a backward pass that is wrong. Which version has which defect is not looked up: an
//! operation is recognised in the graph by computing it again from its operands, bit for bit, and is then tried by
//! itself, on the very values it had, against central differences.

mod sites;
pub(crate) mod strided;

use candle_core::{DType, Tensor};

use crate::{
    Cause, Result,
    measure::{
        graph::Graph,
        slope::{Agreement, Fineness, OfFunction, Way, verify},
    },
};

/// An operation of the graph whose gradient is wrong by itself.
#[derive(Clone, Debug)]
pub(crate) struct Defect {
    /// The node that holds its result.
    pub(crate) node: usize,
    /// `max_pool2d(2)`.
    pub(crate) operation: String,
    pub(crate) cause: Cause,
    /// What candle does there.
    pub(crate) what: &'static str,
    /// What to use in its place.
    pub(crate) remedy: &'static str,
}

/// An operation as a function of its operands.
type Call = Box<dyn Fn(&[Tensor]) -> candle_core::Result<Tensor>>;

/// One operation that was recognised, and how to call it.
struct Site {
    node: usize,
    operands: Vec<usize>,
    operation: String,
    call: Call,
    cause: Cause,
    what: &'static str,
    remedy: &'static str,
}

/// The operations of a graph that candle differentiates wrongly on the values they had, in the order they were computed.
///
/// Some are wrong only where their operand is used elsewhere too; `used_elsewhere` says that every one is.
pub(crate) fn defects(graph: &Graph, used_elsewhere: bool) -> Result<Vec<Defect>> {
    let mut found = Vec::new();
    let sites = sites::of(graph, used_elsewhere)?;
    // Where several operations give the same bits it may have been any of them: on a window of equal values the mean is
    // the maximum. Then all have to be wrong.
    for same in sites.chunk_by(|a, b| a.node == b.node) {
        let mut all_wrong = true;
        for site in same {
            let operands: Vec<Tensor> =
                site.operands.iter().map(|at| graph.nodes()[*at].tensor.detach()).collect();
            all_wrong = all_wrong && is_wrong(site, &operands)?;
        }
        if all_wrong {
            let Site { node, operation, cause, what, remedy, .. } = &same[0];
            let (operation, cause) = (operation.clone(), *cause);
            found.push(Defect { node: *node, operation, cause, what, remedy });
        }
    }
    Ok(found)
}

/// Whether the operation's gradient is not its slope, or depends on how its operand came about.
fn is_wrong(site: &Site, operands: &[Tensor]) -> Result<bool> {
    let Some(fineness) = Fineness::of(DType::F64) else { return Ok(false) };
    let precise = operands.iter().map(|operand| operand.to_dtype(DType::F64));
    let precise = precise.collect::<candle_core::Result<Vec<_>>>()?;
    let mut call = |members: &[Tensor]| -> Result<Tensor> { Ok((site.call)(members)?) };
    let Ok(mut function) = OfFunction::new(&mut call, &precise) else { return Ok(false) };
    let (compared, _) = verify(&mut function, fineness)?;
    if compared.iter().any(|slot| slot.agreement == Agreement::Differs) {
        return Ok(true);
    }
    for way in [Way::UsedBefore, Way::UsedAfter] {
        if function.differs_when(way, fineness)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::Seed;

    fn var(name: &str, dims: &[usize], dtype: DType) -> Result<Var> {
        Ok(Var::from_tensor(&Seed::new(1).normal(name, dims, dtype, &Device::Cpu)?)?)
    }

    fn named(root: &Tensor, used_elsewhere: bool) -> Result<Vec<String>> {
        let graph = Graph::of(root, &[]);
        Ok(defects(&graph, used_elsewhere)?.into_iter().map(|defect| defect.operation).collect())
    }

    #[test]
    fn operations_with_a_wrong_backward_pass_are_recognised_by_their_values() -> Result<()> {
        for dtype in [DType::F32, DType::F64] {
            let image = var("image", &[2, 3, 6, 6], dtype)?;
            assert_eq!(named(&image.max_pool2d(2)?, false)?, ["max_pool2d(2)"]);
            assert_eq!(named(&image.max_pool2d((2, 3))?, false)?, ["max_pool2d((2, 3))"]);
            assert_eq!(named(&image.avg_pool2d(4)?, false)?, ["avg_pool2d(4)"]);
            assert!(named(&image.avg_pool2d(2)?, false)?.is_empty());

            let up = image.upsample_nearest2d(12, 12)?;
            assert!(named(&up, false)?.is_empty(), "with a single use it is right");
            assert_eq!(named(&up, true)?, ["upsample_nearest2d(12, 12)"]);
            let skip = (up.narrow(2, 0, 6)?.narrow(3, 0, 6)? + image.as_tensor())?;
            assert_eq!(named(&skip, false)?, ["upsample_nearest2d(12, 12)"]);

            let (x, kernel) = (var("x", &[2, 8, 7], dtype)?, var("kernel", &[8, 8, 2], dtype)?);
            for dilation in [1, 2, 4] {
                let named = named(&x.conv1d(&kernel, 0, 1, dilation, 1)?, false)?;
                let expected = format!("conv1d(padding 0, stride 1, dilation {dilation})");
                assert_eq!(named, [expected], "{dtype:?}");
            }
            let weight = var("weight", &[5, 2], dtype)?;
            let linear = candle_nn::Linear::new(weight.as_tensor().clone(), None);
            let turned = var("turned", &[2, 2, 2], dtype)?.transpose(1, 2)?;
            let product = candle_core::Module::forward(&linear, &turned)?;
            assert_eq!(named(&product, false)?, ["matmul of a strided tensor"]);
            let flat = candle_core::Module::forward(&linear, &turned.contiguous()?)?;
            assert!(named(&flat, false)?.is_empty());
        }
        Ok(())
    }
}
