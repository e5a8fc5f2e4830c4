//! Losses of pairs: an embedding and the one it belongs to.

use candle_core::{DType, Module, Tensor};
use candle_nn::loss;
use candling::{Cause, Learner, Result, Seed, contract};

use super::{
    super::{
        data::{CPU, ROWS, weights},
        entry::{Entry, Subject},
        models::Mlp,
    },
    GROUP, LOSS_CONTRACT, keeps,
};

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "E25",
        group: GROUP,
        bug: "InfoNCE without its temperature",
        cause: Cause::ValuesDiffer,
        assertion: LOSS_CONTRACT,
        buggy: |seed| info_nce(seed, 1.0, 16),
        clean: |seed| info_nce(seed, 0.1, 16),
        missed_today: None,
    },
    Entry {
        id: "E25b",
        group: GROUP,
        bug: "InfoNCE with similarities times the temperature",
        cause: Cause::ValuesDiffer,
        assertion: LOSS_CONTRACT,
        buggy: |seed| info_nce(seed, 10.0, 8),
        clean: |seed| info_nce(seed, 0.1, 8),
        missed_today: None,
    },
    Entry {
        id: "E26",
        group: GROUP,
        bug: "NT-Xent in which every view is compared with itself",
        cause: Cause::ValuesDiffer,
        assertion: LOSS_CONTRACT,
        buggy: |seed| nt_xent(seed, true),
        clean: |seed| nt_xent(seed, false),
        missed_today: None,
    },
];

fn unit(x: &Tensor) -> candle_core::Result<Tensor> {
    x.broadcast_div(&(x.sqr()?.sum_keepdim(1)? + 1e-12)?.sqrt()?)
}

/// Rows and the embeddings that another encoder made of them.
fn embedded(seed: Seed, width: usize) -> Result<(Tensor, Tensor)> {
    let x = seed.normal("x", (ROWS, 6), DType::F32, CPU)?;
    Ok((x, unit(&seed.normal("other", (ROWS, width), DType::F32, CPU)?)?))
}

fn info_nce(seed: Seed, temperature: f64, width: usize) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, width], Tensor::gelu, vb)?;
    let loss = move |a: &Tensor, b: &Tensor| {
        let scores = (unit(a)?.matmul(&unit(b)?.t()?)? / temperature)?;
        loss::cross_entropy(&scores, &Tensor::arange(0u32, a.dim(0)? as u32, CPU)?)
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    // The others' similarities leave a floor above 0.
    let contract = contract::contrastive(0.1).shape([width]);
    Ok(Subject::new(learner, embedded(seed, width)?).loss_below(0.5).test(keeps(loss, contract)))
}

fn nt_xent(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 16], Tensor::relu, vb)?;
    let loss = move |a: &Tensor, b: &Tensor| {
        let n = a.dim(0)?;
        let pool = Tensor::cat(&[unit(a)?, unit(b)?], 0)?;
        let mut scores = (pool.matmul(&pool.t()?)? / 0.5)?;
        if !buggy {
            scores = (scores - (Tensor::eye(2 * n, DType::F32, CPU)? * 1e9)?)?;
        }
        let partners: Vec<u32> = (0..2 * n).map(|i| ((i + n) % (2 * n)) as u32).collect();
        loss::cross_entropy(&scores, &Tensor::new(partners, CPU)?)
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    Ok(Subject::new(learner, embedded(seed, 16)?)
        .loss_below(2.5)
        .test(keeps(loss, contract::nt_xent(0.5))))
}
