//! The user's own step, by `assert_step_updates!`.

use candle_core::{DType, Module, Tensor, Var, backprop::GradStore};
use candle_nn::{AdamW, Linear, Optimizer, SGD, linear, loss};
use candling::{Batch, Cause, Learner, Result, Seed, Variables, check::StepUpdates};

use super::{
    loops::{Options, blind_steps_of, free, looped, steps_of},
    rules::{Lion, Momentum, TwoGroups, clip},
};
use crate::corpus::{
    data::{self, weights},
    entry::{Assertion::Test, Entry, Subject},
    models::{ConvNet, Dropout, Mlp, Norm, Recurrent, Residual, Transformer, mean_pool},
    optimizers::{Groups, Rebuilt, adam, decayed},
};

const GROUP: &str = "steps";

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "G1b",
        group: GROUP,
        bug: "the optimizer is given the variables of the decoder alone",
        cause: Cause::OptimizerMissesVariable,
        assertion: Test("step_updates"),
        buggy: |seed| autoencoder(seed, |name| name.starts_with("decoder.")),
        clean: |seed| autoencoder(seed, |_| true),
        missed_today: None,
    },
    Entry {
        id: "G2b",
        group: GROUP,
        bug: "the optimizer is made before the model, from an empty map",
        cause: Cause::OptimizerMissesVariable,
        assertion: Test("step_updates"),
        buggy: |seed| early(seed, true),
        // Micro-batches of four calls: three of them change nothing.
        clean: |seed| early(seed, false),
        missed_today: None,
    },
    Entry {
        id: "G4b",
        group: GROUP,
        bug: "plain descent at a rate of 1e-9",
        cause: Cause::LearningRateLow,
        assertion: Test("step_updates"),
        buggy: |seed| descent(seed, 1e-9),
        clean: |seed| descent(seed, 1e-3),
        missed_today: None,
    },
    Entry {
        id: "G4c",
        group: GROUP,
        bug: "a rate of 1e-9 for AdamW, where a warm-up to 3e-4 was meant",
        cause: Cause::LearningRateLow,
        assertion: Test("step_updates"),
        buggy: |seed| scheduled(seed, |_| 1e-9),
        // The first step of the warm-up has a rate of 0.
        clean: |seed| scheduled(seed, |step| 3e-4 * (step as f64 / 1000.0).min(1.0)),
        missed_today: None,
    },
    Entry {
        id: "G5b",
        group: GROUP,
        bug: "descent with momentum at a thousand times the rate",
        cause: Cause::LearningRateHigh,
        assertion: Test("step_updates"),
        buggy: |seed| with_momentum(seed, 100.0),
        clean: |seed| with_momentum(seed, 0.1),
        missed_today: None,
    },
    Entry {
        id: "G6b",
        group: GROUP,
        bug: "a rule of one's own that adds its step",
        cause: Cause::LossSign,
        assertion: Test("step_updates"),
        buggy: |seed| lion(seed, -3e-3),
        clean: |seed| lion(seed, 3e-3),
        missed_today: None,
    },
    Entry {
        id: "G7b",
        group: GROUP,
        bug: "`GradStore::extend` in the loop: gradients add up over steps",
        cause: Cause::GradientsStale,
        assertion: Test("step_updates"),
        buggy: |seed| extended(seed, true),
        // The same buffer, with a friction of 0.1: that is momentum.
        clean: |seed| extended(seed, false),
        missed_today: None,
    },
    Entry {
        id: "G7c",
        group: GROUP,
        bug: "the loss is computed before the last step's update: every gradient is a step late",
        cause: Cause::GradientsStale,
        assertion: Test("step_updates"),
        buggy: |seed| late(seed, true),
        clean: |seed| late(seed, false),
        missed_today: None,
    },
    Entry {
        id: "G9b",
        group: GROUP,
        bug: "gradients clipped to a norm of 1e-6 by a loop of one's own",
        cause: Cause::UpdateRatio,
        assertion: Test("step_updates"),
        buggy: |seed| clipping(seed, 1e-6),
        clean: |seed| clipping(seed, 0.5),
        missed_today: None,
    },
    Entry {
        id: "G10b",
        group: GROUP,
        bug: "a weight decay of 5 in decoupled form",
        cause: Cause::DecayUnintended,
        assertion: Test("step_updates"),
        buggy: |seed| groups(seed, DType::F32, 5.0, 0.0, none),
        clean: |seed| groups(seed, DType::F32, 0.1, 0.0, none),
        missed_today: None,
    },
    Entry {
        id: "G11b",
        group: GROUP,
        bug: "the schedule's step is counted within the epoch",
        cause: Cause::LearningRateLow,
        assertion: Test("step_updates"),
        buggy: |seed| scheduled(seed, |step| 3e-3 * (step % 4 + 1) as f64 / 50.0),
        clean: |seed| scheduled(seed, |step| 3e-3 * (step + 1) as f64 / 50.0),
        missed_today: None,
    },
    Entry {
        id: "G12b",
        group: GROUP,
        bug: "AdamW with decay is built inside the loop",
        cause: Cause::OptimizerStateReset,
        assertion: Test("step_updates"),
        buggy: |seed| rebuilt(seed, true),
        clean: |seed| rebuilt(seed, false),
        missed_today: None,
    },
    Entry {
        id: "G16b",
        group: GROUP,
        bug: "the backbone that is to stay is in the optimizer's list",
        cause: Cause::FrozenVariableMoved,
        assertion: Test("step_updates"),
        buggy: |seed| backbone(seed, true),
        clean: |seed| backbone(seed, false),
        missed_today: None,
    },
    Entry {
        id: "G22b",
        group: GROUP,
        bug: "the embedding is in the list of both optimizers",
        cause: Cause::UpdateRatio,
        assertion: Test("step_updates"),
        buggy: |seed| both_lists(seed, true),
        clean: |seed| both_lists(seed, false),
        missed_today: None,
    },
    Entry {
        id: "L1b",
        group: GROUP,
        bug: "a penalty of 10 on the squares of the matrices",
        cause: Cause::DecayUnintended,
        assertion: Test("step_updates"),
        buggy: |seed| penalised(seed, 10.0, 0.0),
        clean: |seed| penalised(seed, 1e-4, 0.0),
        missed_today: None,
    },
    Entry {
        id: "L3b",
        group: GROUP,
        bug: "the penalty is subtracted from the loss, too small to be seen",
        cause: Cause::RegularizationSign,
        assertion: Test("step_updates"),
        buggy: |seed| penalised(seed, -1e-4, 0.0),
        clean: |seed| penalised(seed, 0.0, 0.01),
        missed_today: None,
    },
    Entry {
        id: "L4b",
        group: GROUP,
        bug: "decay on the gains of the norms, by a default that was not looked at",
        cause: Cause::DecayUnintended,
        assertion: Test("step_updates"),
        buggy: |seed| groups(seed, DType::F64, 0.01, 0.01, no_vector_decays),
        clean: |seed| groups(seed, DType::F64, 0.01, 0.0, no_vector_decays),
        missed_today: None,
    },
    Entry {
        id: "L6b",
        group: GROUP,
        bug: "a penalty in the loss and AdamW's decay beside it",
        cause: Cause::DecayUnintended,
        assertion: Test("step_updates"),
        buggy: |seed| penalised(seed, 1e-4, 0.01),
        clean: |seed| penalised(seed, 1e-3, 0.0),
        missed_today: None,
    },
    Entry {
        id: "M1c",
        group: GROUP,
        bug: "the gains of a bf16 network never move: a step of a thousandth is less than their last bit",
        cause: Cause::PrecisionLoss,
        assertion: Test("step_updates"),
        buggy: |seed| half(seed, true),
        clean: |seed| half(seed, false),
        missed_today: None,
    },
];

fn none(options: StepUpdates<'_>) -> StepUpdates<'_> {
    options
}

fn autoencoder(seed: Seed, owned: fn(&str) -> bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let encoder = Mlp::new(&[8, 16, 4], Tensor::silu, vb.pp("encoder"))?;
    let decoder = Mlp::new(&[4, 16, 8], Tensor::silu, vb.pp("decoder"))?;
    let x = seed.normal("x", (16, 8), DType::F64, data::CPU)?;
    let mut mine = vars.named();
    mine.retain(|(name, _)| owned(name));
    let mine: Vec<Var> = mine.into_iter().map(|(_, var)| var).collect();
    let kept = mine.clone();
    let forward = move |x: &Tensor| decoder.forward(&encoder.forward(x)?);
    let learner = Learner::new(&vars, forward, loss::mse)
        .optimizer(move |_| AdamW::new(kept.clone(), adam(0.02)));
    Ok(Subject::new(learner, (x.clone(), x))
        .test(steps_of(move |_| AdamW::new(mine.clone(), adam(3e-3)), none)))
}

fn early(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let early = vars.all_vars();
    let model = Recurrent::gru(4, vb)?;
    let own = early.clone();
    let learner = Learner::new(&vars, move |x| model.classify(x), loss::cross_entropy)
        .optimizer(move |vars| SGD::new(if buggy { own.clone() } else { vars }, 0.5));
    let make = move |vars: Vec<Var>| {
        let mut optimizer = SGD::new(if buggy { early.clone() } else { vars }, 0.1)?;
        let (mut sum, mut calls): (Option<GradStore>, usize) = (None, 0);
        Ok(move |loss: &Tensor| {
            let grads = (loss / 4.0)?.backward()?;
            match sum.as_mut() {
                Some(sum) => sum.extend(grads)?,
                None => sum = Some(grads),
            }
            calls += 1;
            match calls % 4 {
                0 => sum.take().map_or(Ok(()), |sum| optimizer.step(&sum)),
                _ => Ok(()),
            }
        })
    };
    Ok(Subject::new(learner, data::sequences(seed)?).test(looped(make, none)))
}

fn descent(seed: Seed, rate: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 32, vb.pp("first"))?, linear(32, 1, vb.pp("head"))?);
    let block = Residual::new(32, vb.pp("block"))?;
    let forward = move |x: &Tensor| head.forward(&block.forward(&first.forward(x)?)?);
    let learner = Learner::new(&vars, forward, loss::mse);
    // A batch is fitted at another rate than a long training's.
    let learner = match rate < 1e-6 {
        true => learner.optimizer(move |vars| SGD::new(vars, rate)),
        false => learner,
    };
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F32)?)
        .test(blind_steps_of(move |vars| SGD::new(vars, rate), none)))
}

fn scheduled(seed: Seed, rate: fn(usize) -> f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(4, vb)?;
    let learner = Learner::new(&vars, move |x| model.classify(x), loss::cross_entropy)
        .optimizer(|vars| AdamW::new(vars, adam(3e-3)));
    let make = move |vars: Vec<Var>| {
        let (mut optimizer, mut step) = (AdamW::new(vars, adam(0.0))?, 0);
        Ok(move |loss: &Tensor| {
            optimizer.set_learning_rate(rate(step));
            step += 1;
            optimizer.backward_step(loss)
        })
    };
    Ok(Subject::new(learner, data::sequences(seed)?).test(looped(make, none)))
}

fn with_momentum(seed: Seed, rate: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = ConvNet::new(4, vb.clone())?;
    let norm = candle_nn::batch_norm(ConvNet::CHANNELS, 1e-5, vb.pp("norm"))?;
    let forward = move |x: &Tensor, train: bool| {
        model.forward(x, |x| candle_nn::ModuleT::forward_t(&norm, x, train), mean_pool)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    let make = move |vars: Vec<Var>| {
        let mut rule = Momentum::new(vars, rate, 0.9);
        Ok(move |loss: &Tensor| rule.step(&loss.backward()?))
    };
    Ok(Subject::new(learner, data::images(seed, 4)?).test(looped(make, none)))
}

fn lion(seed: Seed, rate: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 32, 1], Tensor::gelu, vb)?;
    let learner = Learner::new(&vars, move |x| model.forward(x), loss::mse);
    let test = move |learner: &Learner<'static>, batch: &Batch| {
        let loss = || learner.loss(batch).map_err(candle_core::Error::wrap);
        let mut rule = Lion::new(free(learner), rate);
        let step = || rule.step(&loss()?.backward()?);
        StepUpdates::new().loss(loss).check(learner.variables(), step)
    };
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F32)?).test(test))
}

fn extended(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 24, 4], Tensor::tanh, vb)?;
    let learner = Learner::new(&vars, move |x| model.forward(x), loss::cross_entropy);
    let make = move |vars: Vec<Var>| {
        let (mut optimizer, mut total) = (SGD::new(vars.clone(), 0.05)?, None);
        Ok(move |loss: &Tensor| {
            let fresh = loss.backward()?;
            let sum = match total.take() {
                None => fresh,
                Some(mut sum) => {
                    if !buggy {
                        scale(&vars, &mut sum, 0.9)?;
                    }
                    GradStore::extend(&mut sum, fresh)?;
                    sum
                }
            };
            optimizer.step(&sum)?;
            total = Some(sum);
            Ok(())
        })
    };
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?).test(looped(make, none)))
}

fn scale(vars: &[Var], grads: &mut GradStore, factor: f64) -> candle_core::Result<()> {
    for var in vars {
        if let Some(grad) = grads.get(var) {
            let scaled = (grad * factor)?;
            grads.insert(var, scaled);
        }
    }
    Ok(())
}

fn late(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let (first, head) = (linear(6, 24, vb.pp("first"))?, linear(24, 1, vb.pp("head"))?);
    let norm = Norm::new(24, vb.pp("norm"))?;
    let forward = move |x: &Tensor| head.forward(&norm.forward(&first.forward(x)?)?.relu()?);
    let learner = Learner::new(&vars, forward, loss::mse);
    let make = move |vars: Vec<Var>| {
        let (mut optimizer, mut kept) = (SGD::new(vars, 0.05)?, None);
        Ok(move |loss: &Tensor| {
            let now = loss.backward()?;
            match kept.replace(now) {
                Some(before) if buggy => optimizer.step(&before),
                _ => optimizer.step(kept.as_ref().expect("kept a line above")),
            }
        })
    };
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F64)?).test(looped(make, none)))
}

fn clipping(seed: Seed, most: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(4, vb)?;
    let learner = Learner::new(&vars, move |x| model.classify(x), loss::cross_entropy);
    let test = move |learner: &Learner<'static>, batch: &Batch| {
        let loss = || learner.loss(batch).map_err(candle_core::Error::wrap);
        let vars = free(learner);
        let mut optimizer = SGD::new(vars.clone(), 0.1)?;
        let step = || {
            let mut grads = loss()?.backward()?;
            clip(&vars, &mut grads, most)?;
            optimizer.step(&grads)
        };
        let options = StepUpdates::new().loss(loss).learning_rate(0.1);
        options.check(learner.variables(), step)
    };
    Ok(Subject::new(learner, data::sequences(seed)?).test(test))
}

fn no_vector_decays(options: StepUpdates<'_>) -> StepUpdates<'_> {
    options.decayed::<&str>([])
}

fn groups(
    seed: Seed,
    dtype: DType,
    of_matrices: f64,
    of_rest: f64,
    options: Options,
) -> Result<Subject> {
    let (vars, vb) = weights(seed, dtype);
    let first = linear(6, 32, vb.pp("first"))?;
    let blocks = [Residual::new(32, vb.pp("b0"))?, Residual::new(32, vb.pp("b1"))?];
    let head = linear(32, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = blocks.iter().try_fold(first.forward(x)?, |x, block| block.forward(&x))?;
        head.forward(&x)
    };
    let loss = |logits: &Tensor, y: &Tensor| loss::cross_entropy(logits, y);
    let learner = Learner::new(&vars, forward, loss);
    let make = move |vars: Vec<Var>| {
        let mut rule = TwoGroups::new(vars, 1e-3, of_matrices, of_rest)?;
        Ok(move |loss: &Tensor| rule.step(&loss.backward()?))
    };
    Ok(Subject::new(learner, data::classes(seed, 6, 4, dtype)?).test(looped(make, options)))
}

fn rebuilt(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(4, vb)?;
    let learner = Learner::new(&vars, move |x| model.classify(x), loss::cross_entropy);
    let params = || decayed(3e-3, 0.01);
    let subject = Subject::new(learner, data::sequences(seed)?);
    Ok(match buggy {
        true => subject.test(blind_steps_of(move |vars| Rebuilt::new(vars, params()), none)),
        false => subject.test(blind_steps_of(move |vars| AdamW::new(vars, params()), none)),
    })
}

fn backbone(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let trunk = Mlp::new(&[6, 64, 64], Tensor::relu, vb.pp("backbone"))?;
    let head = linear(64, 4, vb.pp("head"))?;
    let dropout = Dropout::new(seed, 0.1);
    let all = vars.all_vars();
    let own = all.clone();
    let forward = move |x: &Tensor, train: bool| {
        head.forward(&dropout.forward(&trunk.forward(x)?.relu()?, train)?)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy)
        .frozen(["backbone."])
        .optimizer(move |free| AdamW::new(if buggy { own.clone() } else { free }, adam(0.02)));
    let make = move |free: Vec<Var>| AdamW::new(if buggy { all.clone() } else { free }, adam(1e-3));
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?)
        .test(blind_steps_of(make, |options| options.frozen(["backbone."]))))
}

fn both_lists(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(4, vb)?;
    let named = vars.named();
    let of = move |wanted: &dyn Fn(&str) -> bool| -> Vec<Var> {
        let mine = named.iter().filter(|(name, _)| wanted(name));
        mine.map(|(_, var)| var.clone()).collect()
    };
    let sparse = of(&|name| name.starts_with("tokens"));
    let dense = of(&|name| buggy || !name.starts_with("tokens"));
    let lists = [dense, sparse];
    let own = lists.clone();
    let learner = Learner::new(&vars, move |x| model.classify(x), loss::cross_entropy)
        .optimizer(move |_| Groups::of(own.clone(), adam(5e-3)));
    Ok(Subject::new(learner, data::sequences(seed)?).test(blind_steps_of(
        move |_| Groups::of(lists.clone(), adam(1e-3)),
        |options| options.learning_rate(1e-3),
    )))
}

/// A regression whose loss holds a penalty on matrices, under AdamW with a decay.
fn penalised(seed: Seed, strength: f64, decay: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 24, 24, 1], Tensor::silu, vb)?;
    let matrices: Vec<Var> = vars.all_vars().into_iter().filter(|var| var.rank() > 1).collect();
    let loss = move |output: &Tensor, y: &Tensor| {
        let mut loss = loss::mse(output, y)?;
        if strength != 0.0 {
            for var in &matrices {
                loss = (loss + (var.as_tensor().sqr()?.sum_all()? * strength)?)?;
            }
        }
        Ok(loss)
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    let test = move |learner: &Learner<'static>, batch: &Batch| {
        let loss = || learner.loss(batch).map_err(candle_core::Error::wrap);
        let mut rule = TwoGroups::new(free(learner), 3e-3, decay, 0.0)?;
        let step = || rule.step(&loss()?.backward()?);
        StepUpdates::new().loss(loss).check(learner.variables(), step)
    };
    // The penalty keeps the loss up, by right.
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F32)?).loss_below(0.1).test(test))
}

/// Computed in bf16; the gains and biases of the norm are kept in f32, as mixed precision does, or not.
fn half(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::BF16);
    let (first, head) = (linear(6, 32, vb.pp("first"))?, linear(32, 4, vb.pp("head"))?);
    let dtype = if buggy { DType::BF16 } else { DType::F32 };
    let norm = Norm::new(32, vb.pp("norm").set_dtype(dtype))?;
    let narrow = |layer: &Linear, x: &Tensor| layer.forward(&x.to_dtype(DType::BF16)?);
    let forward = move |x: &Tensor| {
        let x = narrow(&first, x)?;
        let x = norm.forward(&x.to_dtype(dtype)?)?.silu()?;
        narrow(&head, &x)
    };
    let loss = |logits: &Tensor, y: &Tensor| loss::cross_entropy(&logits.to_dtype(DType::F32)?, y);
    let learner = Learner::new(&vars, forward, loss);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::BF16)?)
        .test(blind_steps_of(|vars| AdamW::new(vars, adam(1e-3)), none)))
}
