//! What a tensor is.

use candle_nn::ops;
use candling::prelude::*;

use super::super::models::Net;
use super::Item;

pub(crate) const ITEMS: &[Item] = &[
    Item {
        assertion: "assert_dims!",
        question: "do the dimensions of images, labels and logits fit each other?",
        bug: "the labels of the whole file beside one batch",
        cause: Cause::ShapeMismatch,
        test: |digits, bug| {
            let ((_, net), (x, y)) = (Net::fresh()?, digits.rows(0, 16)?);
            let y = if bug { digits.labels.clone() } else { y };
            let logits = net.forward(&x)?;
            assert_dims!(x => [batch, 1, 8, 8], y => [batch], logits => [batch, 10]);
            Ok(())
        },
    },
    Item {
        assertion: "assert_shape!",
        question: "is it an image of one channel?",
        bug: "the channel left out",
        cause: Cause::ShapeMismatch,
        test: |digits, bug| {
            let x = &digits.images;
            let x = if bug { x.squeeze(1)? } else { x.clone() };
            assert_shape!(x, [_, 1, 8, 8]);
            Ok(())
        },
    },
    Item {
        assertion: "assert_in_range!",
        question: "do the pixels lie between 0 and 1?",
        bug: "pixels as they are in the file, up to 16",
        cause: Cause::OutOfRange,
        test: |digits, bug| {
            let x = if bug { (&digits.images * 16.0)? } else { digits.images.clone() };
            assert_in_range!(x, 0.0..=1.0, reaches = true);
            Ok(())
        },
    },
    Item {
        assertion: "assert_finite!",
        question: "is the logarithm of every probability a number, even where the net is sure?",
        bug: "the logarithm of a softmax, instead of log_softmax",
        cause: Cause::NotFinite,
        test: |digits, bug| {
            let ((_, net), (x, _)) = (Net::fresh()?, digits.rows(0, 16)?);
            let sure = (net.forward(&x)? * 1e4)?;
            let logs = match bug {
                true => ops::softmax(&sure, 1)?.log()?,
                false => ops::log_softmax(&sure, 1)?,
            };
            assert_finite!(logs);
            Ok(())
        },
    },
    Item {
        assertion: "assert_close!",
        question: "does the mean over a digit's pixels come out as a loop has it?",
        bug: "a mean over rows where one over columns is meant",
        cause: Cause::ValuesDiffer,
        test: |digits, bug| {
            let (x, _) = digits.rows(3, 1)?;
            let mean = x.mean(if bug { 2 } else { 3 })?.flatten_all()?;
            let looped: Vec<f32> = (x.flatten_all()?.to_vec1::<f32>()?.chunks(8))
                .map(|line| line.iter().sum::<f32>() / 8.0)
                .collect();
            assert_close!(mean, Tensor::new(looped, &Device::Cpu)?);
            Ok(())
        },
    },
];
