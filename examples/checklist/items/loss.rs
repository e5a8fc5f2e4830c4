//! The loss function, by itself.

use candle_nn::ops;
use candling::{contract, prelude::*};

use super::Item;

pub(crate) const ITEMS: &[Item] = &[Item {
    assertion: "assert_loss_contract!",
    question: "is the loss the cross-entropy it is called?",
    bug: "a softmax before a loss that applies its own",
    cause: Cause::LossOnProbabilities,
    test: |_, bug| {
        assert_loss_contract!(
            |logits, y| match bug {
                true => loss::cross_entropy(&ops::softmax(logits, 1)?, y),
                false => loss::cross_entropy(logits, y),
            },
            contract::cross_entropy(10)
        );
        Ok(())
    },
}];
