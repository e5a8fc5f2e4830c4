//! What a training does.

use candle_nn::{AdamW, SGD, ops};
use candling::{Result, check::Weighting, prelude::*};

use super::super::models::{Net, batches};
use super::Item;

pub(crate) const ITEMS: &[Item] = &[
    Item {
        assertion: "assert_loss_decreases!",
        question: "does a step lower the loss?",
        bug: "a learning rate a thousand times too high",
        cause: Cause::LearningRateHigh,
        test: |digits, bug| {
            let ((vars, net), batch) = (Net::fresh()?, digits.batch());
            let rate = if bug { 100.0 } else { 0.1 };
            let learner = Learner::new(&vars, |x| net.forward(x), loss::cross_entropy)
                .optimizer(move |vars| SGD::new(vars, rate));
            assert_loss_decreases!(learner, batch);
            Ok(())
        },
    },
    Item {
        assertion: "assert_step_updates!",
        question: "does my own step move every variable, and by a sane share?",
        bug: "an optimizer that was given the head alone",
        cause: Cause::OptimizerMissesVariable,
        test: |digits, bug| {
            let ((vars, net), (x, y)) = (Net::fresh()?, digits.rows(0, 32)?);
            let loss = || loss::cross_entropy(&net.forward(&x)?, &y);
            let all = || vars.all_vars().into_iter();
            let owned: Vec<Var> = match bug {
                true => all().filter(|var| var.dims().first() == Some(&10)).collect(),
                false => all().collect(),
            };
            let mut optimizer = AdamW::new_lr(owned, 1e-3)?;
            assert_step_updates!(vars, || optimizer.backward_step(&loss()?), loss = loss);
            Ok(())
        },
    },
    Item {
        assertion: "assert_accumulation_equivalent!",
        question: "do micro-batches add up to the batch?",
        bug: "the mean of the means of 12, 12 and 8 digits",
        cause: Cause::AccumulationDiffers,
        test: |digits, bug| {
            let ((vars, net), batch) = (Net::fresh()?, digits.batch());
            let learner = Learner::new(&vars, |x| net.forward(x), loss::cross_entropy);
            let weighting = if bug { Weighting::Equal } else { Weighting::Rows };
            assert_accumulation_equivalent!(
                learner,
                batch,
                parts = [12, 12, 8],
                weighting = weighting
            );
            Ok(())
        },
    },
    Item {
        assertion: "assert_learns_from_input!",
        question: "does it learn from the picture, and not from the labels' shares alone?",
        bug: "pixels that drown: divided by 255 twice more",
        cause: Cause::InputNotLearned,
        test: |digits, bug| {
            let ((vars, net), batch) = (Net::fresh()?, digits.batch());
            let scale = if bug { 255.0 * 255.0 } else { 1.0 };
            let learner =
                Learner::new(&vars, |x: &Tensor| net.forward(&(x / scale)?), loss::cross_entropy);
            assert_learns_from_input!(learner, batch, steps = 60);
            Ok(())
        },
    },
    Item {
        assertion: "assert_capacity_helps!",
        question: "does a wider net fit better?",
        bug: "a wider net whose middle is multiplied by 0",
        cause: Cause::OutputConstant,
        test: |digits, bug| {
            let batch = digits.batch();
            let of_width = |width: usize, gain: f64| -> Result<Learner<'static>> {
                let (vars, vb) = Seed::from_env_or(42).var_builder(DType::F32, &Device::Cpu);
                let net = Net::of_width(width, vb)?;
                let forward = move |x: &Tensor| net.head.forward(&(net.features(x)? * gain)?);
                Ok(Learner::new(&vars, forward, loss::cross_entropy))
            };
            let (small, large) = (of_width(1, 1.0)?, of_width(8, if bug { 0.0 } else { 1.0 })?);
            assert_capacity_helps!(small, large, batch, steps = 30);
            Ok(())
        },
    },
    Item {
        assertion: "assert_reproducible!",
        question: "does the same seed give the same training?",
        bug: "noise on the pixels that no seed reaches",
        cause: Cause::NotReproducible,
        test: |digits, bug| {
            let (x, y) = digits.rows(0, 32)?;
            assert_reproducible!(|seed| {
                let (vars, vb) = seed.var_builder(DType::F32, &Device::Cpu);
                let net = Net::new(vb)?;
                let mut optimizer = AdamW::new_lr(vars.all_vars(), 1e-3)?;
                let mut losses = Vec::new();
                for (step, (x, y)) in batches(&x, &y, 0, true)?.into_iter().enumerate() {
                    let x = if bug { (&x + x.randn_like(0.0, 0.1)?)? } else { x };
                    let loss = loss::cross_entropy(&net.forward(&x)?, &y)?;
                    optimizer.backward_step(&loss)?;
                    losses.push((format!("the loss of step {step}"), loss));
                }
                Ok(losses)
            });
            Ok(())
        },
    },
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
