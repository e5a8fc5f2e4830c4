//! What must not change, and what must.

use std::cell::Cell;

use candling::{check::Direction, prelude::*};

use super::super::models::Net;
use super::Item;

pub(crate) const ITEMS: &[Item] = &[
    Item {
        assertion: "assert_deterministic!",
        question: "is the same digit judged the same twice?",
        bug: "a running contrast that each call moves",
        cause: Cause::StateKept,
        test: |digits, bug| {
            let ((_, net), (x, _)) = (Net::fresh()?, digits.rows(0, 16)?);
            let contrast = Cell::new(1.0);
            assert_deterministic!(
                |x| {
                    if bug {
                        contrast.set(0.9 * contrast.get() + 0.2);
                    }
                    net.forward(&(x * contrast.get())?)
                },
                &x
            );
            Ok(())
        },
    },
    Item {
        assertion: "assert_invariant!",
        question: "does the amount of ink depend on where the digit stands?",
        bug: "a sum over the left half",
        cause: Cause::NotInvariant,
        test: |digits, bug| {
            let (x, _) = digits.rows(0, 16)?;
            let width = if bug { 4 } else { 8 };
            assert_invariant!(|x| x.narrow(3, 0, width)?.sum((1, 2, 3)), &x, |x| x.roll(2, 3));
            Ok(())
        },
    },
    Item {
        assertion: "assert_equivariant!",
        question: "do two digits that change places change their answers' places?",
        bug: "the first digit's answer for all",
        cause: Cause::NotEquivariant,
        test: |digits, bug| {
            let ((_, net), (x, _)) = (Net::fresh()?, digits.rows(0, 16)?);
            assert_equivariant!(
                |x| {
                    let y = net.forward(x)?;
                    if bug { y.narrow(0, 0, 1)?.broadcast_as(y.shape()) } else { Ok(y) }
                },
                &x,
                |x| x.roll(5, 0)
            );
            Ok(())
        },
    },
    Item {
        assertion: "assert_equivalent!",
        question: "is a batch judged as its digits are one by one?",
        bug: "pixels scaled once more in the loop",
        cause: Cause::ValuesDiffer,
        test: |digits, bug| {
            let ((_, net), (x, _)) = (Net::fresh()?, digits.rows(0, 16)?);
            let scale = if bug { 16.0 } else { 1.0 };
            let one_by_one = |x: &Tensor| {
                let digit = |i| net.forward(&(x.narrow(0, i, 1)? / scale)?);
                let answers: Vec<Tensor> = (0..x.dim(0)?).map(digit).collect::<Result<_, _>>()?;
                Tensor::cat(&answers, 0)
            };
            assert_equivalent!(one_by_one, |x| net.forward(x), &x);
            Ok(())
        },
    },
    Item {
        assertion: "assert_sensitive!",
        question: "does more ink never mean less?",
        bug: "a sign lost",
        cause: Cause::WrongDirection,
        test: |digits, bug| {
            let (x, _) = digits.rows(0, 16)?;
            let sign = if bug { -1.0 } else { 1.0 };
            assert_sensitive!(
                |x| x.sum((1, 2, 3))? * sign,
                &x,
                |x| x + 0.1,
                direction = Direction::Up
            );
            Ok(())
        },
    },
    Item {
        assertion: "assert_layout_invariant!",
        question: "does a transposed view of the same digits give the same answers?",
        bug: "candle's linear layer on a view of three dimensions",
        cause: Cause::LayoutDependent,
        test: |digits, bug| {
            let (_, vb) = Seed::from_env_or(42).var_builder(DType::F32, &Device::Cpu);
            let layer = candle_nn::linear(8, 10, vb)?;
            let (x, _) = digits.rows(0, 16)?;
            assert_layout_invariant!(
                |x| match bug {
                    true => layer.forward(x),
                    false => layer.forward(&x.contiguous()?),
                },
                &x.squeeze(1)?
            );
            Ok(())
        },
    },
    Item {
        assertion: "assert_nonlinear!",
        question: "is the net more than one linear layer?",
        bug: "the activations left out",
        cause: Cause::NetworkLinear,
        test: |digits, bug| {
            let ((_, net), (x, _)) = (Net::fresh()?, digits.rows(0, 16)?);
            assert_nonlinear!(
                |x| match bug {
                    true => {
                        let x = net.conv2.forward(&net.conv1.forward(x)?)?;
                        net.head.forward(&x.flatten_from(1)?)
                    }
                    false => net.forward(x),
                },
                &x
            );
            Ok(())
        },
    },
];
