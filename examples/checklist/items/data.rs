//! What goes into the model.

use candling::{prelude::*, synthetic};

use super::{super::models::batches, Item};

pub(crate) const ITEMS: &[Item] = &[
    Item {
        assertion: "assert_labels!",
        question: "is every label one of the ten digits, and is every digit there?",
        bug: "labels counted from 1",
        cause: Cause::LabelOutOfRange,
        test: |digits, bug| {
            let y = &digits.labels;
            let y = if bug { (y + y.ones_like()?)? } else { y.clone() };
            assert_labels!(y, 10, balance = 1.1);
            Ok(())
        },
    },
    Item {
        assertion: "assert_normalized!",
        question: "are the pixels standardised?",
        bug: "the mean taken off, the division by the deviation forgotten",
        cause: Cause::InputNotScaled,
        test: |digits, bug| {
            let x = digits.images.broadcast_sub(&digits.images.mean_all()?)?;
            let deviation = x.sqr()?.mean_all()?.sqrt()?;
            let x = if bug { x } else { x.broadcast_div(&deviation)? };
            assert_normalized!(x);
            Ok(())
        },
    },
    Item {
        assertion: "assert_disjoint!",
        question: "is no digit of the validation set in the training set?",
        bug: "a split that overlaps by ten",
        cause: Cause::SplitOverlap,
        test: |digits, bug| {
            let (train, _) = digits.rows(0, if bug { 1510 } else { 1500 })?;
            let (validation, _) = digits.rows(1500, 297)?;
            assert_disjoint!(train, validation);
            Ok(())
        },
    },
    Item {
        assertion: "assert_pipeline!",
        question: "does the loader deliver each digit once an epoch, with its own label, in a new order?",
        bug: "images shuffled, labels not",
        cause: Cause::PairsBroken,
        test: |_, bug| {
            let (x, y) = synthetic::markers(32, (1, 8, 8))?;
            assert_pipeline!(|epoch| Ok(batches(&x, &y, epoch, !bug)?), 32);
            Ok(())
        },
    },
];
