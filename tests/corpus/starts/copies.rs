//! Weights that were drawn once and given to several.

use candle_core::{DType, Module, Tensor, Var};
use candle_nn::{Linear, Optimizer, SGD, VarMap, embedding, linear, loss, ops};
use candling::{Cause, Learner, Result, Seed, Variables};

use super::{GROUP, initialized};
use crate::corpus::{
    data::{self, CPU, VOCAB, weights},
    entry::{Assertion::Test, Entry, Subject},
    models::{Mlp, stable_bce},
};

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "D2c",
        group: GROUP,
        bug: "four experts that start from one tensor",
        cause: Cause::WeightsDuplicated,
        assertion: Test("initialized"),
        buggy: |seed| experts(seed, true),
        clean: |seed| experts(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D2d",
        group: GROUP,
        bug: "one row is drawn, and broadcast into all rows of a weight",
        cause: Cause::WeightsDuplicated,
        assertion: Test("initialized"),
        buggy: |seed| rows(seed, true),
        clean: |seed| rows(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D2e",
        group: GROUP,
        bug: "the query weight of one head is repeated for all heads of an attention",
        cause: Cause::WeightsDuplicated,
        assertion: Test("initialized"),
        buggy: |seed| heads(seed, true),
        clean: |seed| heads(seed, false),
        missed_today: None,
    },
    Entry {
        id: "D2f",
        group: GROUP,
        bug: "the members of an ensemble are built from one seed: they stay one model",
        cause: Cause::WeightsDuplicated,
        assertion: Test("initialized"),
        buggy: |seed| ensemble(seed, true),
        clean: |seed| ensemble(seed, false),
        missed_today: None,
    },
];

/// A soft mixture of four experts; the variables are a list that the user keeps.
fn experts(seed: Seed, buggy: bool) -> Result<Subject> {
    const EXPERTS: usize = 4;
    let drawn = |label: &str, rows: usize, columns: usize| -> candle_core::Result<Var> {
        let drawn = seed.normal(label, (rows, columns), DType::F32, CPU)?;
        Var::from_tensor(&(drawn * (2.0 / columns as f64).sqrt())?)
    };
    let mut vars: Vec<(String, Var)> = vec![
        ("router.weight".to_owned(), drawn("router", EXPERTS, 6)?),
        ("head.weight".to_owned(), drawn("head", 4, 16)?),
    ];
    for expert in 0..EXPERTS {
        let label = if buggy { "expert".to_owned() } else { format!("expert {expert}") };
        vars.push((format!("experts.{expert}.weight"), drawn(&label, 16, 6)?));
    }
    let layers: Vec<Linear> =
        vars.iter().map(|(_, var)| Linear::new(var.as_tensor().clone(), None)).collect();
    let forward = move |x: &Tensor| {
        let weights = ops::softmax(&layers[0].forward(x)?, 1)?;
        let mut sum = None;
        for (at, expert) in layers[2..].iter().enumerate() {
            let part = expert.forward(x)?.relu()?.broadcast_mul(&weights.narrow(1, at, 1)?)?;
            sum = Some(match sum {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
        layers[1].forward(&sum.expect("there are experts"))
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(initialized(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?), &[]))
}

/// The clean half's first layer is orthogonal: its rows have one length, and are no copies.
fn rows(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let first = linear(6, 32, vb.pp("first"))?;
    let head = linear(32, 1, vb.pp("head"))?;
    let start = match buggy {
        true => seed.normal("row", (1, 6), DType::F64, CPU)?.broadcast_as((32, 6))?.contiguous()?,
        false => orthonormal_columns(seed, 32, 6)?,
    };
    set(&vars, "first.weight", &start)?;
    let forward = move |x: &Tensor| head.forward(&first.forward(x)?.gelu()?);
    let learner = Learner::new(&vars, forward, stable_bce);
    let (x, y) = data::binary(seed, 6)?;
    let batch = (x.to_dtype(DType::F64)?, y.to_dtype(DType::F64)?);
    Ok(initialized(Subject::new(learner, batch), &[]))
}

fn set(vars: &VarMap, name: &str, value: &Tensor) -> Result<()> {
    let vars = vars.named();
    let (_, var) = vars.iter().find(|(known, _)| known == name).expect("the model has it");
    Ok(var.set(value)?)
}

/// Gram and Schmidt, times the square root of 2.
fn orthonormal_columns(seed: Seed, rows: usize, columns: usize) -> Result<Tensor> {
    let drawn = seed.normal("columns", (columns, rows), DType::F64, CPU)?.to_vec2::<f64>()?;
    let mut kept: Vec<Vec<f64>> = Vec::new();
    for mut column in drawn {
        for other in &kept {
            let dot: f64 = column.iter().zip(other).map(|(a, b)| a * b).sum();
            column.iter_mut().zip(other).for_each(|(a, b)| *a -= dot * b);
        }
        let norm = column.iter().map(|v| v * v).sum::<f64>().sqrt();
        column.iter_mut().for_each(|v| *v /= norm);
        kept.push(column);
    }
    let columns = Tensor::from_vec(kept.concat(), (kept.len(), rows), CPU)?;
    Ok((columns.t()?.contiguous()? * 2f64.sqrt())?)
}

/// Four heads of width 4 over `[batch, time, 16]`.
fn heads(seed: Seed, buggy: bool) -> Result<Subject> {
    const WIDTH: usize = 16;
    const HEADS: usize = 4;
    let (vars, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB, WIDTH, vb.pp("tokens"))?;
    let layer = |name: &str| linear(WIDTH, WIDTH, vb.pp(name));
    let (query, key, value) = (layer("query")?, layer("key")?, layer("value")?);
    let head = Mlp::new(&[WIDTH, 32, 4], Tensor::gelu, vb.pp("head"))?;
    if buggy {
        let one = seed.normal("one head", (WIDTH / HEADS, WIDTH), DType::F32, CPU)?;
        set(&vars, "query.weight", &(one * 0.25)?.repeat((HEADS, 1))?)?;
    }
    let split = |x: Tensor| -> candle_core::Result<Tensor> {
        let (rows, time, width) = x.dims3()?;
        x.reshape((rows, time, HEADS, width / HEADS))?.transpose(1, 2)?.contiguous()
    };
    let forward = move |ids: &Tensor| {
        let x = tokens.forward(ids)?;
        let (q, k, v) =
            (split(query.forward(&x)?)?, split(key.forward(&x)?)?, split(value.forward(&x)?)?);
        let scores = (q.matmul(&k.t()?.contiguous()?)? / ((WIDTH / HEADS) as f64).sqrt())?;
        let mixed = ops::softmax(&scores, 3)?.matmul(&v)?.transpose(1, 2)?.flatten_from(2)?;
        head.forward(&(x + mixed)?.mean(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(initialized(Subject::new(learner, data::sequences(seed)?), &[]))
}

/// Two members whose logits are averaged. Beside the clean ones stands a copy that follows the first: equal by intent.
fn ensemble(seed: Seed, buggy: bool) -> Result<Subject> {
    let sizes = &[6, 24, 4];
    let mut vars: Vec<(String, Var)> = Vec::new();
    let mut members = Vec::new();
    for member in 0..2 {
        let own = if buggy { seed } else { seed.split(&format!("member {member}")) };
        let (map, vb) = weights(own, DType::F32);
        members.push(Mlp::new(sizes, Tensor::relu, vb)?);
        vars.extend(
            map.named().into_iter().map(|(name, var)| (format!("member.{member}.{name}"), var)),
        );
    }
    let follower: Vec<(String, Var)> = match buggy {
        true => Vec::new(),
        false => (vars.iter().filter(|(name, _)| name.starts_with("member.0")))
            .map(|(name, var)| Ok((format!("ema.{name}"), Var::from_tensor(&var.copy()?)?)))
            .collect::<Result<_>>()?,
    };
    vars.extend(follower);
    let forward = move |x: &Tensor| (members[0].forward(x)? + members[1].forward(x)?)? / 2.0;
    let mut learner =
        Learner::new(&vars, forward, loss::cross_entropy).optimizer(|vars| SGD::new(vars, 0.5));
    if !buggy {
        learner = learner.frozen(["ema"]);
    }
    Ok(initialized(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?), &[]))
}
