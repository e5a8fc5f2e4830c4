//! What depends on what.

use candle_nn::ops;
use candling::prelude::*;

use super::super::models::{Net, Reader, lines};
use super::Item;

pub(crate) const ITEMS: &[Item] = &[
    Item {
        assertion: "assert_batch_independent!",
        question: "is a digit judged by itself, whatever else is in the batch?",
        bug: "probabilities taken over the batch",
        cause: Cause::BatchMixed,
        test: |digits, bug| {
            let ((_, net), (x, _)) = (Net::fresh()?, digits.rows(0, 16)?);
            let over = if bug { 0 } else { 1 };
            assert_batch_independent!(|x| ops::softmax(&net.forward(x)?, over), &x);
            Ok(())
        },
    },
    Item {
        assertion: "assert_uses_input!",
        question: "does every pixel count?",
        bug: "the lower half cut off",
        cause: Cause::InputIgnored,
        test: |digits, bug| {
            let ((_, net), (x, _)) = (Net::fresh()?, digits.rows(0, 16)?);
            let blank = |x: &Tensor| x.narrow(2, 0, 4)?.pad_with_zeros(2, 0, 4);
            assert_uses_input!(|x| net.forward(&if bug { blank(x)? } else { x.clone() }), &x);
            Ok(())
        },
    },
    Item {
        assertion: "assert_dependence!",
        question: "does a window of three lines hold three lines?",
        bug: "a window left open: all lines before are seen",
        cause: Cause::NotInvariant,
        test: |digits, bug| {
            let reader = Reader::fresh()?;
            let outside = |line, other| other > line || (!bug && other + 3 <= line);
            let window = |cell: u32| {
                let (line, other) = (cell / 8, cell % 8);
                u8::from(other <= line && other + 3 > line)
            };
            let window: Vec<u8> = (0..64).map(window).collect();
            let window = Tensor::from_vec(window, (8, 8), &Device::Cpu)?;
            assert_dependence!(|x| reader.reading(x, outside), &lines(digits, 4)?, window);
            Ok(())
        },
    },
    Item {
        assertion: "assert_causal!",
        question: "does a reader of lines know only the lines it has read?",
        bug: "a mask off by one",
        cause: Cause::FutureLeak,
        test: |digits, bug| {
            let reader = Reader::fresh()?;
            let ahead = usize::from(bug);
            let hides = |line, other| other > line + ahead;
            assert_causal!(|ids| reader.reading(ids, hides), &lines(digits, 4)?);
            Ok(())
        },
    },
    Item {
        assertion: "assert_cache_consistent!",
        question: "does it say the same, line by line?",
        bug: "places that begin at 0 again in each step",
        cause: Cause::CacheMismatch,
        test: |digits, bug| {
            let reader = Reader::fresh()?;
            let place = |offset: usize| if bug { 0 } else { offset };
            assert_cache_consistent!(
                |ids| reader.forward(ids),
                |ids, offset| reader.step_at(ids, offset, place(offset)),
                &lines(digits, 4)?
            );
            Ok(())
        },
    },
    Item {
        assertion: "assert_padding_invariant!",
        question: "may a digit be shorter than the longest of its batch?",
        bug: "a mean that counts the padding",
        cause: Cause::PaddingLeak,
        test: |digits, bug| {
            let reader = Reader::fresh()?;
            assert_padding_invariant!(
                |ids, mask| match bug {
                    true => reader.forward(ids)?.mean(1),
                    false => reader.classify(ids, mask),
                },
                &lines(digits, 4)?
            );
            Ok(())
        },
    },
    Item {
        assertion: "assert_position_sensitive!",
        question: "does the order of the lines matter?",
        bug: "places left out: a bag of lines",
        cause: Cause::PositionIgnored,
        test: |digits, bug| {
            let reader = Reader::fresh()?;
            assert_position_sensitive!(|ids| reader.bag(ids, !bug), &lines(digits, 4)?);
            Ok(())
        },
    },
];
