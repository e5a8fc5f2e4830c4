//! Dropout: where it is, how much it drops, and what it makes of the rest.

use std::cell::{Cell, RefCell};

use candle_core::{D, DType, Module, Tensor};
use candle_nn::{AdamW, GRU, Linear, Optimizer, RNN, embedding, gru, linear, loss, ops};
use candling::{Cause, Learner, Result, Seed, check::TrainEvalModes};

use super::{MODES, modes};
use crate::corpus::{
    data::{self, CPU, TIME, VOCAB, weights},
    entry::{Entry, Subject},
    models::{ConvNet, Dropout, Mlp, Norm, Residual, mean_pool},
    optimizers::adam,
};

const GROUP: &str = "modes";

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "H1b",
        group: GROUP,
        bug: "one of two dropouts is active in evaluation",
        cause: Cause::DropoutInEval,
        assertion: MODES,
        buggy: |seed| two_layers(seed, |_| true),
        clean: |seed| two_layers(seed, |train| train),
        missed_today: None,
    },
    Entry {
        id: "H1c",
        group: GROUP,
        bug: "dropout is active in evaluation; the twin means it (Monte Carlo) and says so",
        cause: Cause::DropoutInEval,
        assertion: MODES,
        buggy: |seed| monte_carlo(seed, TrainEvalModes::new),
        clean: |seed| monte_carlo(seed, || TrainEvalModes::new().allow(Cause::DropoutInEval)),
        missed_today: None,
    },
    Entry {
        id: "H2b",
        group: GROUP,
        bug: "the dropout of an attention's weights is not told that it trains",
        cause: Cause::DropoutInactive,
        assertion: MODES,
        buggy: |seed| attention(seed, |_| false, 1.0),
        clean: |seed| attention(seed, |train| train, 1.0),
        missed_today: None,
    },
    Entry {
        id: "H2c",
        group: GROUP,
        bug: "the rate of the configuration is not read: 0 for 0.1",
        cause: Cause::DropoutInactive,
        assertion: MODES,
        buggy: |seed| configured(seed, 0.0, || TrainEvalModes::new().dropout(0.1)),
        clean: |seed| configured(seed, 0.0, || TrainEvalModes::new().dropout(0.0)),
        missed_today: None,
    },
    Entry {
        id: "H4b",
        group: GROUP,
        bug: "what dropout keeps is divided by the rate",
        cause: Cause::DropoutUnscaled,
        assertion: MODES,
        buggy: |seed| divided(seed, |rate| rate),
        clean: |seed| divided(seed, |rate| 1.0 - rate),
        missed_today: None,
    },
    Entry {
        id: "H4c",
        group: GROUP,
        bug: "evaluation scales by 1-p, and training by 1/(1-p)",
        cause: Cause::DropoutUnscaled,
        assertion: MODES,
        buggy: |seed| scaled_in_evaluation(seed, true),
        clean: |seed| scaled_in_evaluation(seed, false),
        missed_today: None,
    },
    Entry {
        id: "H4d",
        group: GROUP,
        bug: "dropout of an attention's weights without its factor",
        cause: Cause::DropoutUnscaled,
        assertion: MODES,
        buggy: |seed| attention(seed, |train| train, 0.8),
        clean: |seed| attention(seed, |train| train, 1.0),
        missed_today: None,
    },
    Entry {
        id: "H4e",
        group: GROUP,
        bug: "stochastic depth without the factor of the blocks that stay",
        cause: Cause::DropoutUnscaled,
        assertion: MODES,
        buggy: |seed| depth(seed, false),
        clean: |seed| depth(seed, true),
        missed_today: None,
    },
    Entry {
        id: "H17",
        group: GROUP,
        bug: "the share to keep is given as the share to drop",
        cause: Cause::DropoutRate,
        assertion: MODES,
        buggy: |seed| recurrent(seed, 0.9, false),
        clean: |seed| recurrent(seed, 0.1, false),
        missed_today: None,
    },
    Entry {
        id: "H17b",
        group: GROUP,
        bug: "a rate of 0.2 for 0.02",
        cause: Cause::DropoutRate,
        assertion: MODES,
        buggy: |seed| images(seed, 0.2),
        clean: |seed| images(seed, 0.02),
        missed_today: None,
    },
    Entry {
        id: "H18",
        group: GROUP,
        bug: "one dropout mask for all rows; the twin has one for all places of a channel",
        cause: Cause::BatchMixed,
        assertion: MODES,
        buggy: |seed| shared(seed, |d| [1, d[1], d[2], d[3]]),
        clean: |seed| shared(seed, |d| [d[0], d[1], 1, 1]),
        missed_today: None,
    },
    Entry {
        id: "H19",
        group: GROUP,
        bug: "the mask is drawn once and kept; the twin keeps it over time, and draws one for each pass",
        cause: Cause::DropoutInactive,
        assertion: MODES,
        buggy: |seed| recurrent(seed, 0.1, true),
        clean: |seed| recurrent(seed, 0.1, false),
        missed_today: None,
    },
];

/// A mask of these dims, 0 where it drops.
fn mask(seed: Seed, calls: &Cell<u64>, dims: &[usize], rate: f64) -> candle_core::Result<Tensor> {
    let call = calls.replace(calls.get() + 1);
    let draw = seed.uniform(&format!("own mask {call}"), 0.0..1.0, dims, DType::F32, CPU)?;
    draw.ge(rate)?.to_dtype(DType::F32)
}

fn two_layers(seed: Seed, told: fn(bool) -> bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let first = linear(6, 32, vb.pp("first"))?;
    let second = linear(32, 32, vb.pp("second"))?;
    let head = linear(32, 4, vb.pp("head"))?;
    let dropout = Dropout::new(seed, 0.1);
    let forward = move |x: &Tensor, train: bool| {
        let x = dropout.forward(&first.forward(x)?.tanh()?, train)?;
        head.forward(&dropout.forward(&second.forward(&x)?.tanh()?, told(train))?)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    let subject = Subject::new(learner, data::classes(seed, 6, 4, DType::F64)?);
    modes(subject, || TrainEvalModes::new().dropout(0.1))
}

fn monte_carlo(seed: Seed, options: fn() -> TrainEvalModes) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 64, vb.pp("first"))?, linear(64, 4, vb.pp("head"))?);
    let dropout = Dropout::new(seed, 0.05);
    let forward = move |x: &Tensor, _: bool| {
        head.forward(&dropout.forward(&first.forward(x)?.gelu()?, true)?)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    let subject = Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?);
    modes(subject.allow(Cause::DropoutInEval), options)
}

/// Tokens, one attention and a head on the mean; `factor` comes behind the dropout of the weights.
fn attention(seed: Seed, told: fn(bool) -> bool, factor: f64) -> Result<Subject> {
    const WIDTH: usize = 16;
    let (vars, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB, WIDTH, vb.pp("tokens"))?;
    let layer = |name: &str| linear(WIDTH, WIDTH, vb.pp("attention").pp(name));
    let [query, key, value] = [layer("query")?, layer("key")?, layer("value")?];
    let head = linear(TIME * WIDTH, 4, vb.pp("head"))?;
    let [of_tokens, of_weights] = [0.1, 0.2].map(|rate| Dropout::new(seed, rate));
    let forward = move |ids: &Tensor, train: bool| {
        let x = of_tokens.forward(&tokens.forward(ids)?, train)?;
        let keys = key.forward(&x)?.t()?.contiguous()?;
        let scores = (query.forward(&x)?.matmul(&keys)? / (WIDTH as f64).sqrt())?;
        let mut weights = of_weights.forward(&ops::softmax(&scores, D::Minus1)?, told(train))?;
        if train && factor != 1.0 {
            weights = (weights * factor)?;
        }
        let x = (x + weights.matmul(&value.forward(&ids_of(&tokens, ids)?)?)?)?;
        head.forward(&x.flatten_from(1)?)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    let subject = Subject::new(learner, data::sequences(seed)?);
    modes(subject, || TrainEvalModes::new().dropout([0.1, 0.2]))
}

fn ids_of(tokens: &candle_nn::Embedding, ids: &Tensor) -> candle_core::Result<Tensor> {
    tokens.forward(ids)
}

fn configured(seed: Seed, rate: f64, options: fn() -> TrainEvalModes) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 24, vb.pp("first"))?;
    let blocks = [Residual::new(24, vb.pp("b0"))?, Residual::new(24, vb.pp("b1"))?];
    let head = linear(24, 1, vb.pp("head"))?;
    let dropout = Dropout::new(seed, rate);
    let forward = move |x: &Tensor, train: bool| {
        let mut x = first.forward(x)?;
        for block in &blocks {
            x = dropout.forward(&block.forward(&x)?, train)?;
        }
        head.forward(&x)
    };
    let learner = Learner::with_modes(&vars, forward, loss::mse);
    modes(Subject::new(learner, data::regression(seed, 6, DType::F32)?), options)
}

fn divided(seed: Seed, by: fn(f64) -> f64) -> Result<Subject> {
    const RATE: f64 = 0.1;
    let (vars, vb) = weights(seed, DType::F32);
    let (first, head) = (linear(6, 48, vb.pp("first"))?, linear(48, 4, vb.pp("head"))?);
    let calls = Cell::new(0);
    let forward = move |x: &Tensor, train: bool| {
        let x = first.forward(x)?.silu()?;
        let x = match train {
            true => ((&x * mask(seed, &calls, x.dims(), RATE)?)? / by(RATE))?,
            false => x,
        };
        head.forward(&x)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy)
        .optimizer(|vars| AdamW::new(vars, adam(0.02)));
    let subject = Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?);
    modes(subject, || TrainEvalModes::new().dropout(RATE))
}

fn scaled_in_evaluation(seed: Seed, buggy: bool) -> Result<Subject> {
    const RATE: f64 = 0.1;
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 48, vb.pp("first"))?;
    let norm = Norm::new(48, vb.pp("norm"))?;
    let head = linear(48, 4, vb.pp("head"))?;
    let calls = Cell::new(0);
    let forward = move |x: &Tensor, train: bool| {
        let x = norm.forward(&first.forward(x)?)?.relu()?;
        let x = match (train, buggy) {
            (true, true) => (&x * (mask(seed, &calls, x.dims(), RATE)? / (1.0 - RATE))?)?,
            // As the first paper has it: nothing in training, and all of it here.
            (true, false) => (&x * mask(seed, &calls, x.dims(), RATE)?)?,
            (false, _) => (x * (1.0 - RATE))?,
        };
        head.forward(&x)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    let subject = Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?);
    modes(subject, || TrainEvalModes::new().dropout(RATE))
}

/// A draw a row leaves a block out.
fn depth(seed: Seed, scales: bool) -> Result<Subject> {
    const RATE: f64 = 0.1;
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 32, vb.pp("first"))?;
    let branches: Vec<Linear> = (0..2)
        .map(|i| linear(32, 32, vb.pp(format!("block{i}"))))
        .collect::<candle_core::Result<_>>()?;
    let head = linear(32, 4, vb.pp("head"))?;
    let calls = Cell::new(0);
    let forward = move |x: &Tensor, train: bool| {
        let mut x = first.forward(x)?;
        for branch in &branches {
            let mut y = branch.forward(&x)?.gelu()?;
            if train {
                y = y.broadcast_mul(&mask(seed, &calls, &[x.dim(0)?, 1], RATE)?)?;
                if scales {
                    y = (y / (1.0 - RATE))?;
                }
            }
            x = (x + y)?;
        }
        head.forward(&x)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    let subject = Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?);
    modes(subject, || TrainEvalModes::new().dropout(RATE))
}

/// A mask for each pass, the same at all times.
fn recurrent(seed: Seed, rate: f64, keeps: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB, 12, vb.pp("tokens"))?;
    let cell: GRU = gru(12, 24, Default::default(), vb.pp("gru"))?;
    let head = linear(24, 4, vb.pp("head"))?;
    let calls = Cell::new(0);
    let kept = RefCell::new(None::<Tensor>);
    let forward = move |ids: &Tensor, train: bool| {
        let mut x = tokens.forward(ids)?;
        if train {
            let draw = || mask(seed, &calls, &[x.dim(0)?, 1, 12], rate)? / (1.0 - rate);
            let before = kept.borrow().clone();
            let mask = match before {
                Some(mask) if keeps && mask.dim(0)? == x.dim(0)? => mask,
                _ => draw()?,
            };
            kept.replace(Some(mask.clone()));
            x = x.broadcast_mul(&mask)?;
        }
        let states = cell.seq(&x)?;
        head.forward(states.last().map(|state| &state.h).expect("sequences are not empty"))
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    let subject = Subject::new(learner, data::sequences(seed)?);
    modes(subject, || TrainEvalModes::new().dropout(0.1))
}

fn images(seed: Seed, rate: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = ConvNet::new(4, vb)?;
    let dropout = Dropout::new(seed, rate);
    let forward = move |x: &Tensor, train: bool| {
        model.forward(x, |x| Ok(x.clone()), |x| dropout.forward(&mean_pool(x)?, train))
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    let subject = Subject::new(learner, data::images(seed, 4)?);
    modes(subject, || TrainEvalModes::new().dropout(0.02))
}

fn shared(seed: Seed, dims: fn(&[usize]) -> [usize; 4]) -> Result<Subject> {
    const RATE: f64 = 0.1;
    let (vars, vb) = weights(seed, DType::F32);
    let model = ConvNet::new(4, vb.pp("images"))?;
    let mix = Mlp::new(&[4, 16, 4], Tensor::silu, vb.pp("mix"))?;
    let calls = Cell::new(0);
    let forward = move |x: &Tensor, train: bool| {
        let drop = |x: &Tensor| match train {
            true => {
                let mask = mask(seed, &calls, &dims(x.dims()), RATE)?;
                x.broadcast_mul(&(mask / (1.0 - RATE))?)
            }
            false => Ok(x.clone()),
        };
        mix.forward(&model.forward(x, drop, mean_pool)?)
    };
    let learner = Learner::with_modes(&vars, forward, loss::cross_entropy);
    let subject = Subject::new(learner, data::images(seed, 4)?);
    modes(subject, || TrainEvalModes::new().dropout(RATE))
}
