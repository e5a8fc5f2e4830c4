//! Images from bytes.

use candle_core::{DType, Module, Tensor};
use candle_nn::loss;
use candling::{Cause, Learner, Result, Seed, check::Normalized};

use super::super::{
    data::{self, CPU, ROWS, weights},
    entry::{Assertion::Test, Entry, Subject},
    models::{ConvNet, Mlp, mean_pool, same},
};

const GROUP: &str = "inputs";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "A1",
        group: GROUP,
        bug: "pixels go in as 0 to 255",
        cause: Cause::InputNotScaled,
        assertion: Test("normalized"),
        buggy: |seed| flat(seed, 1.0),
        clean: |seed| flat(seed, 1.0 / 255.0),
        missed_today: None,
    },
    Entry {
        id: "A1b",
        group: GROUP,
        bug: "raw pixels are standardised with the figures of pixels in [0, 1]",
        cause: Cause::InputNotScaled,
        assertion: Test("normalized"),
        buggy: |seed| standardised(seed, 1.0, DType::F32),
        clean: |seed| standardised(seed, 1.0 / 255.0, DType::F32),
        missed_today: None,
    },
    Entry {
        id: "A2",
        group: GROUP,
        bug: "pixels are divided by 255 twice",
        cause: Cause::InputNotScaled,
        assertion: Test("normalized"),
        buggy: |seed| flat(seed, 1.0 / 255.0 / 255.0),
        clean: |seed| flat(seed, 1.0 / 255.0),
        missed_today: None,
    },
    Entry {
        id: "A2b",
        group: GROUP,
        bug: "pixels are divided by 255 twice before they are standardised",
        cause: Cause::InputNotScaled,
        assertion: Test("normalized"),
        buggy: |seed| standardised(seed, 1.0 / 255.0 / 255.0, DType::F64),
        clean: |seed| standardised(seed, 1.0 / 255.0, DType::F64),
        missed_today: None,
    },
    Entry {
        id: "A3",
        group: GROUP,
        bug: "pixels are divided by 255 while they are bytes: all are 0",
        cause: Cause::InputConstant,
        assertion: Test("normalized"),
        buggy: |seed| as_bytes(seed, true),
        clean: |seed| as_bytes(seed, false),
        missed_today: None,
    },
    Entry {
        id: "A15",
        group: GROUP,
        bug: "the noise that augments has a deviation of 10, the images one of 1",
        cause: Cause::InputNotScaled,
        assertion: Test("normalized"),
        buggy: |seed| noised(seed, 10.0),
        clean: |seed| noised(seed, 0.1),
        missed_today: None,
    },
    Entry {
        id: "A15b",
        group: GROUP,
        bug: "a contrast drawn from 0 to 40 instead of 0.8 to 1.2 drowns the images",
        cause: Cause::InputNotScaled,
        assertion: Test("normalized"),
        buggy: |seed| contrast(seed, 0.0, 40.0),
        clean: |seed| contrast(seed, 0.8, 1.2),
        missed_today: None,
    },
];

/// Pixels of every brightness, `[rows, 1, 8, 8]`.
fn bytes(seed: Seed) -> candle_core::Result<Tensor> {
    seed.tokens("pixels", 256, (ROWS, 1, 8, 8), CPU)?.to_dtype(DType::U8)
}

/// A perceptron on pixels in [0, 1].
fn flat(seed: Seed, scale: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[64, 32, 4], Tensor::relu, vb)?;
    let x = (bytes(seed)?.flatten_from(1)?.to_dtype(DType::F32)? * scale)?;
    let learner = Learner::new(&vars, move |x: &Tensor| model.forward(x), loss::cross_entropy);
    Ok(Subject::new(learner, (x, data::labels(4)?))
        .test(|_, batch| Normalized::new().scheme(0.0..=1.0).check(&batch.input()[0])))
}

/// Convolutions on pixels of mean 0 and deviation 1, whose figures are those of even brightness.
fn standardised(seed: Seed, scale: f64, dtype: DType) -> Result<Subject> {
    let (vars, vb) = weights(seed, dtype);
    let model = ConvNet::new(4, vb)?;
    let x = (bytes(seed)?.to_dtype(dtype)? * scale)?;
    let x = ((x - 0.5)? / 0.289)?;
    let forward = move |x: &Tensor| model.forward(x, same, mean_pool);
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, data::labels(4)?))
        .test(|_, batch| Normalized::new().per_channel(1).check(&batch.input()[0])))
}

/// Scaled before or after the conversion.
fn as_bytes(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = ConvNet::new(4, vb)?;
    let bytes = bytes(seed)?;
    let x = match buggy {
        true => bytes.affine(1.0 / 255.0, 0.0)?.to_dtype(DType::F32)?,
        false => bytes.to_dtype(DType::F32)?.affine(1.0 / 255.0, 0.0)?,
    };
    let forward = move |x: &Tensor| model.forward(x, same, mean_pool);
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, data::labels(4)?))
        .test(|_, batch| Normalized::new().scheme(0.0..=1.0).check(&batch.input()[0])))
}

/// What the model is trained on: standardised images with noise.
fn noised(seed: Seed, deviation: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = ConvNet::new(4, vb)?;
    let (x, y) = data::images(seed, 4)?;
    let noise = seed.normal("noise", x.shape(), DType::F32, CPU)?;
    let x = (x + (noise * deviation)?)?;
    let forward = move |x: &Tensor| model.forward(x, same, mean_pool);
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, y)).test(|_, batch| Normalized::new().check(&batch.input()[0])))
}

/// Each image with a contrast of its own.
fn contrast(seed: Seed, low: f64, high: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let model = Mlp::new(&[64, 32, 4], Tensor::gelu, vb)?;
    let (x, y) = data::images(seed, 4)?;
    let x = x.flatten_from(1)?.to_dtype(DType::F64)?;
    let by = seed.uniform("contrast", low..high, (ROWS, 1), DType::F64, CPU)?;
    let x = x.broadcast_mul(&by)?;
    let learner = Learner::new(&vars, move |x: &Tensor| model.forward(x), loss::cross_entropy);
    Ok(Subject::new(learner, (x, y)).test(|_, batch| Normalized::new().check(&batch.input()[0])))
}
