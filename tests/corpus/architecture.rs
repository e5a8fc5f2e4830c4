//! Group C: architecture.

use candle_core::{DType, Module, Tensor};
use candle_nn::{Conv2dConfig, Optimizer, SGD, conv2d, linear, loss, ops};
use candling::{Cause, Learner, Result, Seed, check};

use super::{
    data::{self, TIME, VOCAB, weights},
    entry::{
        Assertion::{self, OverfitsBatch, Test},
        Entry, Subject,
    },
    models::{Activation, Mlp, Residual, mean_pool, same},
};

const GROUP: &str = "architecture";

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "C1",
        group: GROUP,
        bug: "the activations are missing: three layers in a row are one",
        cause: Cause::NetworkLinear,
        assertion: OverfitsBatch,
        buggy: |seed| no_activation(seed, true),
        clean: |seed| no_activation(seed, false),
        missed_today: None,
    },
    Entry {
        id: "C3",
        group: GROUP,
        bug: "softmax as the activation of the hidden layers",
        // The catalogue has no code for an activation that squashes: what it does is to let little through, both ways.
        cause: Cause::GradientVanishing,
        assertion: OverfitsBatch,
        buggy: |seed| hidden_softmax(seed, true),
        clean: |seed| hidden_softmax(seed, false),
        missed_today: Some("assert_sensitive"),
    },
    Entry {
        id: "C4",
        group: GROUP,
        bug: "a sigmoid before targets in [-1, 1]",
        cause: Cause::OutputBounded,
        assertion: OverfitsBatch,
        buggy: |seed| positive_head(seed, true),
        clean: |seed| positive_head(seed, false),
        missed_today: None,
    },
    Entry {
        id: "C5",
        group: GROUP,
        bug: "softmax on a single unit: it is always 1",
        cause: Cause::OutputConstant,
        assertion: OverfitsBatch,
        buggy: |seed| softmax_of_one(seed, true),
        clean: |seed| softmax_of_one(seed, false),
        missed_today: None,
    },
    Entry {
        id: "C7",
        group: GROUP,
        bug: "a block that is built and never called",
        cause: Cause::VariableUnused,
        assertion: Assertion::GradientsFlow,
        buggy: |seed| never_called(seed, true),
        clean: |seed| never_called(seed, false),
        missed_today: None,
    },
    Entry {
        id: "C8",
        group: GROUP,
        bug: "the same prefix twice: two layers are one",
        cause: Cause::VariableShared,
        assertion: OverfitsBatch,
        buggy: |seed| same_prefix(seed, true),
        clean: |seed| same_prefix(seed, false),
        missed_today: Some("assert_architecture"),
    },
    Entry {
        id: "C9",
        group: GROUP,
        bug: "a stack of clones of one convolution",
        cause: Cause::VariableShared,
        assertion: OverfitsBatch,
        buggy: |seed| cloned_layers(seed, true),
        clean: |seed| cloned_layers(seed, false),
        missed_today: Some("assert_architecture"),
    },
    Entry {
        id: "C11",
        group: GROUP,
        bug: "a sigmoid in the model and another around it: outputs stay in [0.5, 0.73]",
        cause: Cause::OutputBounded,
        assertion: OverfitsBatch,
        buggy: |seed| sigmoid_twice(seed, true),
        clean: |seed| sigmoid_twice(seed, false),
        missed_today: None,
    },
    Entry {
        id: "C12",
        group: GROUP,
        bug: "a hidden layer of one unit",
        cause: Cause::CapacityTooSmall,
        assertion: OverfitsBatch,
        buggy: |seed| bottleneck(seed, 1),
        clean: |seed| bottleneck(seed, 24),
        missed_today: None,
    },
    Entry {
        id: "C13",
        group: GROUP,
        bug: "a head for 10 classes where there are 4",
        cause: Cause::ShapeMismatch,
        assertion: Test("shape"),
        buggy: |seed| classes_of_head(seed, 10),
        clean: |seed| classes_of_head(seed, 4),
        missed_today: None,
    },
];

fn no_activation(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let activation: Activation = if buggy { same } else { Tensor::tanh };
    let model = Mlp::new(&[6, 32, 32, 1], activation, vb)?;
    let learner = Learner::new(&vars, move |x| model.forward(x), loss::mse);
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F32)?))
}

fn hidden_softmax(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let activation: Activation = if buggy { |x| ops::softmax(x, 1) } else { Tensor::relu };
    let model = Mlp::new(&[6, 32, 32, 32, 4], activation, vb)?;
    let learner = Learner::new(&vars, move |x| model.forward(x), loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// The right head is linear: under a squared error a tanh would fit too, but for the rows it starts saturated on.
fn positive_head(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[4, 32, 1], Tensor::gelu, vb)?;
    let forward = move |x: &Tensor| {
        let x = model.forward(x)?;
        if buggy { ops::sigmoid(&x) } else { Ok(x) }
    };
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(learner, data::regression(seed, 4, DType::F32)?))
}

/// The binary cross-entropy of probabilities.
fn bce(p: &Tensor, y: &Tensor) -> candle_core::Result<Tensor> {
    let p = p.clamp(1e-6, 1.0 - 1e-6)?;
    let (yes, no) = ((y * p.log()?)?, (y.affine(-1.0, 1.0)? * p.affine(-1.0, 1.0)?.log()?)?);
    (yes + no)?.mean_all()?.neg()
}

fn softmax_of_one(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 1], Tensor::relu, vb)?;
    let forward = move |x: &Tensor| {
        let x = model.forward(x)?;
        if buggy { ops::softmax(&x, 1) } else { ops::sigmoid(&x) }
    };
    Ok(Subject::new(Learner::new(&vars, forward, bce), data::binary(seed, 6)?))
}

fn never_called(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let first = linear(6, 24, vb.pp("first"))?;
    let blocks = [Residual::new(24, vb.pp("b0"))?, Residual::new(24, vb.pp("b1"))?];
    let head = linear(24, 1, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = blocks[0].forward(&first.forward(x)?)?;
        head.forward(&if buggy { x } else { blocks[1].forward(&x)? })
    };
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F64)?))
}

fn same_prefix(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let tokens = candle_nn::embedding(VOCAB, 4, vb.pp("tokens"))?;
    let (fc1, fc2) = if buggy { ("fc", "fc") } else { ("fc1", "fc2") };
    let layers = [linear(TIME * 4, TIME * 4, vb.pp(fc1))?, linear(TIME * 4, TIME * 4, vb.pp(fc2))?];
    let head = linear(TIME * 4, 4, vb.pp("head"))?;
    let forward = move |ids: &Tensor| {
        let mut x = tokens.forward(ids)?.flatten_from(1)?;
        for layer in &layers {
            x = layer.forward(&x)?.relu()?;
        }
        head.forward(&x)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::sequences(seed)?))
}

fn cloned_layers(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
    let first = conv2d(1, 4, 3, config, vb.pp("first"))?;
    let layers = match buggy {
        true => vec![conv2d(4, 4, 3, config, vb.pp("layer"))?; 2],
        false => (0..2)
            .map(|i| conv2d(4, 4, 3, config, vb.pp(format!("layer{i}"))))
            .collect::<candle_core::Result<_>>()?,
    };
    let head = linear(4 * 16, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let mut x = mean_pool(&first.forward(x)?.silu()?)?;
        for layer in &layers {
            x = layer.forward(&x)?.silu()?;
        }
        head.forward(&x.flatten_from(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::images(seed, 4)?))
}

/// The model ends in a sigmoid; whoever calls it for probabilities need not know.
fn sigmoid_twice(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 1], Tensor::silu, vb)?;
    let model = move |x: &Tensor| ops::sigmoid(&model.forward(x)?);
    let forward = move |x: &Tensor| if buggy { ops::sigmoid(&model(x)?) } else { model(x) };
    Ok(Subject::new(Learner::new(&vars, forward, loss::mse), data::binary(seed, 6)?))
}

fn bottleneck(seed: Seed, hidden: usize) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, hidden, 4], Tensor::gelu_erf, vb)?;
    let learner = Learner::new(&vars, move |x| model.forward(x), loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

fn classes_of_head(seed: Seed, classes: usize) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[8, 24, classes], Tensor::relu, vb)?;
    let learner = Learner::new(&vars, move |x| model.forward(x), loss::cross_entropy)
        .optimizer(|vars| SGD::new(vars, 0.5));
    // The number of classes is what the user knows of the data.
    Ok(Subject::new(learner, data::classes(seed, 8, 4, DType::F32)?).test(|learner, batch| {
        let logits = learner.forward(&batch.input()[0])?;
        check::Shape::new().check(&logits, [None, Some(4)])
    }))
}
