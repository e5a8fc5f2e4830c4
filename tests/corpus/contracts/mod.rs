//! Group E: what a loss function promises. Every test calls the loss that its learner trains with.

mod classes;
mod elements;
mod pairs;
mod tokens;

use candle_core::Tensor;
use candling::{Batch, Contract, Learner, Result, check::LossContract};

use super::entry::{Assertion, Entry};

pub(crate) const LOSS_CONTRACT: Assertion = Assertion::Test("loss_contract");

const GROUP: &str = "contracts";

/// A test that the loss keeps its contract.
pub(crate) fn keeps(
    loss: impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor> + 'static,
    contract: Contract,
) -> impl Fn(&Learner<'static>, &Batch) -> Result<()> {
    move |_, _| LossContract::new().check(&loss, &contract).map(drop)
}

pub(crate) fn entries() -> impl Iterator<Item = Entry> {
    let groups = [classes::ENTRIES, tokens::ENTRIES, elements::ENTRIES, pairs::ENTRIES];
    groups.into_iter().flatten().copied()
}
