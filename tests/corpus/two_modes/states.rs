//! What a pass leaves behind that is none of its business.

use candle_core::{DType, Module, Tensor};
use candle_nn::{Init, loss};
use candling::{Cause, Learner, Result, Seed, check::TrainEvalModes};

use super::{MODES, modes};
use crate::corpus::{
    data::{self, weights},
    entry::{Entry, Subject},
    models::Mlp,
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
