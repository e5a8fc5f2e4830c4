//! Group N: runs that cannot be repeated.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use candle_core::{DType, Module, Tensor};
use candle_nn::{Dropout, Optimizer, SGD, VarBuilder, VarMap, linear, loss};
use candling::{Cause, Learner, Result, Seed, check::Reproducible};

use crate::corpus::{
    data::{self, ROWS, weights},
    entry::{Assertion::Test, Entry, Subject},
    models::{Mlp, Recurrent, Residual},
};

const NAME: &str = "reproducible";
const GROUP: &str = "reproducibility";

pub(super) const ENTRIES: &[Entry] = &[
    entry(
        "N2d",
        "the weights are drawn by candle's own initialisation, which has no seed on a CPU",
        |seed| unseeded(seed, true),
        |seed| unseeded(seed, false),
    ),
    entry(
        "N2e",
        "the order of the samples is drawn from the clock",
        |seed| shuffled(seed, Shuffle::Clock),
        |seed| shuffled(seed, Shuffle::Seed),
    ),
    entry(
        "N1e",
        "the order of the samples goes on from a global counter",
        |seed| shuffled(seed, Shuffle::Counter),
        |seed| shuffled(seed, Shuffle::Seed),
    ),
    entry(
        "N2f",
        "names of classes are numbered in the order of a hash set",
        |seed| numbered(seed, true),
        |seed| numbered(seed, false),
    ),
    entry(
        "N2g",
        "dropout draws from the thread's generator",
        |seed| dropped_out(seed, true),
        |seed| dropped_out(seed, false),
    ),
    entry(
        "N5b",
        "weights are listed as the variable map lists them: in the order of a hash",
        |seed| listed(seed, true),
        |seed| listed(seed, false),
    ),
    entry(
        "N4b",
        "the seed is read from the settings, and 42 is used",
        |seed| written_down(seed, true),
        |seed| written_down(seed, false),
    ),
];

type Half = fn(Seed) -> Result<Subject>;

const fn entry(id: &'static str, bug: &'static str, buggy: Half, clean: Half) -> Entry {
    let (group, cause, missed_today) = (GROUP, Cause::NotReproducible, None);
    Entry { id, group, bug, cause, assertion: Test(NAME), buggy, clean, missed_today }
}

/// The model of the run, and the run.
fn subject(
    seed: Seed,
    run: impl Fn(Seed) -> Result<Vec<(String, Tensor)>> + 'static,
) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 24, 4], Tensor::relu, vb)?;
    let learner = Learner::new(&vars, move |x| model.forward(x), loss::cross_entropy);
    let subject = Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?);
    Ok(subject.test(move |_, _| Reproducible::new().seed(seed).check(&run)))
}

/// Three steps, and the loss of each.
fn losses(
    vars: &VarMap,
    forward: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
    (x, y): &(Tensor, Tensor),
) -> Result<Vec<(String, Tensor)>> {
    let mut named: Vec<_> = candling::Variables::named(vars);
    named.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut optimizer = SGD::new(named.into_iter().map(|(_, var)| var).collect(), 0.1)?;
    let mut produced = Vec::new();
    for step in 0..3 {
        let loss = loss::cross_entropy(&forward(x)?, y)?;
        optimizer.backward_step(&loss)?;
        produced.push((format!("loss of step {step}"), loss));
    }
    Ok(produced)
}

fn unseeded(seed: Seed, buggy: bool) -> Result<Subject> {
    subject(seed, move |seed| {
        let (mut vars, mut vb) = weights(seed, DType::F32);
        if buggy {
            vars = VarMap::new();
            vb = VarBuilder::from_varmap(&vars, DType::F32, data::CPU);
        }
        let model = Mlp::new(&[6, 24, 4], Tensor::relu, vb)?;
        let batch = data::classes(seed, 6, 4, DType::F32)?;
        let mut produced = vec![
            ("batch".to_owned(), batch.0.clone()),
            ("weights".to_owned(), model.layers[0].weight().clone()),
        ];
        produced.extend(losses(&vars, |x| model.forward(x), &batch)?);
        Ok(produced)
    })
}

#[derive(Clone, Copy)]
enum Shuffle {
    Seed,
    Clock,
    Counter,
}

static EPOCHS: AtomicU64 = AtomicU64::new(0);

fn shuffled(seed: Seed, shuffle: Shuffle) -> Result<Subject> {
    subject(seed, move |seed| {
        let key = match shuffle {
            Shuffle::Seed => seed,
            Shuffle::Clock => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                Seed::new(now.map_or(0, |now| now.as_nanos() as u64))
            }
            Shuffle::Counter => Seed::new(EPOCHS.fetch_add(1, Ordering::Relaxed)),
        };
        let (vars, vb) = weights(seed, DType::F32);
        let model = Recurrent::gru(4, vb)?;
        let (x, y) = data::sequences(seed)?;
        let order =
            key.uniform("order", 0.0..1.0, ROWS, DType::F32, data::CPU)?.arg_sort_last_dim(true)?;
        let batch = (x.index_select(&order, 0)?, y.index_select(&order, 0)?);
        let batch = (batch.0.narrow(0, 0, 8)?, batch.1.narrow(0, 0, 8)?);
        let mut produced = vec![("first batch".to_owned(), batch.1.clone())];
        produced.extend(losses(&vars, |x| model.classify(x), &batch)?);
        Ok(produced)
    })
}

const CLASSES: [&str; 8] = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"];

fn numbered(seed: Seed, buggy: bool) -> Result<Subject> {
    subject(seed, move |seed| {
        let ids: Vec<u32> = seed.tokens("names", CLASSES.len(), 32, data::CPU)?.to_vec1()?;
        let names: Vec<&str> = ids.into_iter().map(|id| CLASSES[id as usize]).collect();
        let set: HashMap<&str, ()> = names.iter().map(|name| (*name, ())).collect();
        let mut known: Vec<&str> = set.into_keys().collect();
        if !buggy {
            known.sort_unstable();
        }
        let number = |name: &&str| known.iter().position(|other| other == name).unwrap_or(0) as u32;
        let labels: Vec<u32> = names.iter().map(number).collect();
        let x = seed.normal("x", (32, 6), DType::F64, data::CPU)?;
        Ok(vec![
            ("x".to_owned(), x),
            ("labels".to_owned(), Tensor::from_vec(labels, 32, data::CPU)?),
        ])
    })
}

fn dropped_out(seed: Seed, buggy: bool) -> Result<Subject> {
    subject(seed, move |seed| {
        let (vars, vb) = weights(seed, DType::F32);
        let first = linear(6, 24, vb.pp("first"))?;
        let block = Residual::new(24, vb.pp("block"))?;
        let last = linear(24, 4, vb.pp("last"))?;
        let (dropout, own) = (Dropout::new(0.2), super::super::models::Dropout::new(seed, 0.2));
        let forward = |x: &Tensor| {
            let h = block.forward(&first.forward(x)?)?;
            last.forward(&if buggy { dropout.forward(&h, true)? } else { own.forward(&h, true)? })
        };
        losses(&vars, forward, &data::classes(seed, 6, 4, DType::F32)?)
    })
}

fn listed(seed: Seed, buggy: bool) -> Result<Subject> {
    subject(seed, move |seed| {
        let (vars, vb) = weights(seed, DType::F32);
        Mlp::new(&[6, 24, 24, 24, 4], Tensor::relu, vb)?;
        let mut named = candling::Variables::named(&vars);
        if !buggy {
            named.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
        Ok(named.into_iter().map(|(name, var)| (name, var.as_tensor().clone())).collect())
    })
}

fn written_down(seed: Seed, buggy: bool) -> Result<Subject> {
    subject(seed, move |seed| {
        let seed = if buggy { Seed::new(42) } else { seed };
        let (vars, vb) = weights(seed, DType::BF16);
        let model = Mlp::new(&[6, 24, 4], Tensor::silu, vb)?;
        losses(&vars, |x| model.forward(x), &data::classes(seed, 6, 4, DType::BF16)?)
    })
}
