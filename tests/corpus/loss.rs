//! Group E: the loss.

use candle_core::{DType, Module, Tensor};
use candle_nn::{Optimizer, SGD, loss, ops};
use candling::{Cause, Learner, Result, Seed, contract};

use super::{
    contracts::{LOSS_CONTRACT, keeps},
    data::{self, weights},
    entry::{Assertion::OverfitsBatch, Entry, Subject},
    models::{ConvNet, Mlp, Recurrent, Transformer, mean_pool, stable_bce},
};

const GROUP: &str = "loss";

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "E1",
        group: GROUP,
        bug: "softmax, then a cross-entropy that applies its own",
        cause: Cause::LossOnProbabilities,
        assertion: OverfitsBatch,
        buggy: |seed| softmax_then_cross_entropy(seed, true),
        clean: |seed| softmax_then_cross_entropy(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E2",
        group: GROUP,
        bug: "softmax instead of log_softmax before nll",
        cause: Cause::LossOnProbabilities,
        assertion: OverfitsBatch,
        buggy: |seed| softmax_then_nll(seed, true),
        clean: |seed| softmax_then_nll(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E3",
        group: GROUP,
        bug: "logits into nll",
        cause: Cause::LossOnLogits,
        assertion: OverfitsBatch,
        buggy: |seed| logits_into_nll(seed, true),
        clean: |seed| logits_into_nll(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E4",
        group: GROUP,
        bug: "sigmoid, then a binary cross-entropy that applies its own",
        cause: Cause::LossOnProbabilities,
        assertion: OverfitsBatch,
        buggy: |seed| sigmoid_then_bce(seed, true),
        clean: |seed| sigmoid_then_bce(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E5",
        group: GROUP,
        bug: "sum_all for mean_all: the step grows with the batch",
        cause: Cause::LossReduction,
        assertion: LOSS_CONTRACT,
        buggy: |seed| summed(seed, true),
        clean: |seed| summed(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E6",
        group: GROUP,
        bug: "the loss negated",
        cause: Cause::LossSign,
        assertion: OverfitsBatch,
        buggy: |seed| negated(seed, true),
        clean: |seed| negated(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E8",
        group: GROUP,
        bug: "the squared error of a class's index: class 3 counts as nearer to 4 than to 9",
        // Renaming the classes changes the loss of the same mistake.
        cause: Cause::NotInvariant,
        assertion: LOSS_CONTRACT,
        buggy: |seed| index_as_number(seed, true),
        clean: |seed| index_as_number(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E9",
        group: GROUP,
        bug: "a cross-entropy for a regression: the logarithm of raw outputs",
        cause: Cause::LossOnLogits,
        assertion: OverfitsBatch,
        buggy: |seed| logarithm_of_prediction(seed, true),
        clean: |seed| logarithm_of_prediction(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E10",
        group: GROUP,
        bug: "a binary cross-entropy by hand without an epsilon",
        cause: Cause::LossUnstable,
        assertion: LOSS_CONTRACT,
        buggy: |seed| without_epsilon(seed, true),
        clean: |seed| without_epsilon(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E15",
        group: GROUP,
        bug: "the loss of detached logits",
        cause: Cause::LossDetached,
        assertion: OverfitsBatch,
        buggy: |seed| detached(seed, true),
        clean: |seed| detached(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E18",
        group: GROUP,
        bug: "label smoothing spread by the number of classes, not of the others: the weights do not sum to 1",
        cause: Cause::LossReduction,
        assertion: LOSS_CONTRACT,
        buggy: |seed| smoothing_mixed_up(seed, true),
        clean: |seed| smoothing_mixed_up(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E19",
        group: GROUP,
        bug: "one minus the accuracy as the loss",
        cause: Cause::LossDetached,
        assertion: OverfitsBatch,
        buggy: |seed| accuracy_as_loss(seed, true),
        clean: |seed| accuracy_as_loss(seed, false),
        missed_today: None,
    },
];

fn softmax_then_cross_entropy(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[8, 32, 10], Tensor::relu, vb)?;
    let forward = move |x: &Tensor| match buggy {
        true => ops::softmax(&model.forward(x)?, 1),
        false => model.forward(x),
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 8, 10, DType::F32)?))
}

fn softmax_then_nll(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let norm = candle_nn::batch_norm(ConvNet::CHANNELS, 1e-5, vb.pp("norm"))?;
    let model = ConvNet::new(4, vb)?;
    let forward = move |x: &Tensor, train: bool| {
        let norm = |x: &Tensor| candle_nn::ModuleT::forward_t(&norm, x, train);
        let logits = model.forward(x, norm, mean_pool)?;
        match buggy {
            true => ops::softmax(&logits, 1),
            false => ops::log_softmax(&logits, 1),
        }
    };
    let learner = Learner::with_modes(&vars, forward, loss::nll);
    Ok(Subject::new(learner, data::images(seed, 4)?))
}

fn logits_into_nll(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Recurrent::gru(4, vb)?;
    let loss = move |logits: &Tensor, y: &Tensor| match buggy {
        true => loss::nll(logits, y),
        false => loss::nll(&ops::log_softmax(logits, 1)?, y),
    };
    let learner = Learner::new(&vars, move |x| model.classify(x), loss);
    Ok(Subject::new(learner, data::sequences(seed)?))
}

fn sigmoid_then_bce(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 24, 1], Tensor::silu, vb)?;
    let forward = move |x: &Tensor| match buggy {
        true => ops::sigmoid(&model.forward(x)?),
        false => model.forward(x),
    };
    let learner = match buggy {
        true => Learner::new(&vars, forward, loss::binary_cross_entropy_with_logit),
        false => Learner::new(&vars, forward, stable_bce),
    };
    Ok(Subject::new(learner, data::binary(seed, 6)?))
}

fn summed(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let model = Mlp::new(&[6, 32, 1], Tensor::tanh, vb)?;
    let loss = move |output: &Tensor, y: &Tensor| {
        let errors = (output - y)?.sqr()?;
        match buggy {
            true => errors.sum_all(),
            false => errors.mean_all(),
        }
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    let contract = contract::mse().shape([1]).dtype(DType::F64);
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F64)?).test(keeps(loss, contract)))
}

fn negated(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(4, vb)?;
    let loss = move |logits: &Tensor, y: &Tensor| match buggy {
        true => loss::cross_entropy(logits, y)?.neg(),
        false => loss::cross_entropy(logits, y),
    };
    let learner = Learner::new(&vars, move |x| model.classify(x), loss);
    Ok(Subject::new(learner, data::sequences(seed)?))
}

fn index_as_number(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let outputs = if buggy { 1 } else { 4 };
    let model = Mlp::new(&[6, 32, outputs], Tensor::gelu, vb)?;
    let loss = move |output: &Tensor, y: &Tensor| match buggy {
        true => loss::mse(&output.squeeze(1)?, &y.to_dtype(DType::F32)?),
        false => loss::cross_entropy(output, y),
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?)
        .test(keeps(loss, contract::cross_entropy(4))))
}

fn logarithm_of_prediction(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 1], Tensor::relu, vb)?;
    let loss = move |output: &Tensor, y: &Tensor| match buggy {
        true => (y * output.log()?)?.mean_all()?.neg(),
        false => loss::mse(output, y),
    };
    let learner =
        Learner::new(&vars, move |x| model.forward(x), loss).optimizer(|vars| SGD::new(vars, 0.1));
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F32)?))
}

fn without_epsilon(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 24, 24, 1], Tensor::gelu, vb)?;
    let by_hand = |logits: &Tensor, y: &Tensor| {
        let p = ops::sigmoid(logits)?;
        let ones = (y * p.log()?)?;
        let zeros = ((1.0 - y)? * (1.0 - p)?.log()?)?;
        (ones + zeros)?.mean_all()?.neg()
    };
    let loss = if buggy { by_hand } else { stable_bce };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    let contract = contract::bce_with_logits().shape([1]);
    Ok(Subject::new(learner, data::binary(seed, 6)?).test(keeps(loss, contract)))
}

fn detached(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let norm = candle_nn::group_norm(2, ConvNet::CHANNELS, 1e-5, vb.pp("norm"))?;
    let model = ConvNet::new(4, vb)?;
    let forward = move |x: &Tensor| model.forward(x, |x| norm.forward(x), mean_pool);
    let loss = move |logits: &Tensor, y: &Tensor| match buggy {
        true => loss::cross_entropy(&logits.detach(), y),
        false => loss::cross_entropy(logits, y),
    };
    let learner = Learner::new(&vars, forward, loss);
    Ok(Subject::new(learner, data::images(seed, 4)?))
}

fn smoothing_mixed_up(seed: Seed, buggy: bool) -> Result<Subject> {
    const CLASSES: usize = 4;
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 24, CLASSES], Tensor::relu, vb)?;
    let loss = move |logits: &Tensor, y: &Tensor| {
        let smoothing = 0.1;
        let others = if buggy { CLASSES } else { CLASSES - 1 };
        let hot = candle_nn::encoding::one_hot(y.clone(), CLASSES, 1f32, 0f32)?;
        let off = smoothing / others as f64;
        let weights = hot.affine(1.0 - smoothing - off, off)?;
        (weights * ops::log_softmax(logits, 1)?)?.sum(1)?.mean_all()?.neg()
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    // The entropy of (0.9, 0.0333, 0.0333, 0.0333) is 0.435.
    let contract = contract::cross_entropy(CLASSES).label_smoothing(0.1);
    Ok(Subject::new(learner, data::classes(seed, 6, CLASSES, DType::F32)?)
        .loss_below(0.48)
        .test(keeps(loss, contract)))
}

fn accuracy_as_loss(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 4], Tensor::relu, vb)?;
    let loss = move |logits: &Tensor, y: &Tensor| match buggy {
        true => 1.0 - logits.argmax(1)?.eq(y)?.to_dtype(DType::F32)?.mean_all()?,
        false => loss::cross_entropy(logits, y),
    };
    let learner =
        Learner::new(&vars, move |x| model.forward(x), loss).optimizer(|vars| SGD::new(vars, 0.3));
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}
