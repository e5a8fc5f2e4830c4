//! Group N: what a checkpoint brings back.

use candle_core::{DType, Module, Tensor};
use candle_nn::{linear, loss};
use candling::{Cause, Learner, Result, Seed, Variables};

use super::{
    data::{self, weights},
    entry::{Assertion::Close, Entry, Subject},
};

const GROUP: &str = "initialisation";

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "N4",
        group: GROUP,
        bug: "a checkpoint's weights are loaded where the shapes agree, and passed over where they do not",
        cause: Cause::CheckpointKeys,
        assertion: Close,
        buggy: |seed| loaded(seed, Loads::WhatFits),
        clean: |seed| loaded(seed, Loads::ByName),
        missed_today: None,
    },
    Entry {
        id: "N5",
        group: GROUP,
        bug: "a checkpoint's weights are loaded by their number, and `10` comes before `2`",
        cause: Cause::CheckpointKeys,
        assertion: Close,
        buggy: |seed| loaded(seed, Loads::ByNumber),
        clean: |seed| loaded(seed, Loads::ByName),
        missed_today: None,
    },
];

/// How a checkpoint comes back.
#[derive(Clone, Copy, PartialEq)]
enum Loads {
    ByName,
    /// The tensors in the order of their names, the variables in the order they were built in.
    ByNumber,
    /// The checkpoint is of a model with a head of another size, which is to be an error.
    WhatFits,
}

/// Eleven layers of one size, trained elsewhere: the outputs of both models must agree.
fn loaded(seed: Seed, loads: Loads) -> Result<Subject> {
    const LAYERS: usize = 11;
    let build = |seed: Seed| -> Result<_> {
        let (vars, vb) = weights(seed, DType::F32);
        let layers = (0..LAYERS).map(|i| linear(6, 6, vb.pp(format!("l{i}"))));
        let layers = layers.collect::<candle_core::Result<Vec<_>>>()?;
        let forward = move |x: &Tensor| {
            layers.iter().try_fold(x.clone(), |x, layer| &x + layer.forward(&x)?.tanh()?)
        };
        Ok((vars, forward))
    };
    let (trained, original) = build(seed.split("trained"))?;
    let (vars, forward) = build(seed)?;
    let checkpoint = trained.named();
    let number = |name: &str| {
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        (digits.parse::<usize>().unwrap_or(0), name.ends_with("bias"))
    };
    let mut built = vars.named();
    built.sort_by_key(|(name, _)| match loads {
        Loads::ByNumber => (number(name), String::new()),
        _ => ((0, false), name.clone()),
    });
    let mut kept = checkpoint;
    kept.sort_by(|(a, _), (b, _)| a.cmp(b));
    for ((name, var), (_, kept)) in built.iter().zip(&kept) {
        // The checkpoint's last layer is wider.
        if loads == Loads::WhatFits && name.starts_with("l10.") {
            continue;
        }
        if var.dims() == kept.dims() {
            var.set(kept.as_tensor())?;
        }
    }
    let (x, y) = data::classes(seed, 6, 4, DType::F32)?;
    let (actual, expected) = (forward(&x)?, original(&x)?);
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x, y)).compared(actual, expected))
}
