//! What a pass leaves behind that is none of its business.

use std::cell::RefCell;

use candle_core::{DType, Module, Tensor, Var};
use candle_nn::{Init, linear, loss};
use candling::{Cause, Learner, Result, Seed, check::TrainEvalModes};

use super::{MODES, modes};
use crate::corpus::{
    data::{self, CPU, weights},
    entry::{Entry, Subject},
    models::{Mlp, Norm},
};

const GROUP: &str = "modes";

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "H22b",
        group: GROUP,
        bug: "evaluation keeps the smallest and largest value seen, and scales by them",
        cause: Cause::EvalChangesState,
        assertion: MODES,
        buggy: |seed| range(seed, true),
        clean: |seed| range(seed, false),
        missed_today: None,
    },
    Entry {
        id: "H22c",
        group: GROUP,
        bug: "an average of the inputs is kept outside of the variables: it is not saved, and not put back",
        cause: Cause::StateKept,
        assertion: MODES,
        buggy: |seed| average(seed, true),
        clean: |seed| average(seed, false),
        missed_today: None,
    },
    Entry {
        id: "H22d",
        group: GROUP,
        bug: "a training pass clips the weights it is about to train",
        cause: Cause::StateKept,
        assertion: MODES,
        buggy: |seed| clipped(seed, true),
        clean: |seed| clipped(seed, false),
        missed_today: None,
    },
];

/// The input is scaled by the largest value of all training batches, which is kept as a variable.
fn range(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    vb.get_with_hints((), "scaler.largest", Init::Const(0.5))?;
    let largest = vars.data().lock().expect("no one else has it")["scaler.largest"].clone();
    let model = Mlp::new(&[6, 32, 4], Tensor::gelu, vb.pp("mlp"))?;
    let forward = move |x: &Tensor, train: bool| {
        if train || buggy {
            let seen = x.detach().abs()?.max_all()?;
            largest.set(&largest.as_detached_tensor().maximum(&seen)?)?;
        }
        let largest = largest.as_detached_tensor();
        model.forward(&x.broadcast_div(&largest.broadcast_as(x.shape())?)?)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy).frozen(["scaler."]);
    let subject = Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?);
    modes(subject.allow(Cause::FrozenVariableMoved), TrainEvalModes::new)
}

fn average(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    vb.get_with_hints(6, "center.running_mean", Init::Const(0.0))?;
    let kept = vars.data().lock().expect("no one else has it")["center.running_mean"].clone();
    let norm = Norm::new(24, vb.pp("norm"))?;
    let (first, head) = (linear(6, 24, vb.pp("first"))?, linear(24, 1, vb.pp("head"))?);
    let outside = RefCell::new(Tensor::zeros(6, DType::F32, CPU)?);
    let moved = |old: &Tensor, x: &Tensor| (old * 0.9)? + (x.detach().mean(0)? * 0.1)?;
    let forward = move |x: &Tensor, train: bool| {
        let before = if buggy { outside.borrow().clone() } else { kept.as_tensor().copy()? };
        if train {
            let now = moved(&before, x)?;
            if buggy {
                outside.replace(now);
            } else {
                kept.set(&now)?;
            }
        }
        let mean = if train { x.mean(0)? } else { before.detach() };
        let x = norm.forward(&first.forward(&x.broadcast_sub(&mean)?)?)?;
        head.forward(&x.relu()?)
    };
    let all = candling::Variables::named(&vars).into_iter();
    let wanted = all.filter(|(name, _)| !buggy || !name.starts_with("center."));
    let vars: Vec<(String, Var)> = wanted.collect();
    let learner = Learner::with_modes(&vars, forward, loss::mse);
    modes(Subject::new(learner, data::regression(seed, 6, DType::F32)?), TrainEvalModes::new)
}

fn clipped(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 4], Tensor::tanh, vb)?;
    let weight = vars.data().lock().expect("no one else has it")["l0.weight"].clone();
    let forward = move |x: &Tensor, train: bool| {
        if train && buggy {
            weight.set(&weight.as_detached_tensor().clamp(-0.3, 0.3)?)?;
        }
        model.forward(x)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    let subject = Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?);
    modes(subject, TrainEvalModes::new)
}
