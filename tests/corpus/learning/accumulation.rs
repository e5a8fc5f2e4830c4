//! Groups E, G and B: micro-batches, and the code that adds them up.

use std::cell::RefCell;

use candle_core::{DType, Module, Tensor, backprop::GradStore};
use candle_nn::{BatchNorm, ModuleT, batch_norm, loss, ops};
use candling::{
    Batch, Cause, Learner, Result, Seed,
    check::{AccumulationEquivalent, Weighting},
};

use crate::corpus::{
    data::{self, weights},
    entry::{Assertion::Test, Entry, Subject},
    models::{ConvNet, Mlp, Norm, Recurrent, Transformer, mean_pool},
};

const NAME: &str = "accumulation_equivalent";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "E22b",
        group: "loss",
        bug: "micro-batches of sequences of different lengths are averaged as if they had as many tokens",
        cause: Cause::AccumulationDiffers,
        assertion: Test(NAME),
        buggy: |seed| tagger(seed, |_| 1.0),
        clean: |seed| tagger(seed, tags),
        missed_today: None,
    },
    Entry {
        id: "E22c",
        group: "loss",
        bug: "the weights of classes are normalised in each micro-batch, and the batches weighted by rows",
        cause: Cause::AccumulationDiffers,
        assertion: Test(NAME),
        buggy: |seed| class_weights(seed, Weighting::Rows),
        clean: |seed| class_weights(seed, Weighting::counted(weight_of_classes)),
        missed_today: None,
    },
    Entry {
        id: "E22d",
        group: "loss",
        bug: "a mean over masked pixels, accumulated by the number of images",
        cause: Cause::AccumulationDiffers,
        assertion: Test(NAME),
        buggy: |seed| masked_pixels(seed, Weighting::Rows),
        clean: |seed| masked_pixels(seed, Weighting::counted(masked)),
        missed_today: None,
    },
    Entry {
        id: "E22e",
        group: "loss",
        bug: "the last micro-batch is smaller, and counts as much as the others",
        cause: Cause::AccumulationDiffers,
        assertion: Test(NAME),
        buggy: |seed| last_is_smaller(seed, Weighting::Equal),
        clean: |seed| last_is_smaller(seed, Weighting::Rows),
        missed_today: None,
    },
    Entry {
        id: "E22f",
        group: "loss",
        bug: "targets are standardised within each micro-batch",
        cause: Cause::AccumulationDiffers,
        assertion: Test(NAME),
        buggy: |seed| standardised(seed, true),
        clean: |seed| standardised(seed, false),
        missed_today: None,
    },
    Entry {
        id: "E5h",
        group: "loss",
        bug: "a loss that sums over rows is divided by the number of micro-batches",
        cause: Cause::LossReduction,
        assertion: Test(NAME),
        buggy: |seed| summed(seed, Weighting::Equal),
        clean: |seed| summed(seed, Weighting::Sum),
        missed_today: None,
    },
    Entry {
        id: "G7e",
        group: "training",
        bug: "accumulated gradients are never cleared",
        cause: Cause::GradientsStale,
        assertion: Test(NAME),
        buggy: |seed| own_loop(seed, Loop::NeverCleared),
        clean: |seed| own_loop(seed, Loop::Right),
        missed_today: None,
    },
    Entry {
        id: "G7f",
        group: "training",
        bug: "the gradient of each micro-batch takes the place of the one before",
        cause: Cause::AccumulationDiffers,
        assertion: Test(NAME),
        buggy: |seed| own_loop(seed, Loop::Replaced),
        clean: |seed| own_loop(seed, Loop::Right),
        missed_today: None,
    },
    Entry {
        id: "G7d",
        group: "training",
        bug: "the mean losses of micro-batches are added, and not divided by their number",
        cause: Cause::AccumulationDiffers,
        assertion: Test(NAME),
        buggy: |seed| own_loop(seed, Loop::NotDivided),
        clean: |seed| own_loop(seed, Loop::Right),
        missed_today: None,
    },
    Entry {
        id: "B4g",
        group: "dependence",
        bug: "a norm of one's own that always takes the statistics of the batch it is given",
        cause: Cause::NormStatsOfBatch,
        assertion: Test(NAME),
        buggy: |seed| normalised(seed, true),
        clean: |seed| normalised(seed, false),
        missed_today: None,
    },
];

/// Adds up the gradients of the parts, each times its weight.
fn added(
    learner: &Learner<'static>,
    parts: &[Batch],
    weight: impl Fn(&Batch) -> candle_core::Result<f64>,
) -> candle_core::Result<GradStore> {
    let mut total: Option<GradStore> = None;
    for part in parts {
        let loss = learner.loss(part).map_err(|f| candle_core::Error::Msg(f.to_string()))?;
        let grads = (loss * weight(part)?)?.backward()?;
        match &mut total {
            Some(total) => total.extend(grads)?,
            None => total = Some(grads),
        }
    }
    total.ok_or_else(|| candle_core::Error::Msg("no part".to_owned()))
}

fn rows(part: &Batch) -> f64 {
    part.rows().unwrap_or(0) as f64
}

/// The mean over the tokens that are no padding.
fn token_mean(logits: &Tensor, tags: &Tensor) -> candle_core::Result<Tensor> {
    let scores = ops::log_softmax(logits, 2)?;
    let losses = scores.gather(&tags.unsqueeze(2)?, 2)?.squeeze(2)?.neg()?;
    let real = tags.ne(data::PAD)?.to_dtype(losses.dtype())?;
    (losses * &real)?.sum_all()? / real.sum_all()?
}

fn tags(part: &Batch) -> f64 {
    let real = part.target().and_then(|tags| tags.ne(data::PAD).ok());
    let count = real.and_then(|real| real.to_dtype(DType::F64).ok()?.sum_all().ok());
    count.and_then(|count| count.to_scalar().ok()).unwrap_or(0.0)
}

/// A GRU under a training loop that adds up micro-batches by a count of its own.
fn tagger(seed: Seed, count: fn(&Batch) -> f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Recurrent::gru(5, vb)?;
    let learner = Learner::new(&vars, move |x| model.tag(x), token_mean);
    Ok(Subject::new(learner, data::tagged(seed)?).test(move |learner, batch| {
        let accumulate = |parts: &[Batch]| {
            let all: f64 = parts.iter().map(count).sum();
            added(learner, parts, |part| Ok(count(part) / all))
        };
        AccumulationEquivalent::new()
            .parts([3, 5, 4, 4])
            .accumulate(accumulate)
            .check(learner, batch)
    }))
}

const CLASS_WEIGHTS: [f32; 4] = [1.0, 4.0, 0.5, 2.0];

fn weight_of_classes(part: &Batch) -> candle_core::Result<f64> {
    let classes = part.target().map_or(Ok(Vec::new()), |target| target.to_vec1::<u32>())?;
    Ok(classes.into_iter().map(|class| f64::from(CLASS_WEIGHTS[class as usize])).sum())
}

/// The cross-entropy of PyTorch with `weight`: a weighted mean.
fn class_weights(seed: Seed, weighting: Weighting) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let model = Mlp::new(&[6, 24, 4], Tensor::tanh, vb)?;
    let weighted = |logits: &Tensor, y: &Tensor| {
        let losses = ops::log_softmax(logits, 1)?.gather(&y.unsqueeze(1)?, 1)?.squeeze(1)?.neg()?;
        let of_class = Tensor::new(&CLASS_WEIGHTS, data::CPU)?.to_dtype(losses.dtype())?;
        let weights = of_class.index_select(y, 0)?;
        (losses * &weights)?.sum_all()? / weights.sum_all()?
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), weighted);
    let subject = Subject::new(learner, data::classes(seed, 6, 4, DType::F64)?);
    Ok(subject.test(move |learner, batch| {
        AccumulationEquivalent::new().weighting(weighting.clone()).check(learner, batch)
    }))
}

fn masked(part: &Batch) -> candle_core::Result<f64> {
    part.input()[1].to_dtype(DType::F64)?.sum_all()?.to_scalar()
}

/// An autoencoder that fills in what its mask hides, of different sizes in different images.
fn masked_pixels(seed: Seed, weighting: Weighting) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[32, 48, 16], Tensor::gelu, vb)?;
    let x = seed.normal("x", (data::ROWS, 16), DType::F32, data::CPU)?;
    let hidden: Vec<f32> = (0..data::ROWS * 16)
        .map(|i| f32::from(u8::from((i % 16 + 3 * (i / 16)) % 16 < 2 + (i / 16) % 7)))
        .collect();
    let mask = Tensor::from_vec(hidden, (data::ROWS, 16), data::CPU)?;
    let forward = move |[x, mask]: &[Tensor; 2]| {
        let seen = (x * mask.affine(-1.0, 1.0)?)?;
        let filled = model.forward(&Tensor::cat(&[&seen, mask], 1)?)?;
        Tensor::stack(&[&filled, mask], 1)
    };
    let loss = |output: &Tensor, x: &Tensor| {
        let (filled, mask) =
            (output.narrow(1, 0, 1)?.squeeze(1)?, output.narrow(1, 1, 1)?.squeeze(1)?);
        (((filled - x)?.sqr()? * &mask)?.sum_all()?) / mask.sum_all()?
    };
    let learner = Learner::new(&vars, forward, loss);
    Ok(Subject::new(learner, ([x.clone(), mask], x)).test(move |learner, batch| {
        AccumulationEquivalent::new().weighting(weighting.clone()).check(learner, batch)
    }))
}

/// Images under a batch norm, which in evaluation mode is a function of each row.
fn last_is_smaller(seed: Seed, weighting: Weighting) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let norm: BatchNorm = batch_norm(ConvNet::CHANNELS, 1e-5, vb.pp("norm"))?;
    let model = ConvNet::new(4, vb)?;
    let forward =
        move |x: &Tensor, train: bool| model.forward(x, |x| norm.forward_t(x, train), mean_pool);
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::images(seed, 4)?).test(move |learner, batch| {
        AccumulationEquivalent::new()
            .parts([6, 6, 4])
            .weighting(weighting.clone())
            .check(learner, batch)
    }))
}

/// A regression whose targets are scaled in the loss: by numbers of the training set, or of the batch.
fn standardised(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 1], Tensor::silu, vb)?;
    let loss = move |output: &Tensor, y: &Tensor| {
        let y = match buggy {
            true => {
                let centred = y.broadcast_sub(&y.mean_keepdim(0)?)?;
                let spread = (centred.sqr()?.mean_keepdim(0)? + 1e-5)?.sqrt()?;
                centred.broadcast_div(&spread)?
            }
            false => y.affine(1.0 / 0.7, -0.1)?,
        };
        loss::mse(output, &y)
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F32)?)
        .test(|learner, batch| AccumulationEquivalent::new().check(learner, batch)))
}

/// A squared error that sums, as the likelihood of a VAE does.
fn summed(seed: Seed, weighting: Weighting) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 1], Tensor::tanh, vb)?;
    let loss = |output: &Tensor, y: &Tensor| (output - y)?.sqr()?.sum_all();
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F32)?)
        .allow(Cause::LossReduction)
        .test(move |learner, batch| {
            AccumulationEquivalent::new().weighting(weighting.clone()).check(learner, batch)
        }))
}

#[derive(Clone, Copy)]
enum Loop {
    Right,
    NeverCleared,
    Replaced,
    NotDivided,
}

/// An encoder of sequences, and a loop with micro-batches of 4.
fn own_loop(seed: Seed, kind: Loop) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(4, vb)?;
    let learner = Learner::new(&vars, move |x| model.classify(x), loss::cross_entropy);
    Ok(Subject::new(learner, data::sequences(seed)?).test(move |learner, batch| {
        let kept: RefCell<Option<GradStore>> = RefCell::new(None);
        let accumulate = |parts: &[Batch]| {
            let all: f64 = parts.iter().map(rows).sum();
            let share = |part: &Batch| Ok(rows(part) / all);
            match kind {
                Loop::Right => added(learner, parts, share),
                Loop::NotDivided => added(learner, parts, |_| Ok(1.0)),
                Loop::Replaced => added(learner, &parts[parts.len() - 1..], share),
                Loop::NeverCleared => {
                    let mut kept = kept.borrow_mut();
                    let mut new = added(learner, parts, share)?;
                    for (_, var) in learner.variables() {
                        let earlier = kept.as_ref().and_then(|kept| kept.get(var.as_tensor()));
                        if let (Some(earlier), Some(grad)) = (earlier, new.get(var.as_tensor())) {
                            let sum = (earlier + grad)?;
                            new.insert(var.as_tensor(), sum);
                        }
                    }
                    *kept = Some(copied(learner, &new, parts)?);
                    Ok(new)
                }
            }
        };
        AccumulationEquivalent::new()
            .parts([4, 4, 4, 4])
            .accumulate(accumulate)
            .check(learner, batch)
    }))
}

/// A store with the same gradients: candle's is no `Clone`.
fn copied(
    learner: &Learner<'static>,
    grads: &GradStore,
    parts: &[Batch],
) -> candle_core::Result<GradStore> {
    let mut copy = added(learner, &parts[..1], |_| Ok(0.0))?;
    for (_, var) in learner.variables() {
        if let Some(grad) = grads.get(var.as_tensor()) {
            copy.insert(var.as_tensor(), grad.clone());
        }
    }
    Ok(copy)
}

/// A norm on the hidden features: of each row, or over the rows.
fn normalised(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = candle_nn::linear(6, 24, vb.pp("first"))?;
    let norm = Norm::new(24, vb.pp("norm"))?;
    let last = candle_nn::linear(24, 4, vb.pp("last"))?;
    let forward = move |x: &Tensor| {
        let h = first.forward(x)?;
        let h = match buggy {
            true => {
                let centred = h.broadcast_sub(&h.mean_keepdim(0)?)?;
                let spread = (centred.sqr()?.mean_keepdim(0)? + 1e-5)?.sqrt()?;
                let scaled = centred.broadcast_div(&spread)?;
                scaled.broadcast_mul(&norm.weight)?.broadcast_add(&norm.bias)?
            }
            false => norm.forward(&h)?,
        };
        last.forward(&h.gelu()?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?)
        .test(|learner, batch| AccumulationEquivalent::new().check(learner, batch)))
}
