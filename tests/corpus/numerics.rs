//! Group I: numbers that overflow.

use candle_core::{DType, Module, Tensor};
use candle_nn::{linear, loss, ops};
use candling::{
    Cause, Learner, Result, Seed,
    check::{Finite, InRange},
    contract,
};

use super::{
    contracts::{LOSS_CONTRACT, keeps},
    data::{self, CPU, ROWS, TIME, weights},
    entry::{
        Assertion::{self, OverfitsBatch},
        Entry, Subject,
    },
    models::{Attention, Mlp, Norm, Transformer, same, stable_bce},
};

const GROUP: &str = "numerics";

pub(crate) const ENTRIES: &[Entry] = &[
    Entry {
        id: "I1",
        group: GROUP,
        bug: "a softmax by hand, without subtracting the maximum",
        cause: Cause::NotFinite,
        // Latent: the scores of a freshly made attention are small. Its own test takes large ones.
        assertion: Assertion::Test("finite"),
        buggy: |seed| softmax_by_hand(seed, true),
        clean: |seed| softmax_by_hand(seed, false),
        missed_today: None,
    },
    Entry {
        id: "I2",
        group: GROUP,
        bug: "softmax, then log: minus infinity where two similarities differ by more than 104 temperatures",
        cause: Cause::LossUnstable,
        assertion: LOSS_CONTRACT,
        buggy: |seed| contrastive(seed, |logits| ops::softmax(logits, 1)?.log()),
        clean: |seed| contrastive(seed, |logits| ops::log_softmax(logits, 1)),
        missed_today: None,
    },
    Entry {
        id: "I5",
        group: GROUP,
        bug: "candle's binary cross-entropy is infinite from a logit of 17 on",
        cause: Cause::LossUnstable,
        assertion: LOSS_CONTRACT,
        buggy: |seed| candle_bce(seed, true),
        clean: |seed| candle_bce(seed, false),
        missed_today: None,
    },
    Entry {
        id: "I6",
        group: GROUP,
        bug: "a mask of minus infinity on a row of padding alone",
        cause: Cause::NotFinite,
        assertion: OverfitsBatch,
        buggy: |seed| masked_row(seed, f32::NEG_INFINITY),
        clean: |seed| masked_row(seed, -1e9),
        missed_today: None,
    },
    Entry {
        id: "I7",
        group: GROUP,
        bug: "squares in f16: 300 squared is infinite",
        cause: Cause::NotFinite,
        assertion: OverfitsBatch,
        buggy: |seed| half_squares(seed, true),
        clean: |seed| half_squares(seed, false),
        missed_today: None,
    },
    Entry {
        id: "I8",
        group: GROUP,
        bug: "the exponential of an unbounded log-variance",
        cause: Cause::LossUnstable,
        assertion: LOSS_CONTRACT,
        buggy: |seed| log_variance(seed, true),
        clean: |seed| log_variance(seed, false),
        missed_today: None,
    },
    Entry {
        id: "I10",
        group: GROUP,
        bug: "differences of unsigned times: they wrap around",
        cause: Cause::InputNotScaled,
        assertion: Assertion::Test("in_range"),
        buggy: |seed| unsigned_differences(seed, true),
        clean: |seed| unsigned_differences(seed, false),
        missed_today: None,
    },
    Entry {
        id: "I11",
        group: GROUP,
        bug: "log-sum-exp without subtracting the maximum",
        cause: Cause::LossUnstable,
        assertion: LOSS_CONTRACT,
        buggy: |seed| contrastive(seed, |l| l.broadcast_sub(&l.exp()?.sum_keepdim(1)?.log()?)),
        clean: |seed| contrastive(seed, |l| l.broadcast_sub(&l.log_sum_exp(1)?.unsqueeze(1)?)),
        missed_today: None,
    },
];

fn softmax_by_hand(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(4, vb)?;
    let weigh = move |scores: &Tensor| {
        if !buggy {
            return ops::softmax(scores, 2);
        }
        let e = scores.exp()?;
        e.broadcast_div(&e.sum_keepdim(2)?)
    };
    let forward = move |ids: &Tensor| {
        let hidden = model.hidden(ids, Norm::forward, |a, x| a.forward(x, same, weigh))?;
        model.head.forward(&hidden.mean(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::sequences(seed)?).test(move |_, _| {
        let scores = seed.uniform("scores", 90.0..110.0, (1, 4, TIME), DType::F32, data::CPU)?;
        Finite::new().check(&weigh(&scores)?)
    }))
}

fn unit(x: &Tensor) -> candle_core::Result<Tensor> {
    x.broadcast_div(&(x.sqr()?.sum_keepdim(1)? + 1e-6)?.sqrt()?)
}

/// Pairs of views matched by cosine similarity at CLIP's temperature, 0.01.
fn contrastive(
    seed: Seed,
    log_softmax: fn(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let left = Mlp::new(&[6, 32, 8], Tensor::relu, vb.pp("left"))?;
    let right = Mlp::new(&[6, 32, 8], Tensor::relu, vb.pp("right"))?;
    let forward = move |[a, b]: &[Tensor; 2]| {
        let (a, b) = (unit(&left.forward(a)?)?, unit(&right.forward(b)?)?);
        a.matmul(&b.t()?)? / 0.01
    };
    let loss = move |logits: &Tensor, y: &Tensor| loss::nll(&log_softmax(logits)?, y);
    let view = |label: &str| seed.normal(label, (ROWS, 6), DType::F32, CPU);
    let pairs = Tensor::arange(0u32, ROWS as u32, CPU)?;
    let learner = Learner::new(&vars, forward, loss);
    Ok(Subject::new(learner, (&[view("a")?, view("b")?], &pairs))
        .allow(Cause::BatchMixed)
        .allow(Cause::BatchSizeFixed)
        .test(keeps(loss, contract::cross_entropy(ROWS))))
}

fn candle_bce(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 1], Tensor::tanh, vb)?;
    let loss = if buggy { loss::binary_cross_entropy_with_logit } else { stable_bce };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    let contract = contract::bce_with_logits().shape([1]);
    Ok(Subject::new(learner, data::binary(seed, 6)?).test(keeps(loss, contract)))
}

/// Attention that keeps padded keys out. The last sequence is empty.
fn masked_row(seed: Seed, out: f32) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Transformer::new(4, vb)?;
    let forward = move |[ids, real]: &[Tensor; 2]| {
        let mask = real.eq(0u32)?.unsqueeze(1)?;
        let (low, zero) = (Tensor::new(out, CPU)?, Tensor::new(0f32, CPU)?);
        let shape = mask.shape();
        let mask = mask.where_cond(&low.broadcast_as(shape)?, &zero.broadcast_as(shape)?)?;
        let attend = |attention: &Attention, x: &Tensor| {
            let weigh = |scores: &Tensor| ops::softmax(&scores.broadcast_add(&mask)?, 2);
            attention.forward(x, same, weigh)
        };
        let hidden = model.hidden(ids, Norm::forward, attend)?;
        let real = real.to_dtype(DType::F32)?.unsqueeze(2)?;
        let count = (real.sum(1)? + 1e-6)?;
        model.head.forward(&hidden.broadcast_mul(&real)?.sum(1)?.broadcast_div(&count)?)
    };
    let (ids, y) = data::sequences(seed)?;
    let real: Vec<u32> = (0..ROWS * TIME)
        .map(|i| u32::from(i / TIME < ROWS - 1 && i % TIME < 3 + (i / TIME) % 4))
        .collect();
    let real = Tensor::from_vec(real, (ROWS, TIME), CPU)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (&[ids, real], &y)))
}

/// Features in the hundreds, normalised by the root of their mean square.
fn half_squares(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F16);
    let model = Mlp::new(&[8, 32, 4], Tensor::relu, vb)?;
    let forward = move |x: &Tensor| {
        let wide = if buggy { x.clone() } else { x.to_dtype(DType::F32)? };
        let size = (wide.sqr()?.mean_keepdim(1)? + 1e-3)?.sqrt()?;
        model.forward(&wide.broadcast_div(&size)?.to_dtype(DType::F16)?)
    };
    let loss = |logits: &Tensor, y: &Tensor| loss::cross_entropy(&logits.to_dtype(DType::F32)?, y);
    let (x, y) = data::classes(seed, 8, 4, DType::F32)?;
    let learner = Learner::new(&vars, forward, loss);
    Ok(Subject::new(learner, ((x * 300.0)?.to_dtype(DType::F16)?, y)))
}

/// A regression with a variance of its own for every row.
fn log_variance(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 32, 2], Tensor::gelu, vb)?;
    let loss = move |output: &Tensor, y: &Tensor| {
        let (mean, log_variance) = (output.narrow(1, 0, 1)?, output.narrow(1, 1, 1)?);
        let log_variance = if buggy { log_variance } else { log_variance.clamp(-6f32, 6f32)? };
        let error = ((mean - y)?.sqr()? * log_variance.neg()?.exp()?)?;
        ((error + log_variance)?.mean_all()?) * 0.5
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    // One row that is hopelessly sure, and one that is not.
    let sure = Tensor::new(&[[0f32, -200.0], [0.5, 1.0]], CPU)?;
    let target = Tensor::new(&[[0.3f32], [-1.0]], CPU)?;
    let contract = contract::custom("Gaussian likelihood")
        .shape([2])
        .target_shape([1])
        .per_row(|p, y| ((p[0] - y[0]).powi(2) * (-p[1]).exp() + p[1]) / 2.0)
        .finite_at(&sure, &target);
    Ok(Subject::new(learner, data::regression(seed, 6, DType::F32)?)
        .loss_below(-1.0)
        .test(keeps(loss, contract)))
}

/// Times of events, seen through their distances to the first.
fn unsigned_differences(seed: Seed, buggy: bool) -> Result<Subject> {
    const LATEST: usize = 40;
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear(TIME - 1, 32, vb.pp("first"))?;
    let head = linear(32, 4, vb.pp("head"))?;
    let passed = move |times: &Tensor| {
        let times = if buggy { times.clone() } else { times.to_dtype(DType::F32)? };
        let (start, rest) = (times.narrow(1, 0, 1)?, times.narrow(1, 1, TIME - 1)?);
        rest.broadcast_sub(&start)?.to_dtype(DType::F32)
    };
    let forward =
        move |times: &Tensor| head.forward(&first.forward(&(passed(times)? / 10.0)?)?.relu()?);
    let times = seed.tokens("times", LATEST, (ROWS, TIME), CPU)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (times, data::labels(4)?)).test(move |_, batch| {
        let latest = LATEST as f64;
        InRange::new().check(&passed(&batch.input()[0])?, -latest..=latest)
    }))
}
