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

#[cfg(test)]
mod throwaway {
    use candling::Seed;

    use super::super::entry::Verdict;

    #[test]
    fn seeds() {
        let mut wrong = Vec::new();
        let moved = ["E5", "E8", "E10", "E18", "E12", "I2", "I5", "I8", "I11"];
        let all = super::super::entries().into_iter();
        for entry in all.filter(|e| e.group == super::GROUP || moved.contains(&e.id)) {
            for seed in 0..5 {
                let clean = Verdict::of(entry.assertion, entry.clean, Seed::new(seed));
                let buggy = Verdict::of(entry.assertion, entry.buggy, Seed::new(seed));
                if !clean.passed() {
                    wrong.push(format!("{} clean {}", entry.id, clean.text()));
                }
                if buggy.cause() != Some(entry.cause) {
                    wrong.push(format!("{} buggy {}", entry.id, buggy.text()));
                }
            }
            let healthy =
                Verdict::of(super::super::entry::Assertion::Healthy, entry.clean, Seed::new(3));
            if !healthy.passed() {
                wrong.push(format!("{} healthy {}", entry.id, healthy.text()));
            }
        }
        panic!("{} wrong\n{}", wrong.len(), wrong.join("\n\n"));
    }
}
