//! Losses of one label a row.

use candle_core::{DType, Module, Tensor};
use candle_nn::{Optimizer, SGD, loss, ops};
use candling::{Cause, Learner, Result, Seed, contract};

use super::{
    super::{
        data::{self, CPU, weights},
        entry::{Entry, Subject},
        models::{ConvNet, Mlp, Recurrent, Transformer, mean_pool},
    },
    GROUP, LOSS_CONTRACT, keeps,
};

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "E1b",
        group: GROUP,
        bug: "softmax inside the loss, before a cross-entropy that applies its own",
        cause: Cause::LossOnProbabilities,
        assertion: LOSS_CONTRACT,
        buggy: |seed| softmax_inside(seed, true),
        clean: |seed| softmax_inside(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E3b",
        group: GROUP,
        bug: "raw outputs of a convnet into nll",
        cause: Cause::LossOnLogits,
        assertion: LOSS_CONTRACT,
        buggy: |seed| images(seed, loss::nll),
        clean: |seed| images(seed, loss::cross_entropy),
        missed_today: None,
    },
    Entry {
        id: "E5c",
        group: GROUP,
        bug: "a cross-entropy by one-hot rows, averaged over rows and classes",
        cause: Cause::LossReduction,
        assertion: LOSS_CONTRACT,
        buggy: |seed| by_one_hot(seed, true),
        clean: |seed| by_one_hot(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E6b",
        group: GROUP,
        bug: "the mean log-likelihood for its negative",
        cause: Cause::LossSign,
        assertion: LOSS_CONTRACT,
        buggy: |seed| likelihood(seed, true),
        clean: |seed| likelihood(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E8b",
        group: GROUP,
        bug: "the squared error of the expected class index",
        cause: Cause::NotInvariant,
        assertion: LOSS_CONTRACT,
        buggy: |seed| expected_index(seed, true),
        clean: |seed| expected_index(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E10b",
        group: GROUP,
        bug: "a focal loss with softmax, then log",
        cause: Cause::LossUnstable,
        assertion: LOSS_CONTRACT,
        buggy: |seed| focal(seed, |x| ops::softmax(x, 1)?.log()),
        clean: |seed| focal(seed, |x| ops::log_softmax(x, 1)),
        missed_today: None,
    },
    Entry {
        id: "E15b",
        group: GROUP,
        bug: "the scores pass through a Vec on their way into the loss",
        cause: Cause::LossDetached,
        assertion: LOSS_CONTRACT,
        buggy: |seed| through_vec(seed, true),
        clean: |seed| through_vec(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E18b",
        group: GROUP,
        bug: "label smoothing by PyTorch's weight for the label and the paper's for the others",
        cause: Cause::LossReduction,
        assertion: LOSS_CONTRACT,
        buggy: |seed| smoothed(seed, 0.9 + 0.1 / 4.0, 0.1 / 3.0),
        clean: |seed| smoothed(seed, 0.9 + 0.1 / 4.0, 0.1 / 4.0),
        missed_today: None,
    },
    Entry {
        id: "L7b",
        group: GROUP,
        bug: "the share of label smoothing taken for what is left to the label",
        cause: Cause::ValuesDiffer,
        assertion: LOSS_CONTRACT,
        buggy: |seed| smoothed(seed, 0.1, 0.9 / 3.0),
        clean: |seed| smoothed(seed, 0.9, 0.1 / 3.0),
        missed_today: None,
    },
    Entry {
        id: "E27",
        group: GROUP,
        bug: "a focal loss that weighs by p where 1 - p belongs: easy rows count most",
        cause: Cause::ValuesDiffer,
        assertion: LOSS_CONTRACT,
        buggy: |seed| focal_weight(seed, true),
        clean: |seed| focal_weight(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E30",
        group: GROUP,
        bug: "a weighted cross-entropy divided by the number of rows, not by the sum of their weights",
        cause: Cause::LossReduction,
        assertion: LOSS_CONTRACT,
        buggy: |seed| weighted(seed, true),
        clean: |seed| weighted(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E32",
        group: GROUP,
        bug: "a batch size of 8 inside the loss: the rows behind it do not count",
        cause: Cause::LossIgnoresRows,
        assertion: LOSS_CONTRACT,
        buggy: |seed| first_rows(seed, true),
        clean: |seed| first_rows(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E33",
        group: GROUP,
        bug: "log_softmax over the rows, not over the classes",
        cause: Cause::BatchMixed,
        assertion: LOSS_CONTRACT,
        buggy: |seed| softmax_dim(seed, 0),
        clean: |seed| softmax_dim(seed, 1),
        missed_today: None,
    },
];

fn softmax_inside(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let model = Transformer::new(4, vb)?;
    let loss = move |logits: &Tensor, y: &Tensor| match buggy {
        true => loss::cross_entropy(&ops::softmax(logits, 1)?, y),
        // Applied twice, a log_softmax is what it was.
        false => loss::cross_entropy(&ops::log_softmax(logits, 1)?, y),
    };
    let learner = Learner::new(&vars, move |x| model.classify(x), loss);
    let contract = contract::cross_entropy(4).dtype(DType::F64);
    Ok(Subject::new(learner, data::sequences(seed)?).test(keeps(loss, contract)))
}

fn images(
    seed: Seed,
    loss: fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let norm = candle_nn::group_norm(2, ConvNet::CHANNELS, 1e-5, vb.pp("norm"))?;
    let model = ConvNet::new(4, vb)?;
    let forward = move |x: &Tensor| model.forward(x, |x| norm.forward(x), mean_pool);
    let learner = Learner::new(&vars, forward, loss);
    Ok(Subject::new(learner, data::images(seed, 4)?).test(keeps(loss, contract::cross_entropy(4))))
}

fn hot(y: &Tensor, classes: usize, dtype: DType) -> candle_core::Result<Tensor> {
    candle_nn::encoding::one_hot(y.clone(), classes, 1f32, 0f32)?.to_dtype(dtype)
}

fn by_one_hot(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let model = Mlp::new(&[6, 32, 4], Tensor::tanh, vb)?;
    let loss = move |logits: &Tensor, y: &Tensor| {
        let losses = (hot(y, 4, logits.dtype())? * ops::log_softmax(logits, 1)?)?;
        match buggy {
            true => losses.mean_all()?.neg(),
            false => losses.sum(1)?.mean_all()?.neg(),
        }
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    let contract = contract::cross_entropy(4).dtype(DType::F64);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F64)?).test(keeps(loss, contract)))
}

fn likelihood(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Recurrent::gru(4, vb)?;
    let loss = move |logits: &Tensor, y: &Tensor| {
        let scores = ops::log_softmax(logits, 1)?;
        let likelihood = scores.gather(&y.unsqueeze(1)?, 1)?.mean_all()?;
        if buggy { Ok(likelihood) } else { likelihood.neg() }
    };
    let learner = Learner::new(&vars, move |x| model.classify(x), loss);
    Ok(Subject::new(learner, data::sequences(seed)?).test(keeps(loss, contract::cross_entropy(4))))
}

fn expected_index(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 4], Tensor::silu, vb)?;
    let loss = move |logits: &Tensor, y: &Tensor| {
        if !buggy {
            return loss::cross_entropy(logits, y);
        }
        let index = Tensor::arange(0f32, 4.0, CPU)?;
        let expected = ops::softmax(logits, 1)?.broadcast_mul(&index)?.sum(1)?;
        loss::mse(&expected, &y.to_dtype(DType::F32)?)
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?)
        .test(keeps(loss, contract::cross_entropy(4))))
}

type Logs = fn(&Tensor) -> candle_core::Result<Tensor>;

/// `-(1 - p)^2 log p` of the label, in plain numbers.
fn focal_by_hand() -> candling::Contract {
    contract::custom("focal loss of gamma 2").labels(4).per_row(|logits, label| {
        let p = logits[label[0] as usize].exp() / logits.iter().map(|z| z.exp()).sum::<f64>();
        -(1.0 - p).powi(2) * p.ln()
    })
}

fn focal(seed: Seed, logs: Logs) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 4], Tensor::gelu, vb)?;
    let loss = move |logits: &Tensor, y: &Tensor| {
        let log_p = logs(logits)?.gather(&y.unsqueeze(1)?, 1)?;
        ((1.0 - log_p.exp()?)?.sqr()? * log_p)?.mean_all()?.neg()
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    let sure = Tensor::new(&[[100f32, -100.0, 0.0, 0.0]], CPU)?;
    let contract = focal_by_hand().finite_at(&sure, &Tensor::new(&[1u32], CPU)?);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?).test(keeps(loss, contract)))
}

fn focal_weight(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Recurrent::lstm(4, vb)?;
    let loss = move |logits: &Tensor, y: &Tensor| {
        let log_p = ops::log_softmax(logits, 1)?.gather(&y.unsqueeze(1)?, 1)?;
        let weight = if buggy { log_p.exp()? } else { (1.0 - log_p.exp()?)? };
        (weight.sqr()? * log_p)?.mean_all()?.neg()
    };
    let learner = Learner::new(&vars, move |x| model.classify(x), loss);
    Ok(Subject::new(learner, data::sequences(seed)?).test(keeps(loss, focal_by_hand())))
}

fn through_vec(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 4], Tensor::relu, vb)?;
    let loss = move |logits: &Tensor, y: &Tensor| {
        let logits = match buggy {
            true => Tensor::new(logits.to_vec2::<f32>()?, CPU)?,
            false => logits.clone(),
        };
        loss::cross_entropy(&logits, y)
    };
    let learner =
        Learner::new(&vars, move |x| model.forward(x), loss).optimizer(|vars| SGD::new(vars, 0.3));
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?)
        .test(keeps(loss, contract::cross_entropy(4))))
}

fn smoothed(seed: Seed, own: f64, other: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 24, 4], Tensor::relu, vb)?;
    let loss = move |logits: &Tensor, y: &Tensor| {
        let weights = hot(y, 4, logits.dtype())?.affine(own - other, other)?;
        (weights * ops::log_softmax(logits, 1)?)?.sum(1)?.mean_all()?.neg()
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    let contract = contract::cross_entropy(4).label_smoothing(0.1);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?)
        .loss_below(0.5)
        .test(keeps(loss, contract)))
}

fn weighted(seed: Seed, buggy: bool) -> Result<Subject> {
    const WEIGHTS: [f64; 4] = [1.0, 1.0, 2.0, 5.0];
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 4], Tensor::tanh, vb)?;
    let loss = move |logits: &Tensor, y: &Tensor| {
        let weights = Tensor::new(&WEIGHTS, CPU)?.to_dtype(logits.dtype())?.index_select(y, 0)?;
        let scores = ops::log_softmax(logits, 1)?.gather(&y.unsqueeze(1)?, 1)?.squeeze(1)?;
        let losses = (scores.neg()? * &weights)?;
        if buggy { losses.mean_all() } else { losses.sum_all()? / weights.sum_all()? }
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    let contract = contract::cross_entropy(4).class_weights(WEIGHTS);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?).test(keeps(loss, contract)))
}

fn first_rows(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 4], Tensor::silu, vb)?;
    let loss = move |logits: &Tensor, y: &Tensor| {
        let rows = if buggy { 8 } else { logits.dim(0)? };
        loss::cross_entropy(&logits.narrow(0, 0, rows)?, &y.narrow(0, 0, rows)?)
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?)
        .test(keeps(loss, contract::cross_entropy(4))))
}

fn softmax_dim(seed: Seed, dim: usize) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(4, vb)?;
    let loss = move |logits: &Tensor, y: &Tensor| loss::nll(&ops::log_softmax(logits, dim)?, y);
    let learner = Learner::new(&vars, move |x| model.classify(x), loss);
    Ok(Subject::new(learner, data::sequences(seed)?).test(keeps(loss, contract::cross_entropy(4))))
}
