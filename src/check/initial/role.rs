//! What a variable is to its model, told by its name, its shape and the bias beside it.
//!
//! A list of variables does not say how they are used. What a name and a shape leave open is judged by the widest rule of
//! all that they may stand for.

use std::collections::HashMap;

use candle_core::Var;

use crate::learner::is_running_statistic;

/// What is asked of a variable's first values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Role {
    /// Sums over its inputs: a linear layer, a convolution, a recurrent weight.
    Layer(Fans),
    /// A layer or a table: no name, bias or shape tells which.
    Unclear(Fans),
    /// Looked up by rows: no sum, so no fan-in.
    Table,
    /// A table of positions, which may start at zero or hold a formula's values.
    Positions,
    /// A bias, a norm, a running statistic, a vector, integers: not judged.
    Apart,
}

/// How many terms a weight adds up, forward and backward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fans {
    /// The smaller and the larger of fan-in and fan-out, over all readings of the shape.
    pub(super) least: usize,
    pub(super) most: usize,
    /// The fan-in, where a bias tells which side the outputs are on.
    pub(super) fan_in: Option<usize>,
}

/// One word of these in a name: rows that are looked up.
const TABLES: &[&str] = &[
    "wte",
    "tok",
    "token",
    "tokens",
    "vocab",
    "table",
    "tables",
    "lookup",
    "codebook",
    "shared",
    "cls",
    "prototypes",
    "centroids",
    "centers",
    "anchors",
    "queries",
    "slots",
    "memory",
    "latents",
    "prompt",
    "registers",
    "items",
    "users",
    "entities",
    "relations",
];
const POSITIONS: &[&str] =
    &["pos", "position", "positions", "positional", "wpe", "rel", "relative"];
/// One word of these: a sum over inputs.
const LAYERS: &[&str] = &[
    "linear",
    "lin",
    "fc",
    "dense",
    "proj",
    "projection",
    "query",
    "key",
    "value",
    "q",
    "k",
    "v",
    "o",
    "qkv",
    "head",
    "classifier",
    "gate",
    "up",
    "down",
    "ffn",
    "mlp",
    "feed",
    "attn",
    "attention",
    "ih",
    "hh",
    "kernel",
    "decoder",
    "encoder",
    "expert",
    "experts",
];
const NORMS: &[&str] = &["ln", "bn", "gn", "gamma", "beta", "scale", "scales", "shift", "alpha"];
/// The state matrix of a state space model has one and the same row for every channel (A. Gu and T. Dao, *Mamba*, 2023).
const STATE_SPACES: &[&str] = &["a", "a_log", "log_a", "a_real", "a_imag", "log_a_real"];

impl Role {
    pub(super) fn of(name: &str, var: &Var, all: &HashMap<&str, &Var>) -> Self {
        let dims = var.dims();
        let last = name.rsplit('.').next().unwrap_or(name).to_lowercase();
        let apart = !var.dtype().is_float()
            || is_running_statistic(name)
            || dims.len() < 2
            || last.contains("bias")
            || STATE_SPACES.contains(&last.as_str())
            || is_norm(name);
        if apart {
            return Self::Apart;
        }
        let outputs = outputs_of(name, dims, all);
        if is_vector(dims) && outputs.is_none() {
            return Self::Apart;
        }
        let fans = Fans::of(dims, outputs);
        let told = told_by_name(name);
        match (outputs, told, dims.len()) {
            (Some(_), ..) => Self::Layer(fans),
            (None, Some(Told::Table), 2 | 3) => Self::Table,
            (None, Some(Told::Positions), 2 | 3) => Self::Positions,
            (None, Some(Told::Layer), 2) => Self::Layer(fans),
            (None, _, 3) if name.to_lowercase().contains("conv") => Self::Layer(fans),
            (None, _, 4..) if dims[dims.len() - 1] == dims[dims.len() - 2] => Self::Layer(fans),
            (None, _, 2) => Self::Unclear(fans),
            _ => Self::Unclear(Fans::of_any_reading(dims)),
        }
    }
}

/// Whether all but one of the dimensions are 1: a gate, a scale, a class token, or the row of a single output.
pub(super) fn is_vector(dims: &[usize]) -> bool {
    dims.iter().filter(|dim| **dim != 1).count() < 2
}

/// Names of copies that are meant to be equal at first: a momentum encoder, the target of a Q network.
pub(super) fn is_follower(name: &str) -> bool {
    const FOLLOWERS: &[&str] = &[
        "target",
        "targets",
        "ema",
        "momentum",
        "teacher",
        "shadow",
        "ref",
        "reference",
        "old",
        "avg",
        "average",
        "averaged",
        "frozen",
        "polyak",
        "best",
    ];
    words(name).any(|word| FOLLOWERS.contains(&word.as_str()))
}

impl Fans {
    /// As a convolution or a linear layer, `[out, in, kernel ..]`; `[in, out, kernel ..]` where the bias says so.
    fn of(dims: &[usize], outputs: Option<Side>) -> Self {
        let kernel: usize = dims[2..].iter().product();
        let (a, b) = (dims[0] * kernel, dims[1] * kernel);
        Self {
            least: a.min(b),
            most: a.max(b),
            fan_in: outputs.map(|side| if side == Side::First { b } else { a }),
        }
    }

    /// Matrices stacked, heads split off, or a convolution: the least and the most that any of them adds up.
    fn of_any_reading(dims: &[usize]) -> Self {
        let sizes = || dims.iter().copied().filter(|dim| *dim > 1);
        let least = sizes().min().unwrap_or(1);
        Self { least, most: (sizes().product::<usize>() / least).max(1), fan_in: None }
    }
}

/// Which dimension counts the outputs.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    First,
    Second,
}

/// The side that has the length of the bias beside the weight; `None` without a bias.
fn outputs_of(name: &str, dims: &[usize], all: &HashMap<&str, &Var>) -> Option<Side> {
    let bias = bias_names(name).into_iter().find_map(|bias| all.get(bias.as_str()))?;
    let length = bias.elem_count();
    let is_bias = bias.rank() <= 1 || is_vector(bias.dims());
    match () {
        () if !is_bias => None,
        () if length == dims[0] => Some(Side::First),
        () if length == dims[1] => Some(Side::Second),
        () => None,
    }
}

/// `l1.weight` has `l1.bias`, `weight_ih_l0` has `bias_ih_l0`, `w1` has `b1`; of variables without names the next one.
fn bias_names(name: &str) -> Vec<String> {
    let (path, last) = match name.rsplit_once('.') {
        Some((path, last)) => (format!("{path}."), last),
        None => (String::new(), name),
    };
    let mut names = Vec::new();
    for weight in ["weight", "kernel", "w"] {
        if last.contains(weight) {
            let bias = if weight == "w" { "b" } else { "bias" };
            names.push(format!("{path}{}", last.replacen(weight, bias, 1)));
        }
    }
    if let Some(number) = name.strip_prefix("var.")
        && let Ok(at) = number.parse::<usize>()
    {
        names.push(format!("var.{:0width$}", at + 1, width = number.len()));
    }
    names
}

enum Told {
    Table,
    Positions,
    Layer,
}

/// The word nearest to the end that tells: `embed.proj.weight` is a layer, `head.embedding.weight` a table.
fn told_by_name(name: &str) -> Option<Told> {
    let words: Vec<String> = words(name).collect();
    // `pos_embed` is a table of positions, whichever of its words comes last.
    let last = words.iter().rev().find_map(|word| {
        let word = word.as_str();
        match () {
            () if POSITIONS.contains(&word) => Some(Told::Positions),
            () if word.starts_with("emb") || TABLES.contains(&word) => Some(Told::Table),
            () if LAYERS.contains(&word) || word.starts_with("conv") => Some(Told::Layer),
            () => None,
        }
    });
    match last {
        Some(Told::Table) if words.iter().any(|word| POSITIONS.contains(&word.as_str())) => {
            Some(Told::Positions)
        }
        told => told,
    }
}

fn is_norm(name: &str) -> bool {
    let mut segments = name.rsplit('.');
    let near = [segments.next(), segments.next()];
    near.into_iter()
        .flatten()
        .flat_map(words)
        .any(|word| word.contains("norm") || NORMS.contains(&word.as_str()))
}

/// `blocks.0.attn.q_proj.weight` is blocks, attn, q, proj, weight: digits at the end of a word tell nothing.
fn words(name: &str) -> impl Iterator<Item = String> {
    name.split(['.', '_', '-', '/'])
        .map(|word| word.trim_end_matches(|c: char| c.is_ascii_digit()).to_lowercase())
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn role_beside(name: &str, dims: &[usize], beside: &[(&str, usize)]) -> Role {
        let var = |dims: &[usize]| Var::zeros(dims, DType::F32, &Device::Cpu).unwrap();
        let own = var(dims);
        let others: Vec<(&str, Var)> = beside.iter().map(|(name, n)| (*name, var(&[*n]))).collect();
        let mut all: HashMap<&str, &Var> = others.iter().map(|(name, var)| (*name, var)).collect();
        all.insert(name, &own);
        Role::of(name, &own, &all)
    }

    fn role(name: &str, dims: &[usize]) -> Role {
        role_beside(name, dims, &[])
    }

    #[test]
    fn a_bias_beside_it_makes_a_layer_and_tells_its_fan_in() {
        let fans = |role| match role {
            Role::Layer(fans) => fans,
            other => panic!("{other:?}"),
        };
        let linear = fans(role_beside("l1.weight", &[8, 3], &[("l1.bias", 8)]));
        assert_eq!(linear, Fans { least: 3, most: 8, fan_in: Some(3) });
        let by_hand = fans(role_beside("w1", &[8, 3], &[("b1", 3)]));
        assert_eq!(by_hand.fan_in, Some(8));
        let conv = fans(role_beside("c.weight", &[8, 3, 5, 5], &[("c.bias", 8)]));
        assert_eq!(conv, Fans { least: 75, most: 200, fan_in: Some(75) });
        let recurrent = role_beside("weight_ih_l0", &[32, 4], &[("bias_ih_l0", 32)]);
        assert_eq!(fans(recurrent).fan_in, Some(4));
        let unnamed = fans(role_beside("var.00", &[8, 3], &[("var.01", 8)]));
        assert_eq!(unnamed.fan_in, Some(3));
        // A single output is a row, and has a scale all the same.
        assert_eq!(fans(role_beside("head.weight", &[1, 3], &[("head.bias", 1)])).most, 3);
        // An embedding of features, not a table.
        fans(role_beside("embed.weight", &[8, 3], &[("embed.bias", 8)]));
    }

    #[test]
    fn names_tell_tables_from_layers() {
        for table in
            ["tokens.weight", "wte.weight", "model.embed_tokens.weight", "emb", "items.weight"]
        {
            assert_eq!(role(table, &[8, 3]), Role::Table, "{table}");
        }
        for positions in
            ["positions", "wpe.weight", "pos_embed", "encoder.position_embeddings.weight"]
        {
            assert_eq!(role(positions, &[8, 3]), Role::Positions, "{positions}");
        }
        for layer in ["attn.q_proj.weight", "fc1.weight", "lm_head.weight", "embed.proj.weight"] {
            assert!(matches!(role(layer, &[8, 3]), Role::Layer(_)), "{layer}");
        }
        assert!(matches!(role("patch_embed.proj.weight", &[8, 3, 4, 4]), Role::Layer(_)));
        assert!(matches!(role("first.weight", &[8, 3]), Role::Unclear(_)));
        let stacked = Role::Unclear(Fans { least: 4, most: 128, fan_in: None });
        assert_eq!(role("moe.w_in", &[4, 8, 16]), stacked);
    }

    #[test]
    fn vectors_norms_biases_statistics_and_state_matrices_stand_apart() {
        for (name, dims) in [
            ("cls_token", &[1, 1, 8][..]),
            ("gamma", &[4, 8]),
            ("q_norm.weight", &[4, 8]),
            ("attn.relative_position_bias_table", &[9, 4]),
            ("bn.running_mean", &[4]),
            ("mixer.A_log", &[16, 4]),
            ("layer_scale", &[8, 1, 1]),
            ("l1.bias", &[8]),
        ] {
            assert_eq!(role(name, dims), Role::Apart, "{name}");
        }
    }
}
