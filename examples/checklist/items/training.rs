//! What a training does.

use candle_nn::ops;
use candling::prelude::*;

use super::super::models::Net;
use super::Item;

pub(crate) const ITEMS: &[Item] = &[
    Item {
        assertion: "assert_overfits_batch!",
        question: "can it learn one batch by heart?",
        bug: "a softmax before a loss that wants logits",
        cause: Cause::LossOnProbabilities,
        test: |digits, bug| {
            let ((vars, net), batch) = (Net::fresh()?, digits.batch());
            let learner = Learner::new(
                &vars,
                |x| match bug {
                    true => ops::softmax(&net.forward(x)?, 1),
                    false => net.forward(x),
                },
                loss::cross_entropy,
            );
            assert_overfits_batch!(learner, batch, accuracy = 1.0);
            Ok(())
        },
    },
    Item {
        assertion: "assert_healthy!",
        question: "and everything at once?",
        bug: "labels shifted by one: 0 becomes 4,294,967,295, which candle counts as right",
        cause: Cause::LabelOutOfRange,
        test: |digits, bug| {
            let ((vars, net), (x, y)) = (Net::fresh()?, digits.rows(0, 32)?);
            let shifted: Vec<u32> =
                y.to_vec1::<u32>()?.into_iter().map(|y| y.wrapping_sub(1)).collect();
            let y = if bug { Tensor::new(shifted, &Device::Cpu)? } else { y };
            let learner = Learner::new(&vars, |x| net.forward(x), loss::cross_entropy);
            assert_healthy!(learner, (&x, &y), classes = 10);
            Ok(())
        },
    },
];
