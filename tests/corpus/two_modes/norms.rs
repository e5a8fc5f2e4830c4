//! Running statistics of batch norm: who moves them, and who uses them.

use candle_core::{DType, Module, Tensor, Var};
use candle_nn::{
    BatchNormConfig, Init, ModuleT, VarBuilder, VarMap, batch_norm, conv1d, group_norm, linear,
    loss,
};
use candling::{Cause, Learner, Result, Seed, check::TrainEvalModes};

use super::{MODES, modes};
use crate::corpus::{
    data::{self, weights},
    entry::{Entry, Subject},
    models::{ConvNet, mean_pool},
};

const GROUP: &str = "modes";

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "H7b",
        group: GROUP,
        bug: "the second of two batch norms over rows always evaluates",
        cause: Cause::NormStatsFrozen,
        assertion: MODES,
        buggy: |seed| rows(seed, |_| false),
        clean: |seed| rows(seed, |train| train),
        missed_today: None,
    },
    Entry {
        id: "H7c",
        group: GROUP,
        bug: "a batch norm of one's own does not keep the variance",
        cause: Cause::NormStatsFrozen,
        assertion: MODES,
        buggy: |seed| own(seed, Own { keeps_variance: false, ..OWN }),
        clean: |seed| own(seed, OWN),
        missed_today: None,
    },
    Entry {
        id: "H7d",
        group: GROUP,
        bug: "a batch norm that always evaluates; the twin has a group norm, without statistics",
        cause: Cause::NormStatsFrozen,
        assertion: MODES,
        buggy: |seed| grouped(seed, true),
        clean: |seed| grouped(seed, false),
        missed_today: None,
    },
    Entry {
        id: "H8d",
        group: GROUP,
        bug: "a batch norm of one's own normalises by the batch in evaluation, and keeps its statistics for nothing",
        cause: Cause::NormStatsOfBatch,
        assertion: MODES,
        buggy: |seed| own(seed, Own { evaluates_by: By::Batch, ..OWN }),
        clean: |seed| own(seed, OWN),
        missed_today: None,
    },
    Entry {
        id: "H8e",
        group: GROUP,
        bug: "batch norm over time is in training mode in evaluation, too",
        cause: Cause::NormStatsOfBatch,
        assertion: MODES,
        buggy: |seed| series(seed, |_| true, 0.1),
        clean: |seed| series(seed, |train| train, 0.1),
        missed_today: None,
    },
    Entry {
        id: "H10b",
        group: GROUP,
        bug: "batch norm trains on one row at a time",
        cause: Cause::NotFinite,
        assertion: MODES,
        buggy: |seed| parts(seed, 1),
        clean: |seed| parts(seed, 4),
        missed_today: None,
    },
    Entry {
        id: "H20",
        group: GROUP,
        bug: "batch norm with a momentum of 0",
        cause: Cause::NormStatsFrozen,
        assertion: MODES,
        buggy: |seed| images(seed, 0.0),
        clean: |seed| images(seed, 0.05),
        missed_today: None,
    },
    Entry {
        id: "H21",
        group: GROUP,
        bug: "batch norm with a momentum of 1: the statistics are the last batch's",
        cause: Cause::NormStatsOfBatch,
        assertion: MODES,
        buggy: |seed| series(seed, |train| train, 1.0),
        clean: |seed| series(seed, |train| train, 0.3),
        missed_today: None,
    },
    Entry {
        id: "H22",
        group: GROUP,
        bug: "a batch norm of one's own moves its statistics in evaluation, too",
        cause: Cause::EvalChangesState,
        assertion: MODES,
        buggy: |seed| own(seed, Own { moves_in_evaluation: true, ..OWN }),
        clean: |seed| own(seed, OWN),
        missed_today: None,
    },
    Entry {
        id: "H23",
        group: GROUP,
        bug: "a batch norm of one's own is left out in evaluation: nothing uses its statistics",
        cause: Cause::VariableUnused,
        assertion: MODES,
        buggy: |seed| own(seed, Own { evaluates_by: By::Nothing, ..OWN }),
        clean: |seed| own(seed, OWN),
        missed_today: None,
    },
];

fn rows(seed: Seed, told: fn(bool) -> bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let (first, second) = (linear(6, 32, vb.pp("first"))?, linear(32, 32, vb.pp("second"))?);
    let norms = [batch_norm(32, 1e-5, vb.pp("norm1"))?, batch_norm(32, 1e-5, vb.pp("norm2"))?];
    let head = linear(32, 1, vb.pp("head"))?;
    let forward = move |x: &Tensor, train: bool| {
        let x = norms[0].forward_t(&first.forward(x)?, train)?.relu()?;
        head.forward(&norms[1].forward_t(&second.forward(&x)?, told(train))?.relu()?)
    };
    let learner = Learner::with_modes(&vars, forward, loss::mse);
    modes(Subject::new(learner, data::regression(seed, 6, DType::F64)?), TrainEvalModes::new)
}

#[derive(Clone, Copy)]
struct Own {
    keeps_variance: bool,
    moves_in_evaluation: bool,
    evaluates_by: By,
}

#[derive(Clone, Copy)]
enum By {
    Running,
    Batch,
    Nothing,
}

const OWN: Own =
    Own { keeps_variance: true, moves_in_evaluation: false, evaluates_by: By::Running };

fn variable(vars: &VarMap, vb: &VarBuilder<'_>, name: &str, value: f64) -> Result<Var> {
    vb.get_with_hints(32, name, Init::Const(value))?;
    let vars = vars.data().lock().expect("no one else has it");
    Ok(vars[&format!("{}.{name}", vb.prefix())].clone())
}

/// A batch norm written by hand, between two layers.
fn own(seed: Seed, what: Own) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 32, vb.pp("first"))?, linear(32, 4, vb.pp("head"))?);
    let running_mean = variable(&vars, &vb.pp("norm"), "running_mean", 0.0)?;
    let running_var = variable(&vars, &vb.pp("norm"), "running_var", 1.0)?;
    let average = |running: &Var, batch: &Tensor| {
        let kept = (running.as_detached_tensor() * 0.9)?;
        running.set(&(kept + (batch.detach().squeeze(0)? * 0.1)?)?)
    };
    let norm = move |x: &Tensor, train: bool| {
        let mean = x.mean_keepdim(0)?;
        let var = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?;
        if train || what.moves_in_evaluation {
            average(&running_mean, &mean)?;
            if what.keeps_variance {
                average(&running_var, &var)?;
            }
        }
        let running = (running_mean.as_detached_tensor(), running_var.as_detached_tensor());
        let (mean, var) = match (train, what.evaluates_by) {
            (true, _) | (_, By::Batch) => (mean, var),
            (false, By::Running) => running,
            (false, By::Nothing) => return Ok(x.clone()),
        };
        x.broadcast_sub(&mean)?.broadcast_div(&(var + 1e-5)?.sqrt()?)
    };
    let forward =
        move |x: &Tensor, train: bool| head.forward(&norm(&first.forward(x)?, train)?.relu()?);
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    let subject = Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?);
    modes(subject, TrainEvalModes::new)
}

fn grouped(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let groups = group_norm(2, ConvNet::CHANNELS, 1e-5, vb.pp("groups"))?;
    let rows = batch_norm(ConvNet::CHANNELS, 1e-5, vb.pp("norm"))?;
    let model = ConvNet::new(4, vb)?;
    let forward = move |x: &Tensor, _: bool| {
        let norm = |x: &Tensor| match buggy {
            true => rows.forward_t(x, false),
            false => groups.forward(x),
        };
        model.forward(x, norm, mean_pool)
    };
    // The variables of the model's own norm.
    let wanted = if buggy { "groups." } else { "norm." };
    let vars = candling::Variables::named(&vars).into_iter();
    let vars: Vec<(String, Var)> = vars.filter(|(name, _)| !name.starts_with(wanted)).collect();
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    modes(Subject::new(learner, data::images(seed, 4)?), TrainEvalModes::new)
}

/// A series of numbers a row: a convolution over time, and batch norm over rows and times.
fn series(seed: Seed, told: fn(bool) -> bool, momentum: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let config = candle_nn::Conv1dConfig { padding: 1, ..Default::default() };
    let conv = conv1d(1, 8, 3, config, vb.pp("conv"))?;
    let config = BatchNormConfig { momentum, ..BatchNormConfig::default() };
    let norm = batch_norm(8, config, vb.pp("norm"))?;
    let head = linear(8 * 6, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor, train: bool| {
        let x = norm.forward_t(&conv.forward(&x.unsqueeze(1)?)?, told(train))?;
        head.forward(&x.gelu()?.flatten_from(1)?)
    };
    // candle's gradient of a one-dimensional convolution is wrong: its weights stay.
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy).frozen(["conv."]);
    modes(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?), TrainEvalModes::new)
}

fn parts(seed: Seed, size: usize) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 32, vb.pp("first"))?, linear(32, 1, vb.pp("head"))?);
    let norm = batch_norm(32, 1e-5, vb.pp("norm"))?;
    let forward = move |x: &Tensor, train: bool| {
        let x = first.forward(x)?;
        let x = match train {
            true => {
                let parts = x.chunk(x.dim(0)?.div_ceil(size), 0)?;
                let parts = parts.iter().map(|x| norm.forward_t(x, true));
                Tensor::cat(&parts.collect::<candle_core::Result<Vec<_>>>()?, 0)?
            }
            false => norm.forward_t(&x, false)?,
        };
        head.forward(&x.tanh()?)
    };
    let learner = Learner::with_modes(&vars, forward, loss::mse);
    let subject = Subject::new(learner, data::regression(seed, 6, DType::F32)?);
    modes(subject.allow(Cause::BatchSizeFixed), TrainEvalModes::new)
}

fn images(seed: Seed, momentum: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let config = BatchNormConfig { momentum, ..BatchNormConfig::default() };
    let norm = batch_norm(ConvNet::CHANNELS, config, vb.pp("norm"))?;
    let model = ConvNet::new(4, vb)?;
    let forward =
        move |x: &Tensor, train: bool| model.forward(x, |x| norm.forward_t(x, train), mean_pool);
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    modes(Subject::new(learner, data::images(seed, 4)?), TrainEvalModes::new)
}
