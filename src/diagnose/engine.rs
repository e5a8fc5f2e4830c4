//! Is a wrong gradient candle's own doing?
//!
//! Some of candle's operations have a backward pass that is wrong. Which version has which defect is not looked up: an
//! operation is recognised in the graph by computing it again from its operands, bit for bit, and is then tried by
//! itself, on the very values it had, against central differences.

mod sites;

use candle_core::{DType, Tensor};

use crate::{
    Result,
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
    /// What candle does there.
    pub(crate) what: &'static str,
    /// What to use in its place.
    pub(crate) remedy: &'static str,
}

type Call = dyn Fn(&[Tensor]) -> candle_core::Result<Tensor>;

/// One operation that was recognised, and how to call it.
struct Site {
    node: usize,
    operands: Vec<usize>,
    operation: String,
    call: Box<Call>,
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
            let Site { node, operation, what, remedy, .. } = &same[0];
            found.push(Defect { node: *node, operation: operation.clone(), what, remedy });
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
