//! The model before its first step.

use candling::{expected, prelude::*};

use super::{super::models::Net, Item};

pub(crate) const ITEMS: &[Item] = &[
    Item {
        assertion: "assert_initialized!",
        question: "does every weight start at random values of a sane size?",
        bug: "a weight that `vb.get` makes without a hint: zeros",
        cause: Cause::WeightsConstant,
        test: |_, bug| {
            let (vars, vb) = Seed::from_env_or(42).var_builder(DType::F32, &Device::Cpu);
            let _net = Net::new(vb.clone())?;
            if bug {
                vb.pp("extra").get((10, 256), "weight")?;
            }
            assert_initialized!(vars);
            Ok(())
        },
    },
    Item {
        assertion: "assert_initial_loss!",
        question: "is the first loss that of ten digits it knows nothing of, ln 10?",
        bug: "pixels from 0 to 255",
        cause: Cause::InputNotScaled,
        test: |digits, bug| {
            let ((vars, net), (x, y)) = (Net::fresh()?, digits.rows(0, 64)?);
            let x = if bug { (x * 255.0)? } else { x };
            let learner = Learner::new(&vars, |x| net.forward(x), loss::cross_entropy);
            assert_initial_loss!(learner, (&x, &y), expected::cross_entropy(10));
            Ok(())
        },
    },
];
