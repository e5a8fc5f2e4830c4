//! Group H: dropout, and what it is told of the mode.

use candle_core::{DType, Module, Tensor};
use candle_nn::{AdamW, Optimizer, linear, loss};
use candling::{Cause, Learner, Result, Seed, check::TrainEvalModes};

use super::{
    data::{self, weights},
    entry::{Assertion::Property, Entry, Subject},
    models::{ConvNet, Dropout, Residual, mean_pool},
    optimizers::adam,
    property::Property::Deterministic,
    two_modes::{MODES, modes},
};

const GROUP: &str = "modes";

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "H1",
        group: GROUP,
        bug: "dropout is active in evaluation",
        cause: Cause::DropoutInEval,
        assertion: Property(Deterministic),
        buggy: |seed| dropout(seed, |_| true),
        clean: |seed| dropout(seed, |train| train),
        missed_today: None,
    },
    Entry {
        id: "H2",
        group: GROUP,
        bug: "dropout is never active",
        cause: Cause::DropoutInactive,
        assertion: MODES,
        buggy: |seed| convolutional_dropout(seed, |_| false),
        clean: |seed| convolutional_dropout(seed, |train| train),
        missed_today: None,
    },
    Entry {
        id: "H4",
        group: GROUP,
        bug: "a mask of one's own without the factor 1/(1-p)",
        cause: Cause::DropoutUnscaled,
        assertion: MODES,
        buggy: |seed| own_mask(seed, true),
        clean: |seed| own_mask(seed, false),
        missed_today: None,
    },
    Entry {
        id: "H6",
        group: GROUP,
        bug: "the flag is not passed on to the blocks",
        cause: Cause::DropoutInactive,
        assertion: MODES,
        buggy: |seed| flag_to_blocks(seed, |_| false),
        clean: |seed| flag_to_blocks(seed, |train| train),
        missed_today: None,
    },
];

/// What a layer is told of the mode.
pub(crate) type Told = fn(bool) -> bool;

fn dropout(seed: Seed, told: Told) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 32, vb.pp("first"))?, linear(32, 4, vb.pp("head"))?);
    let dropout = Dropout::new(seed, 0.2);
    let forward = move |x: &Tensor, train: bool| {
        head.forward(&dropout.forward(&first.forward(x)?.relu()?, told(train))?)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

fn convolutional_dropout(seed: Seed, told: Told) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = ConvNet::new(4, vb)?;
    let dropout = Dropout::new(seed, 0.1);
    let forward = move |x: &Tensor, train: bool| {
        model.forward(x, |x| dropout.forward(x, told(train)), mean_pool)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    let subject = Subject::new(learner, data::images(seed, 4)?);
    modes(subject, || TrainEvalModes::new().dropout(0.1))
}

fn own_mask(seed: Seed, buggy: bool) -> Result<Subject> {
    const RATE: f64 = 0.3;
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 32, vb.pp("first"))?, linear(32, 4, vb.pp("head"))?);
    let dropout = Dropout::new(seed, RATE);
    let forward = move |x: &Tensor, train: bool| {
        let x = dropout.forward(&first.forward(x)?.silu()?, train)?;
        // Back to 0 and 1: what a product with the mask alone leaves.
        head.forward(&if buggy && train { (x * (1.0 - RATE))? } else { x })
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy)
        .optimizer(|vars| AdamW::new(vars, adam(0.02)));
    let subject = Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?);
    modes(subject, || TrainEvalModes::new().dropout(RATE))
}

fn flag_to_blocks(seed: Seed, told: Told) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 24, vb.pp("first"))?;
    let blocks = [Residual::new(24, vb.pp("b0"))?, Residual::new(24, vb.pp("b1"))?];
    let head = linear(24, 4, vb.pp("head"))?;
    let dropout = Dropout::new(seed, 0.1);
    let block =
        move |block: &Residual, x: &Tensor, train: bool| dropout.forward(&block.forward(x)?, train);
    let forward = move |x: &Tensor, train: bool| {
        let mut x = first.forward(x)?;
        for inner in &blocks {
            x = block(inner, &x, told(train))?;
        }
        head.forward(&x)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    let subject = Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?);
    modes(subject, || TrainEvalModes::new().dropout(0.1))
}
