//! Group G: the optimizer and the loop around it.

use candle_core::{DType, Module, Tensor, Var};
use candle_nn::{AdamW, Linear, Optimizer, SGD, linear, loss};
use candling::{Cause, Learner, Result, Seed, Variables, check::StepUpdates};

use super::{
    data::{self, weights},
    entry::{
        Assertion::{OverfitsBatch, Test},
        Entry, Subject,
    },
    models::{ConvNet, Mlp, Norm, Recurrent, Residual, Transformer, mean_pool},
    optimizers::{Averaged, Buffered, Clipped, Groups, Rebuilt, Warmed, adam, decayed},
    steps::loops::{free, steps_of},
};

const GROUP: &str = "training";

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "G1",
        group: GROUP,
        bug: "the optimizer owns the head alone",
        cause: Cause::OptimizerMissesVariable,
        assertion: OverfitsBatch,
        buggy: |seed| head_alone(seed, true),
        clean: |seed| head_alone(seed, false),
        missed_today: None,
    },
    Entry {
        id: "G2",
        group: GROUP,
        bug: "the optimizer is given its variables before the model has any",
        cause: Cause::OptimizerMissesVariable,
        assertion: OverfitsBatch,
        buggy: |seed| before_the_model(seed, true),
        clean: |seed| before_the_model(seed, false),
        missed_today: None,
    },
    Entry {
        id: "G4",
        group: GROUP,
        bug: "a learning rate of 1e-9",
        cause: Cause::LearningRateLow,
        assertion: OverfitsBatch,
        buggy: |seed| adam_at(seed, 1e-9),
        clean: |seed| adam_at(seed, 3e-3),
        missed_today: None,
    },
    Entry {
        id: "G5",
        group: GROUP,
        bug: "a learning rate a thousand times too high",
        cause: Cause::LearningRateHigh,
        assertion: OverfitsBatch,
        buggy: |seed| sgd_at(seed, 100.0),
        clean: |seed| sgd_at(seed, 0.1),
        missed_today: None,
    },
    Entry {
        id: "G6",
        group: GROUP,
        bug: "a negative learning rate",
        // Steps climb: to the training it is the loss with the other sign.
        cause: Cause::LossSign,
        assertion: OverfitsBatch,
        buggy: |seed| sgd_at(seed, -0.1),
        clean: |seed| sgd_at(seed, 0.2),
        missed_today: None,
    },
    Entry {
        id: "G7",
        group: GROUP,
        bug: "gradients accumulate and are never cleared",
        cause: Cause::GradientsStale,
        assertion: Test("step_updates"),
        buggy: |seed| accumulating(seed, true),
        clean: |seed| accumulating(seed, false),
        missed_today: None,
    },
    Entry {
        id: "G9",
        group: GROUP,
        bug: "gradients clipped to a norm of 1e-6",
        cause: Cause::UpdateRatio,
        assertion: OverfitsBatch,
        buggy: |seed| clipped(seed, 1e-6),
        clean: |seed| clipped(seed, 1.0),
        missed_today: None,
    },
    Entry {
        id: "G10",
        group: GROUP,
        bug: "a weight decay of 0.5",
        cause: Cause::DecayUnintended,
        assertion: Test("step_updates"),
        buggy: |seed| decay(seed, 0.5),
        clean: |seed| decay(seed, 0.01),
        missed_today: None,
    },
    Entry {
        id: "G11",
        group: GROUP,
        bug: "the warm-up starts again with every epoch of 4 steps",
        cause: Cause::LearningRateLow,
        assertion: OverfitsBatch,
        buggy: |seed| warm_up(seed, Some(4)),
        clean: |seed| warm_up(seed, None),
        missed_today: None,
    },
    Entry {
        id: "G12",
        group: GROUP,
        bug: "the optimizer is built inside the loop",
        cause: Cause::OptimizerStateReset,
        assertion: Test("step_updates"),
        buggy: |seed| inside_the_loop(seed, true),
        clean: |seed| inside_the_loop(seed, false),
        missed_today: None,
    },
    Entry {
        id: "G16",
        group: GROUP,
        bug: "the optimizer is given the frozen part too",
        cause: Cause::FrozenVariableMoved,
        assertion: OverfitsBatch,
        buggy: |seed| frozen_part(seed, true),
        clean: |seed| frozen_part(seed, false),
        missed_today: None,
    },
    Entry {
        id: "G17",
        group: GROUP,
        bug: "evaluation uses averages of the weights that training never updates",
        // The nearest code: running statistics that never move.
        cause: Cause::NormStatsFrozen,
        assertion: Test("step_updates"),
        buggy: |seed| averages(seed, true),
        clean: |seed| averages(seed, false),
        missed_today: None,
    },
    Entry {
        id: "G22",
        group: GROUP,
        bug: "two optimizers own one variable: it moves twice a step",
        cause: Cause::UpdateRatio,
        assertion: Test("step_updates"),
        buggy: |seed| two_owners(seed, true),
        clean: |seed| two_owners(seed, false),
        missed_today: None,
    },
];

fn head_alone(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(4, vb)?;
    let head: Vec<Var> = vars
        .named()
        .into_iter()
        .filter(|(name, _)| name.starts_with("head."))
        .map(|(_, var)| var)
        .collect();
    let learner = Learner::new(&vars, move |x| model.classify(x), loss::cross_entropy)
        .optimizer(move |all| AdamW::new(if buggy { head.clone() } else { all }, adam(0.01)));
    Ok(Subject::new(learner, data::sequences(seed)?))
}

fn before_the_model(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let early = vars.all_vars();
    let model = Recurrent::lstm(4, vb)?;
    let late = vars.all_vars();
    let learner =
        Learner::new(&vars, move |x| model.classify(x), loss::cross_entropy).optimizer(move |_| {
            AdamW::new(if buggy { early.clone() } else { late.clone() }, adam(0.02))
        });
    Ok(Subject::new(learner, data::sequences(seed)?))
}

fn adam_at(seed: Seed, rate: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = ConvNet::new(4, vb.clone())?;
    let norm = candle_nn::batch_norm(ConvNet::CHANNELS, 1e-5, vb.pp("norm"))?;
    let forward = move |x: &Tensor, train: bool| {
        let norm = |x: &Tensor| candle_nn::ModuleT::forward_t(&norm, x, train);
        model.forward(x, norm, mean_pool)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy)
        .optimizer(move |vars| AdamW::new(vars, adam(rate)));
    Ok(Subject::new(learner, data::images(seed, 4)?))
}

fn sgd_at(seed: Seed, rate: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 32, vb.pp("first"))?;
    let block = Residual::new(32, vb.pp("block"))?;
    let head = linear(32, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| head.forward(&block.forward(&first.forward(x)?)?);
    let learner = Learner::new(&vars, forward, loss::cross_entropy)
        .optimizer(move |vars| SGD::new(vars, rate));
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

fn accumulating(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 4], Tensor::relu, vb)?;
    let learner = Learner::new(&vars, move |x| model.forward(x), loss::cross_entropy)
        .optimizer(move |vars| Buffered::new(vars, (0.2, !buggy)));
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?)
        .test(steps_of(move |vars| Buffered::new(vars, (0.2, !buggy)), |options| options)))
}

fn clipped(seed: Seed, most: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 4], Tensor::silu, vb)?;
    let learner = Learner::new(&vars, move |x| model.forward(x), loss::cross_entropy)
        .optimizer(move |vars| Clipped::new(vars, (0.3, most)));
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

fn decay(seed: Seed, decay: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(4, vb)?;
    let learner = Learner::new(&vars, move |x| model.classify(x), loss::cross_entropy)
        .optimizer(move |vars| AdamW::new(vars, decayed(0.01, decay)));
    // That it decays everything is declared: the bug is by how much.
    Ok(Subject::new(learner, data::sequences(seed)?).test(steps_of(
        move |vars| AdamW::new(vars, decayed(0.01, decay)),
        |options| options.decayed([""]),
    )))
}

fn warm_up(seed: Seed, epoch: Option<usize>) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(4, vb)?;
    let learner = Learner::new(&vars, move |x| model.classify(x), loss::cross_entropy)
        .optimizer(move |vars| Warmed::new(vars, (3e-3, epoch)));
    Ok(Subject::new(learner, data::sequences(seed)?))
}

fn inside_the_loop(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 1], Tensor::gelu, vb)?;
    let learner = Learner::new(&vars, move |x| model.forward(x), loss::mse);
    let learner = match buggy {
        true => learner.optimizer(|vars| Rebuilt::new(vars, adam(0.01))),
        false => learner.optimizer(|vars| AdamW::new(vars, adam(0.01))),
    };
    let subject = Subject::new(learner, data::regression(seed, 6, DType::F32)?);
    Ok(match buggy {
        true => subject.test(steps_of(|vars| Rebuilt::new(vars, adam(0.01)), |options| options)),
        false => subject.test(steps_of(|vars| AdamW::new(vars, adam(0.01)), |options| options)),
    })
}

fn frozen_part(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let trunk = linear(6, 32, vb.pp("trunk"))?;
    let norm = Norm::new(32, vb.pp("norm"))?;
    let head = Mlp::new(&[32, 16, 4], Tensor::relu, vb.pp("head"))?;
    let all = vars.all_vars();
    let forward = move |x: &Tensor| head.forward(&norm.forward(&trunk.forward(x)?)?.relu()?);
    let learner = Learner::new(&vars, forward, loss::cross_entropy)
        .frozen(["trunk."])
        .optimizer(move |free| AdamW::new(if buggy { all.clone() } else { free }, adam(0.01)));
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// A layer of the averages: the same names in another map.
fn averages(seed: Seed, buggy: bool) -> Result<Subject> {
    let layers = |vb: candle_nn::VarBuilder<'_>| -> candle_core::Result<[Linear; 2]> {
        Ok([linear(6, 32, vb.pp("l1"))?, linear(32, 4, vb.pp("l2"))?])
    };
    let ((vars, vb), (kept, kept_vb)) = (weights(seed, DType::F32), weights(seed, DType::F32));
    let (live, average) = (layers(vb)?, layers(kept_vb)?);
    let apply = |[l1, l2]: &[Linear; 2], x: &Tensor| l2.forward(&l1.forward(x)?.relu()?);
    let trained = live.clone();
    let forward = move |x: &Tensor, train: bool| apply(if train { &live } else { &average }, x);
    let mut averages = kept.named();
    averages.sort_by(|(a, _), (b, _)| a.cmp(b));
    // What a step must move: the weights and their averages.
    let mut all = vars.named();
    all.extend(averages.iter().map(|(name, var)| (format!("average.{name}"), var.clone())));
    let averages: Vec<Var> = averages.into_iter().map(|(_, var)| var).collect();
    let make = move |vars| {
        let updated = if buggy { Vec::new() } else { averages.clone() };
        Averaged::new(vars, (updated, 0.9))
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy).optimizer(make.clone());
    let subject = Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?);
    Ok(subject.test(move |learner, batch| {
        let mut optimizer = make(free(learner))?;
        let (x, y) = (&batch.input()[0], batch.target().expect("labels"));
        let step = || optimizer.backward_step(&loss::cross_entropy(&apply(&trained, x)?, y)?);
        StepUpdates::new().check(&all, step)
    }))
}

fn two_owners(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let trunk = Mlp::new(&[6, 24, 24], Tensor::relu, vb.pp("trunk"))?;
    let head = linear(24, 4, vb.pp("head"))?;
    let of = |prefix: &'static str| -> Vec<Var> {
        let named = vars.named().into_iter();
        named.filter(|(name, _)| name.starts_with(prefix)).map(|(_, var)| var).collect()
    };
    let second = if buggy { vars.all_vars() } else { of("head.") };
    let lists = [of("trunk."), second];
    let own = lists.clone();
    let forward = move |x: &Tensor| head.forward(&trunk.forward(x)?.relu()?);
    let learner = Learner::new(&vars, forward, loss::cross_entropy)
        .optimizer(move |_| Groups::of(own.clone(), adam(5e-3)));
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?).test(steps_of(
        move |_| Groups::of(lists.clone(), adam(5e-3)),
        |options| options.learning_rate(5e-3),
    )))
}
