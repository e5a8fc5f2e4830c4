//! Group H, beside dropout: normalisation and its statistics.

use std::collections::HashMap;

use candle_core::{DType, Module, Tensor};
use candle_nn::{AdamW, Init, ModuleT, Optimizer, SGD, batch_norm, group_norm, linear, loss, ops};
use candling::{Cause, Learner, Result, Seed, Variables, check::TrainEvalModes};

use super::{
    data::{self, weights},
    entry::{
        Assertion,
        Assertion::{Close, OverfitsBatch, Test},
        Entry, Subject,
    },
    models::{ConvNet, Mlp, Norm, Transformer, mean_pool, same},
    modes::Told,
    optimizers::adam,
    property::Property::BatchIndependent,
    steps::loops::steps_of,
    two_modes::{MODES, modes},
};

const GROUP: &str = "modes";

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "H7",
        group: GROUP,
        bug: "batch norm always evaluates: its statistics stay 0 and 1",
        cause: Cause::NormStatsFrozen,
        assertion: MODES,
        buggy: |seed| images(seed, |_| false),
        clean: |seed| images(seed, |train| train),
        missed_today: None,
    },
    Entry {
        id: "H8",
        group: GROUP,
        bug: "batch norm trains in evaluation too",
        cause: Cause::NormStatsOfBatch,
        assertion: Assertion::Property(BatchIndependent),
        buggy: |seed| rows(seed, |_| true),
        clean: |seed| rows(seed, |train| train),
        missed_today: None,
    },
    Entry {
        id: "H10",
        group: GROUP,
        bug: "batch norm over micro-batches of one row",
        cause: Cause::NotFinite,
        assertion: OverfitsBatch,
        buggy: |seed| micro_batches(seed, 1),
        clean: |seed| micro_batches(seed, 8),
        missed_today: None,
    },
    Entry {
        id: "H11",
        group: GROUP,
        bug: "the statistics of batch norm are not saved",
        cause: Cause::CheckpointKeys,
        assertion: Close,
        buggy: |seed| saved(seed, true),
        clean: |seed| saved(seed, false),
        missed_today: None,
    },
    Entry {
        id: "H13",
        group: GROUP,
        bug: "a norm's epsilon of 0.1 for 1e-5",
        cause: Cause::ParityDiverged,
        assertion: OverfitsBatch,
        buggy: |seed| epsilon(seed, 0.1),
        clean: |seed| epsilon(seed, 1e-5),
        missed_today: Some("assert_parity"),
    },
    Entry {
        id: "H14",
        group: GROUP,
        bug: "a norm's result is thrown away: `let _ = norm.forward(&x)`",
        cause: Cause::VariableUnused,
        assertion: Assertion::GradientsFlow,
        buggy: |seed| discarded(seed, true),
        clean: |seed| discarded(seed, false),
        missed_today: None,
    },
    Entry {
        id: "H15",
        group: GROUP,
        bug: "a group norm of as many groups as channels for one of a single group",
        cause: Cause::ParityDiverged,
        assertion: OverfitsBatch,
        buggy: |seed| groups(seed, ConvNet::CHANNELS),
        clean: |seed| groups(seed, 1),
        missed_today: Some("assert_parity"),
    },
    Entry {
        id: "H16",
        group: GROUP,
        bug: "the optimizer moves the running statistics of a frozen batch norm",
        cause: Cause::FrozenVariableMoved,
        assertion: Test("step_updates"),
        buggy: |seed| frozen_norm(seed, true),
        clean: |seed| frozen_norm(seed, false),
        missed_today: None,
    },
];

fn images(seed: Seed, told: Told) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let norm = batch_norm(ConvNet::CHANNELS, 1e-5, vb.pp("norm"))?;
    let model = ConvNet::new(4, vb)?;
    let forward = move |x: &Tensor, train: bool| {
        model.forward(x, |x| norm.forward_t(x, told(train)), mean_pool)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    modes(Subject::new(learner, data::images(seed, 4)?), TrainEvalModes::new)
}

fn rows(seed: Seed, told: Told) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 24, vb.pp("first"))?, linear(24, 1, vb.pp("head"))?);
    let norm = batch_norm(24, 1e-5, vb.pp("norm"))?;
    let forward = move |x: &Tensor, train: bool| {
        head.forward(&norm.forward_t(&first.forward(x)?, told(train))?.relu()?)
    };
    let learner = Learner::with_modes(&vars, forward, loss::mse);
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F32)?))
}

/// A batch too large for the memory goes through in parts.
fn micro_batches(seed: Seed, size: usize) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 32, vb.pp("first"))?, linear(32, 4, vb.pp("head"))?);
    let norm = batch_norm(32, 1e-5, vb.pp("norm"))?;
    let forward = move |x: &Tensor, train: bool| {
        let parts = x
            .chunk(x.dim(0)? / size, 0)?
            .into_iter()
            .map(|x| head.forward(&norm.forward_t(&first.forward(&x)?, train)?.relu()?));
        Tensor::cat(&parts.collect::<candle_core::Result<Vec<_>>>()?, 0)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?).allow(Cause::BatchSizeFixed))
}

/// A trained model and the one that its checkpoint is loaded into: their outputs in evaluation must agree.
fn saved(seed: Seed, buggy: bool) -> Result<Subject> {
    let build = |seed: Seed| -> Result<_> {
        let (vars, vb) = weights(seed, DType::F32);
        let (first, head) = (linear(6, 24, vb.pp("first"))?, linear(24, 4, vb.pp("head"))?);
        let norm = batch_norm(24, 1e-5, vb.pp("norm"))?;
        let forward = move |x: &Tensor, train: bool| {
            head.forward(&norm.forward_t(&first.forward(x)?, train)?.relu()?)
        };
        Ok((vars, forward))
    };
    let (x, y) = data::classes(seed, 6, 4, DType::F32)?;
    let (trained, original) = build(seed.split("trained"))?;
    let mut optimizer = SGD::new(trained.all_vars(), 0.1)?;
    for _ in 0..20 {
        optimizer.backward_step(&loss::cross_entropy(&original(&x, true)?, &y)?)?;
    }
    let (vars, forward) = build(seed)?;
    let checkpoint = trained.named().into_iter();
    let checkpoint: HashMap<_, _> =
        checkpoint.filter(|(name, _)| !(buggy && name.contains("running_"))).collect();
    for (name, var) in vars.named() {
        if let Some(kept) = checkpoint.get(&name) {
            var.set(kept.as_tensor())?;
        }
    }
    let (actual, expected) = (forward(&x, false)?, original(&x, false)?);
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, y)).compared(actual, expected))
}

fn epsilon(seed: Seed, epsilon: f32) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(4, vb)?;
    let forward = move |ids: &Tensor| {
        let norm =
            |norm: &Norm, x: &Tensor| ops::layer_norm_slow(x, &norm.weight, &norm.bias, epsilon);
        let hidden = model.hidden(ids, norm, |attention, x| {
            attention.forward(x, same, |scores| ops::softmax(scores, 2))
        })?;
        model.head.forward(&hidden.mean(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy)
        .optimizer(|vars| AdamW::new(vars, adam(5e-3)));
    Ok(Subject::new(learner, data::sequences(seed)?))
}

fn discarded(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 24, vb.pp("first"))?;
    let norm = Norm::new(24, vb.pp("norm"))?;
    let head = Mlp::new(&[24, 24, 1], Tensor::tanh, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?;
        if buggy {
            let _ = norm.forward(&x)?;
            return head.forward(&x);
        }
        head.forward(&norm.forward(&x)?)
    };
    let learner = Learner::new(&vars, forward, loss::mse);
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F32)?))
}

fn groups(seed: Seed, groups: usize) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let norm = group_norm(groups, ConvNet::CHANNELS, 1e-5, vb.pp("norm"))?;
    let model = ConvNet::new(4, vb)?;
    let forward = move |x: &Tensor| model.forward(x, |x| norm.forward(x), mean_pool);
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::images(seed, 4)?))
}

/// A batch norm of one's own that evaluates in training too, as in fine-tuning: its statistics are to stay.
fn frozen_norm(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 32, vb.pp("first"))?, linear(32, 4, vb.pp("head"))?);
    let norm = Norm::new(32, vb.pp("norm"))?;
    let mean = vb.get_with_hints(32, "norm.running_mean", Init::Const(0.1))?;
    let var = vb.get_with_hints(32, "norm.running_var", Init::Const(0.8))?;
    let all = vars.all_vars();
    let own = all.clone();
    let forward = move |x: &Tensor| {
        let [mean, var] = [&mean, &var].map(|t| if buggy { t.clone() } else { t.detach() });
        let x = first.forward(x)?.broadcast_sub(&mean)?;
        let x = x.broadcast_div(&(var + 1e-5)?.sqrt()?)?;
        let x = x.broadcast_mul(&norm.weight)?.broadcast_add(&norm.bias)?;
        head.forward(&x.relu()?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy)
        .optimizer(move |_| AdamW::new(own.clone(), adam(0.01)));
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?)
        .test(steps_of(move |_| AdamW::new(all.clone(), adam(0.01)), |options| options)))
}
