//! Losses of elements: regressions, answers of yes and no, masks, distributions.

use candle_core::{DType, Module, Tensor};
use candle_nn::{loss, ops};
use candling::{Cause, Learner, Result, Seed, contract};

use super::{
    super::{
        data::{self, CPU, ROWS, weights},
        entry::{Entry, Subject},
        models::{Mlp, stable_bce},
    },
    GROUP, LOSS_CONTRACT, keeps,
};

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "E4b",
        group: GROUP,
        bug: "a sigmoid inside the loss of several labels a row, which applies its own",
        cause: Cause::LossOnProbabilities,
        assertion: LOSS_CONTRACT,
        buggy: |seed| several_labels(seed, true),
        clean: |seed| several_labels(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E5d",
        group: GROUP,
        bug: "a squared error averaged over the features and summed over the rows",
        cause: Cause::LossReduction,
        assertion: LOSS_CONTRACT,
        buggy: |seed| wrong_axis(seed, true),
        // Summed over the features, averaged over the rows: a scale, and no mistake.
        clean: |seed| wrong_axis(seed, false),
        missed_today: None,
    },
    Entry {
        id: "B1c",
        group: GROUP,
        bug: "logits of (rows, 1) against answers of (rows), broadcast, in a binary cross-entropy",
        cause: Cause::LossBroadcast,
        assertion: LOSS_CONTRACT,
        buggy: |seed| broadcast_answers(seed, true),
        clean: |seed| broadcast_answers(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E23",
        group: GROUP,
        bug: "a Kullback-Leibler divergence with teacher and student in each other's place",
        cause: Cause::ValuesDiffer,
        assertion: LOSS_CONTRACT,
        buggy: |seed| distilled(seed, |s, t| (s.exp()? * (s - t.log()?)?)?.sum(1)?.mean_all()),
        clean: |seed| distilled(seed, |s, t| (t * (t.log()? - s)?)?.sum(1)?.mean_all()),
        missed_today: None,
    },
    Entry {
        id: "E24",
        group: GROUP,
        bug: "a Kullback-Leibler divergence averaged over rows and classes: PyTorch's \"mean\" for \"batchmean\"",
        cause: Cause::LossReduction,
        assertion: LOSS_CONTRACT,
        buggy: |seed| distilled(seed, |s, t| (t * (t.log()? - s)?)?.mean_all()),
        clean: |seed| distilled(seed, |s, t| (t * (t.log()? - s)?)?.sum_all()? / s.dim(0)? as f64),
        missed_today: None,
    },
    Entry {
        id: "E28",
        group: GROUP,
        bug: "a Dice loss without its factor of 2: a perfect mask costs one half",
        cause: Cause::ValuesDiffer,
        assertion: LOSS_CONTRACT,
        buggy: |seed| dice(seed, 1.0),
        clean: |seed| dice(seed, 2.0),
        missed_today: None,
    },
    Entry {
        id: "E29",
        group: GROUP,
        bug: "a Huber loss of delta 1 where the paper has 0.1",
        cause: Cause::ValuesDiffer,
        assertion: LOSS_CONTRACT,
        buggy: |seed| huber(seed, 1.0),
        clean: |seed| huber(seed, 0.1),
        missed_today: None,
    },
    Entry {
        id: "E31",
        group: GROUP,
        bug: "the weight of the positives on the term of the negatives",
        cause: Cause::ValuesDiffer,
        assertion: LOSS_CONTRACT,
        buggy: |seed| positive_weight(seed, true),
        clean: |seed| positive_weight(seed, false),
        missed_today: None,
    },
    Entry {
        id: "I5c",
        group: GROUP,
        bug: "the logarithm of probabilities that a sigmoid has rounded to 0 or 1",
        cause: Cause::LossUnstable,
        assertion: LOSS_CONTRACT,
        buggy: |seed| of_probabilities(seed, true),
        clean: |seed| of_probabilities(seed, false),
        missed_today: None,
    },
];

/// Answers of yes and no, three a row.
fn answers(seed: Seed, dtype: DType) -> Result<(Tensor, Tensor)> {
    let x = seed.normal("x", (ROWS, 6), dtype, CPU)?;
    let y = seed.uniform("y", 0.0..1.0, (ROWS, 3), dtype, CPU)?.gt(0.5)?.to_dtype(dtype)?;
    Ok((x, y))
}

fn several_labels(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let model = Mlp::new(&[6, 32, 3], Tensor::gelu, vb)?;
    let loss = move |logits: &Tensor, y: &Tensor| match buggy {
        true => stable_bce(&ops::sigmoid(logits)?, y),
        false => stable_bce(logits, y),
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    let contract = contract::bce_with_logits().dtype(DType::F64);
    Ok(Subject::new(learner, answers(seed, DType::F64)?).test(keeps(loss, contract)))
}

fn wrong_axis(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 3], Tensor::tanh, vb)?;
    let loss = move |output: &Tensor, y: &Tensor| {
        let errors = (output - y)?.sqr()?;
        if buggy { errors.mean(1)?.sum_all() } else { errors.sum(1)?.mean_all() }
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    let x = seed.normal("x", (ROWS, 6), DType::F32, CPU)?;
    let y = x.narrow(1, 0, 3)?.sin()?;
    Ok(Subject::new(learner, (x, y)).test(keeps(loss, contract::mse())))
}

fn broadcast_answers(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 1], Tensor::relu, vb)?;
    let loss = move |logits: &Tensor, y: &Tensor| {
        let logits = if buggy { logits.clone() } else { logits.squeeze(1)? };
        let tail = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
        let linear = logits.relu()?.broadcast_sub(&logits.broadcast_mul(y)?)?;
        linear.broadcast_add(&tail)?.mean_all()
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    let (x, y) = data::binary(seed, 6)?;
    let contract = contract::bce_with_logits().shape([1]).target_shape([]);
    Ok(Subject::new(learner, (x, y.squeeze(1)?)).test(keeps(loss, contract)))
}

/// A student that learns a teacher's probabilities.
fn distilled(
    seed: Seed,
    loss: fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 4], Tensor::silu, vb)?;
    let forward = move |x: &Tensor| ops::log_softmax(&model.forward(x)?, 1);
    let learner = Learner::new(&vars, forward, loss);
    let x = seed.normal("x", (ROWS, 6), DType::F32, CPU)?;
    let teacher = ops::softmax(&seed.normal("teacher", (ROWS, 4), DType::F32, CPU)?, 1)?;
    Ok(Subject::new(learner, (x, teacher)).test(keeps(loss, contract::kl(4))))
}

fn dice(seed: Seed, factor: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 3], Tensor::relu, vb)?;
    let loss = move |p: &Tensor, y: &Tensor| {
        let overlap = ((p * y)?.sum_all()? * factor)?;
        1.0 - ((overlap + 1.0)? / ((p.sum_all()? + y.sum_all()?)? + 1.0)?)?
    };
    let learner = Learner::new(&vars, move |x| ops::sigmoid(&model.forward(x)?), loss);
    let mask = Tensor::new(&[[1f32, 0.0, 1.0], [0.0, 1.0, 1.0]], CPU)?;
    let contract = contract::custom("Dice loss")
        .predictions(0.0..1.0)
        .targets(0.0..1.0)
        .perfect(&mask, &mask, 0.0)
        .of_batch(|p, y| {
            let overlap: f64 = p.iter().zip(y).map(|(p, y)| p * y).sum();
            1.0 - (2.0 * overlap + 1.0) / (p.iter().sum::<f64>() + y.iter().sum::<f64>() + 1.0)
        });
    Ok(Subject::new(learner, answers(seed, DType::F32)?)
        .loss_below(0.2)
        .test(keeps(loss, contract)))
}

fn huber(seed: Seed, delta: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let model = Mlp::new(&[6, 32, 1], Tensor::tanh, vb)?;
    let loss = move |p: &Tensor, y: &Tensor| loss::huber(p, y, delta);
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    let contract = contract::huber(0.1).shape([1]).dtype(DType::F64);
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F64)?).test(keeps(loss, contract)))
}

fn positive_weight(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 1], Tensor::gelu, vb)?;
    let softplus = |x: &Tensor| x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?;
    let loss = move |x: &Tensor, y: &Tensor| {
        let (ones, zeros) = if buggy { (1.0, 4.0) } else { (4.0, 1.0) };
        let ones = ((y * softplus(&x.neg()?)?)? * ones)?;
        let zeros = (((1.0 - y)? * softplus(x)?)? * zeros)?;
        (ones + zeros)?.mean_all()
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    let contract = contract::bce_with_logits().positive_weight(4.0).shape([1]);
    Ok(Subject::new(learner, data::binary(seed, 6)?).test(keeps(loss, contract)))
}

fn of_probabilities(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 1], Tensor::tanh, vb)?;
    let loss = move |p: &Tensor, y: &Tensor| {
        let p = if buggy { p.clone() } else { p.clamp(1e-6f32, 1.0 - 1e-6f32)? };
        let ones = (y * p.log()?)?;
        (ones + ((1.0 - y)? * (1.0 - p)?.log()?)?)?.mean_all()?.neg()
    };
    let learner = Learner::new(&vars, move |x| ops::sigmoid(&model.forward(x)?), loss);
    let contract = contract::bce().shape([1]);
    Ok(Subject::new(learner, data::binary(seed, 6)?).test(keeps(loss, contract)))
}
