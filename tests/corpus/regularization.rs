//! Group L: regularisation.

use candle_core::{DType, Module, Tensor, Var};
use candle_nn::{AdamW, Embedding, Init, Optimizer, linear, loss, ops};
use candling::{Cause, Learner, Result, Seed};

use super::{
    data::{self, TIME, VOCAB, weights},
    entry::{
        Assertion::{OverfitsBatch, Test},
        Entry, Subject,
    },
    models::{Mlp, Norm, Residual},
    optimizers::{Groups, adam, decayed},
    steps::loops::steps_of,
};

const GROUP: &str = "regularization";

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "L1",
        group: GROUP,
        bug: "an L2 penalty of 1 where 1e-5 was meant: it dominates",
        cause: Cause::DecayUnintended,
        assertion: OverfitsBatch,
        buggy: |seed| penalty(seed, 1.0),
        clean: |seed| penalty(seed, 1e-5),
        missed_today: None,
    },
    Entry {
        id: "L3",
        group: GROUP,
        bug: "the penalty is subtracted",
        cause: Cause::RegularizationSign,
        assertion: OverfitsBatch,
        buggy: |seed| penalty(seed, -1e-2),
        clean: |seed| penalty(seed, 1e-6),
        missed_today: None,
    },
    Entry {
        id: "L4",
        group: GROUP,
        bug: "weight decay on norms and biases too",
        cause: Cause::DecayUnintended,
        assertion: Test("step_updates"),
        buggy: |seed| decay_on_all(seed, true),
        clean: |seed| decay_on_all(seed, false),
        missed_today: None,
    },
    Entry {
        id: "L6",
        group: GROUP,
        bug: "AdamW's decay and an explicit L2 penalty: the weights shrink twice",
        cause: Cause::DecayUnintended,
        assertion: Test("step_updates"),
        buggy: |seed| twice(seed, true),
        clean: |seed| twice(seed, false),
        missed_today: None,
    },
    Entry {
        id: "L7",
        group: GROUP,
        bug: "label smoothing of 1: every class is as right as any other",
        cause: Cause::LossIgnoresTarget,
        assertion: OverfitsBatch,
        buggy: |seed| smoothing(seed, 1.0),
        clean: |seed| smoothing(seed, 0.1),
        missed_today: None,
    },
];

fn squares(vars: &[Var]) -> candle_core::Result<Tensor> {
    let each = vars.iter().map(|var| var.as_tensor().sqr()?.sum_all());
    Tensor::stack(&each.collect::<candle_core::Result<Vec<_>>>()?, 0)?.sum_all()
}

fn penalty(seed: Seed, strength: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 4], Tensor::relu, vb)?;
    let all = vars.all_vars();
    let loss = move |logits: &Tensor, y: &Tensor| {
        loss::cross_entropy(logits, y)? + (squares(&all)? * strength)?
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// In f32: in bf16 a share of 5e-4 is less than the last bit of every variable, and no decay is one.
fn decay_on_all(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(6, 32, vb.pp("first"))?;
    let norm = Norm::new(32, vb.pp("norm"))?;
    let head = linear(32, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| head.forward(&norm.forward(&first.forward(x)?)?.relu()?);
    let params: fn(&Var) -> candle_nn::ParamsAdamW = match buggy {
        true => |_| decayed(0.01, 0.05),
        false => |var| decayed(0.01, if var.rank() > 1 { 0.05 } else { 0.0 }),
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy)
        .optimizer(move |vars| Groups::new(vars, params));
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?)
        .test(steps_of(move |vars| Groups::new(vars, params), |options| options)))
}

/// A table of tokens used for input and output: 11 of 12 tokens name their successor.
fn twice(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let init = Init::Randn { mean: 0.0, stdev: 0.3 };
    let table = vb.get_with_hints((VOCAB, 16), "table", init)?;
    let block = Residual::new(16, vb.pp("block"))?;
    let embedding = Embedding::new(table.clone(), 16);
    let forward = move |ids: &Tensor| {
        let hidden = block.forward(&embedding.forward(ids)?)?;
        hidden.flatten_to(1)?.matmul(&table.t()?)
    };
    let all = vars.all_vars();
    let loss = move |logits: &Tensor, y: &Tensor| {
        let data = loss::cross_entropy(logits, &y.flatten_all()?)?;
        if buggy { data + (squares(&all)? * 1e-4)? } else { Ok(data) }
    };
    let chains = data::chains(seed)?;
    let part = |start| chains.narrow(1, start, TIME)?.contiguous();
    let learner =
        Learner::new(&vars, forward, loss).optimizer(|vars| AdamW::new(vars, decayed(0.01, 0.1)));
    Ok(Subject::new(learner, (part(0)?, part(1)?)).test(steps_of(
        |vars| AdamW::new(vars, decayed(0.01, 0.1)),
        |options| options.decayed([""]),
    )))
}

fn smoothing(seed: Seed, smoothing: f64) -> Result<Subject> {
    const CLASSES: usize = 4;
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, CLASSES], Tensor::relu, vb)?;
    let loss = move |logits: &Tensor, y: &Tensor| {
        let scores = ops::log_softmax(logits, 1)?;
        let right = loss::nll(&scores, y)?;
        let any = scores.mean_all()?.neg()?;
        (right * (1.0 - smoothing))? + (any * smoothing)?
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss)
        .optimizer(|vars| AdamW::new(vars, adam(0.01)));
    // The entropy of (0.925, 0.025, 0.025, 0.025) is 0.349.
    Ok(Subject::new(learner, data::classes(seed, 6, CLASSES, DType::F32)?).loss_below(0.4))
}
