//! The audit of candle: every differentiable op of its public API against finite differences, in every way that has
//! been seen to matter, and its forward pass against itself on other layouts.
//!
//! An independent witness: nothing here uses candling's own checks. Tests and the example share the module.

pub(crate) mod case;
pub(crate) mod defects;
mod examine;
mod gradient;
mod known;
mod layouts;
mod ops;
pub(crate) mod page;
#[cfg(test)]
mod pinned;
pub(crate) mod quiet;
mod slopes;
pub(crate) mod verdict;
mod words;

use candle_core::{Error, Result};
use case::{Case, Table};
use page::Audited;

pub(crate) use examine::examine;

/// Every case, group by group.
///
/// A case has its inputs, which of them are differentiable, the op itself as `f`, and today's verdict by
/// [`Case::expected`].
pub(crate) fn cases() -> Vec<Case> {
    let mut table = Table::default();
    ops::fill(&mut table);
    table.cases
}

/// Every case under every condition that applies.
pub(crate) fn audit() -> Result<Vec<Audited>> {
    // On tensors of a few elements, candle's threads cost more than what they share.
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(Error::wrap)?;
    let examined = one.install(|| cases().iter().map(examine).collect::<Result<Vec<_>>>())?;
    Ok(cases().into_iter().zip(examined).collect())
}

/// Where a verdict is not today's, a line.
pub(crate) fn changes(audited: &[Audited]) -> Vec<String> {
    let mut changes = Vec::new();
    for (case, examined) in audited {
        for (condition, outcome) in examined {
            let (was, is) = (case.expected(*condition), outcome.verdict);
            if was != is {
                let detail = &outcome.detail;
                changes.push(format!("{} ({condition}): {was} -> {is}  {detail}", case.name()));
            }
        }
    }
    changes
}
