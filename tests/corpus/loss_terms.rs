//! Group E: what the loss is summed over.

use candle_core::{DType, Module, Tensor};
use candle_nn::{loss, ops};
use candling::{Cause, Learner, Result, Seed, check::AccumulationEquivalent, contract};

use super::{
    contracts::{LOSS_CONTRACT, keeps},
    data::{self, TIME, weights},
    entry::{
        Assertion::{self, Close, OverfitsBatch},
        Entry, Subject,
    },
    models::{Mlp, Recurrent, Transformer},
};

const GROUP: &str = "loss";

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "E12",
        group: GROUP,
        bug: "padded positions count in the loss",
        cause: Cause::PaddingLeak,
        assertion: LOSS_CONTRACT,
        buggy: |seed| padding_counted(seed, true),
        clean: |seed| padding_counted(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E14",
        group: GROUP,
        bug: "a language model without the shift: the targets are the inputs",
        // The catalogue has no code of its own for a target that leaks into the input.
        cause: Cause::PairsBroken,
        assertion: Close,
        buggy: |seed| not_shifted(seed, true),
        clean: |seed| not_shifted(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E16",
        group: GROUP,
        bug: "the auxiliary loss is computed and not added",
        cause: Cause::VariableUnused,
        assertion: Assertion::GradientsFlow,
        buggy: |seed| auxiliary_dropped(seed, true),
        clean: |seed| auxiliary_dropped(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E22",
        group: GROUP,
        bug: "the mean over micro-batches of means over unequal numbers of tokens",
        cause: Cause::AccumulationDiffers,
        assertion: Assertion::Test("accumulation_equivalent"),
        buggy: |seed| mean_of_means(seed, true),
        clean: |seed| mean_of_means(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B1",
        group: GROUP,
        bug: "predictions of (rows, 1) less targets of (rows): every row against every other",
        cause: Cause::LossBroadcast,
        assertion: OverfitsBatch,
        buggy: |seed| broadcast(seed, true),
        clean: |seed| broadcast(seed, false),
        missed_today: None,
    },
];

/// The negative log-likelihood of every token, flat.
fn of_tokens(logits: &Tensor, tags: &Tensor) -> candle_core::Result<(Tensor, Tensor)> {
    let tags = tags.flatten_all()?;
    let scores = ops::log_softmax(&logits.flatten_to(1)?, 1)?;
    let losses = scores.gather(&tags.unsqueeze(1)?, 1)?.squeeze(1)?.neg()?;
    let real = tags.ne(0u32)?.to_dtype(losses.dtype())?;
    Ok((losses, real))
}

fn padding_counted(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Recurrent::lstm(5, vb)?;
    let loss = move |logits: &Tensor, tags: &Tensor| {
        let (losses, real) = of_tokens(logits, tags)?;
        match buggy {
            true => losses.mean_all(),
            false => (losses * &real)?.sum_all()? / real.sum_all()?,
        }
    };
    let learner = Learner::new(&vars, move |x| model.tag(x), loss);
    let contract = contract::cross_entropy(5).target_shape([TIME]).ignore_index(0);
    Ok(Subject::new(learner, data::tagged(seed)?).test(keeps(loss, contract)))
}

fn not_shifted(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Recurrent::gru(data::VOCAB, vb)?;
    let chains = data::chains(seed)?;
    let x = chains.narrow(1, 0, data::TIME)?.contiguous()?;
    let y = if buggy { x.clone() } else { chains.narrow(1, 1, data::TIME)?.contiguous()? };
    let loss = |logits: &Tensor, y: &Tensor| {
        loss::cross_entropy(&logits.flatten_to(1)?, &y.flatten_all()?)
    };
    let learner = Learner::new(&vars, move |x| model.tag(x), loss);
    // Each target is the next position's input.
    let (targets, next) = (y.narrow(1, 0, data::TIME - 1)?, x.narrow(1, 1, data::TIME - 1)?);
    Ok(Subject::new(learner, (x, y)).compared(targets, next))
}

fn auxiliary_dropped(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let trunk = Mlp::new(&[6, 24, 24], Tensor::relu, vb.pp("trunk"))?;
    let classes = candle_nn::linear(24, 4, vb.pp("classes"))?;
    let auxiliary = candle_nn::linear(24, 1, vb.pp("auxiliary"))?;
    let (x, y) = data::classes(seed, 6, 4, DType::F32)?;
    let target = data::regression(seed, 6, DType::F32)?.1;
    let total = move || {
        let hidden = trunk.forward(&x)?.relu()?;
        let main = loss::cross_entropy(&classes.forward(&hidden)?, &y)?;
        let side = loss::mse(&auxiliary.forward(&hidden)?, &target)?;
        match buggy {
            true => Ok(main),
            false => main + (side * 0.5)?,
        }
    };
    Ok(Subject::new(Learner::from_loss(&vars, total), ()))
}

fn mean_of_means(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(5, vb)?;
    let loss = move |logits: &Tensor, tags: &Tensor| {
        let (losses, real) = of_tokens(logits, tags)?;
        let losses = (losses * &real)?;
        if !buggy {
            return losses.sum_all()? / real.sum_all()?;
        }
        let micro = losses.elem_count() / 4;
        let means = (0..4).map(|i| {
            let part = |t: &Tensor| t.narrow(0, i * micro, micro)?.sum_all();
            part(&losses)? / part(&real)?
        });
        Tensor::stack(&means.collect::<candle_core::Result<Vec<_>>>()?, 0)?.mean_all()
    };
    let forward = move |x: &Tensor| model.head.forward(&model.encode(x)?);
    let learner = Learner::new(&vars, forward, loss);
    // As the loop has them.
    Ok(Subject::new(learner, data::tagged(seed)?).test(|learner, batch| {
        AccumulationEquivalent::new().parts([4, 4, 4, 4]).check(learner, batch)
    }))
}

fn broadcast(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 1], Tensor::tanh, vb)?;
    let (x, y) = data::regression(seed, 6, DType::F32)?;
    let loss = move |output: &Tensor, y: &Tensor| {
        let output = if buggy { output.clone() } else { output.squeeze(1)? };
        output.broadcast_sub(y)?.sqr()?.mean_all()
    };
    Ok(Subject::new(Learner::new(&vars, move |x| model.forward(x), loss), (x, y.squeeze(1)?)))
}
