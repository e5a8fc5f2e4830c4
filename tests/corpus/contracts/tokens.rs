//! Losses of every token of a sequence.

use candle_core::{DType, Module, Tensor};
use candle_nn::ops;
use candling::{Cause, Learner, Result, Seed, contract};

use super::{
    super::{
        data::{self, TIME, VOCAB, weights},
        entry::{Entry, Subject},
        models::{Recurrent, Transformer},
    },
    GROUP, LOSS_CONTRACT, keeps,
};

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "E2b",
        group: GROUP,
        bug: "softmax for log_softmax before the likelihood of tokens",
        cause: Cause::LossOnProbabilities,
        assertion: LOSS_CONTRACT,
        buggy: |seed| tagger(seed, |x| ops::softmax(x, 1)),
        clean: |seed| tagger(seed, |x| ops::log_softmax(x, 1)),
        missed_today: None,
    },
    Entry {
        id: "E5b",
        group: GROUP,
        bug: "the losses of all tokens summed",
        cause: Cause::LossReduction,
        assertion: LOSS_CONTRACT,
        buggy: |seed| summed(seed, false),
        // A sum that is meant, and declared.
        clean: |seed| summed(seed, true),
        missed_today: None,
    },
    Entry {
        id: "E5e",
        group: GROUP,
        bug: "the mean over sequences of means over tokens: tokens of short sequences count more",
        cause: Cause::LossReduction,
        assertion: LOSS_CONTRACT,
        buggy: |seed| masked(seed, Masked::BySequence),
        clean: |seed| masked(seed, Masked::Right),
        missed_today: None,
    },
    Entry {
        id: "E12b",
        group: GROUP,
        bug: "a masked token loss divided by the number of all positions",
        cause: Cause::LossReduction,
        assertion: LOSS_CONTRACT,
        buggy: |seed| masked(seed, Masked::OverAll),
        clean: |seed| masked(seed, Masked::Right),
        missed_today: None,
    },
    Entry {
        id: "E12c",
        group: GROUP,
        bug: "labels of -100 clamped to 0, and counted as class 0",
        cause: Cause::PaddingLeak,
        assertion: LOSS_CONTRACT,
        buggy: |seed| minus_hundred(seed, true),
        clean: |seed| minus_hundred(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E14b",
        group: GROUP,
        bug: "a language model's loss without its shift to the next token",
        cause: Cause::PairsBroken,
        assertion: LOSS_CONTRACT,
        buggy: |seed| next_token(seed, true),
        clean: |seed| next_token(seed, false),
        missed_today: None,
    },
];

/// The cost of every token, flat.
fn costs(scores: &Tensor, tags: &Tensor) -> candle_core::Result<Tensor> {
    scores.gather(&tags.flatten_all()?.unsqueeze(1)?, 1)?.squeeze(1)?.neg()
}

fn log_softmax(logits: &Tensor) -> candle_core::Result<Tensor> {
    ops::log_softmax(&logits.flatten_to(1)?, 1)
}

fn tagger(seed: Seed, scores: fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Recurrent::gru(VOCAB, vb)?;
    let loss =
        move |logits: &Tensor, y: &Tensor| costs(&scores(&logits.flatten_to(1)?)?, y)?.mean_all();
    let chains = data::chains(seed)?;
    let x = chains.narrow(1, 0, TIME)?.contiguous()?;
    let y = chains.narrow(1, 1, TIME)?.contiguous()?;
    let learner = Learner::new(&vars, move |x| model.tag(x), loss);
    let contract = contract::cross_entropy(VOCAB).target_shape([TIME]);
    Ok(Subject::new(learner, (x, y)).test(keeps(loss, contract)))
}

fn summed(seed: Seed, declared: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Recurrent::lstm(5, vb)?;
    let loss = |logits: &Tensor, y: &Tensor| costs(&log_softmax(logits)?, y)?.sum_all();
    let learner = Learner::new(&vars, move |x| model.tag(x), loss);
    let contract = contract::cross_entropy(5).target_shape([TIME]);
    let contract = if declared { contract.sum() } else { contract };
    Ok(Subject::new(learner, data::tagged(seed)?).test(keeps(loss, contract)))
}

#[derive(Clone, Copy)]
enum Masked {
    Right,
    OverAll,
    BySequence,
}

fn masked(seed: Seed, how: Masked) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(5, vb)?;
    let loss = move |logits: &Tensor, tags: &Tensor| {
        let losses = costs(&log_softmax(logits)?, tags)?.reshape(tags.shape())?;
        let real = tags.ne(0u32)?.to_dtype(losses.dtype())?;
        let losses = (losses * &real)?;
        match how {
            Masked::Right => losses.sum_all()? / real.sum_all()?,
            Masked::OverAll => losses.mean_all(),
            Masked::BySequence => (losses.sum(1)? / real.sum(1)?.maximum(1.0)?)?.mean_all(),
        }
    };
    let forward = move |x: &Tensor| model.head.forward(&model.encode(x)?);
    let learner = Learner::new(&vars, forward, loss);
    let contract = contract::cross_entropy(5).target_shape([TIME]).ignore_index(0);
    Ok(Subject::new(learner, data::tagged(seed)?).test(keeps(loss, contract)))
}

/// As Hugging Face marks labels that do not count.
fn minus_hundred(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Recurrent::gru(5, vb)?;
    let loss = move |logits: &Tensor, tags: &Tensor| {
        let losses = costs(&log_softmax(logits)?, &tags.maximum(0i64)?)?;
        if buggy {
            return losses.mean_all();
        }
        let real = tags.flatten_all()?.ge(0i64)?.to_dtype(losses.dtype())?;
        (losses * &real)?.sum_all()? / real.sum_all()?
    };
    let learner = Learner::new(&vars, move |x| model.tag(x), loss);
    let (x, tags) = data::tagged(seed)?;
    let tags: Vec<Vec<u32>> = tags.to_vec2()?;
    let label = |tag: u32| if tag == 0 { -100 } else { i64::from(tag) };
    let tags: Vec<Vec<i64>> =
        tags.into_iter().map(|r| r.into_iter().map(label).collect()).collect();
    let contract = contract::cross_entropy(5).target_shape([TIME]).ignore_index(-100);
    Ok(Subject::new(learner, (x, Tensor::new(tags, data::CPU)?)).test(keeps(loss, contract)))
}

fn next_token(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Recurrent::gru(VOCAB, vb)?;
    let loss = move |logits: &Tensor, ids: &Tensor| {
        let (logits, ids) = match buggy {
            true => (logits.clone(), ids.clone()),
            false => {
                let time = logits.dim(1)? - 1;
                (logits.narrow(1, 0, time)?, ids.narrow(1, 1, time)?)
            }
        };
        costs(&log_softmax(&logits)?, &ids)?.mean_all()
    };
    let x = data::chains(seed)?;
    let learner = Learner::new(&vars, move |x| model.tag(x), loss);
    let contract = contract::cross_entropy(VOCAB).target_shape([TIME + 1]).next_token();
    Ok(Subject::new(learner, (&x, &x)).test(keeps(loss, contract)))
}
