//! Groups F and I: the value is finite, its gradient is not.

use candle_core::{DType, Module, Tensor};
use candle_nn::{Conv2dConfig, conv2d, embedding, linear, linear_no_bias, loss};
use candling::{Cause, Learner, Result, Seed};

use crate::corpus::{
    data::{self, CPU, ROWS, TIME, VOCAB, weights},
    entry::{Assertion::GradientsFlow, Entry, Subject},
    models::{Mlp, stable_bce},
};

const GROUP: &str = "gradients";

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        id: "F18b",
        group: GROUP,
        bug: "rows divided by their length plus epsilon, and one row is zero",
        cause: Cause::NotFinite,
        assertion: GradientsFlow,
        buggy: |seed| cosine(seed, true),
        clean: |seed| cosine(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F18c",
        group: GROUP,
        bug: "`p * log p` at zero, hidden by where_cond",
        cause: Cause::NotFinite,
        assertion: GradientsFlow,
        buggy: |seed| entropy(seed, true),
        clean: |seed| entropy(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F18d",
        group: GROUP,
        bug: "the cube root of a window where nothing fires",
        cause: Cause::NotFinite,
        assertion: GradientsFlow,
        buggy: |seed| generalised_mean(seed, true),
        clean: |seed| generalised_mean(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F18e",
        group: GROUP,
        bug: "a norm by hand whose epsilon is beside the square root, on padding of zeros",
        cause: Cause::NotFinite,
        assertion: GradientsFlow,
        buggy: |seed| norm_of_padding(seed, true),
        clean: |seed| norm_of_padding(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F18f",
        group: GROUP,
        bug: "the mean over an empty sequence, 0/0, hidden by where_cond",
        cause: Cause::NotFinite,
        assertion: GradientsFlow,
        buggy: |seed| empty_sequence(seed, true),
        clean: |seed| empty_sequence(seed, false),
        missed_today: None,
    },
    Entry {
        id: "F18g",
        group: GROUP,
        bug: "distances of all pairs: those of rows to themselves are roots of zero",
        cause: Cause::NotFinite,
        assertion: GradientsFlow,
        buggy: |seed| pair_distances(seed, 0.0),
        clean: |seed| pair_distances(seed, 1e-6),
        missed_today: None,
    },
    Entry {
        id: "I5b",
        group: "numerics",
        bug: "candle's binary cross-entropy on cosines times 100",
        cause: Cause::LossUnstable,
        assertion: GradientsFlow,
        buggy: |seed| sigmoid_pairs(seed, loss::binary_cross_entropy_with_logit),
        clean: |seed| sigmoid_pairs(seed, stable_bce),
        missed_today: None,
    },
];

/// Prototypes compared with rows by their cosine. The last row has no features at all.
fn cosine(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let first = linear_no_bias(6, 16, vb.pp("first"))?;
    let second = linear_no_bias(16, 16, vb.pp("second"))?;
    let prototypes = linear(16, 4, vb.pp("prototypes"))?;
    let unit = move |x: &Tensor| {
        let squares = x.sqr()?.sum_keepdim(1)?;
        let length = if buggy { (squares.sqrt()? + 1e-6)? } else { (squares + 1e-12)?.sqrt()? };
        x.broadcast_div(&length)
    };
    let forward = move |x: &Tensor| {
        let x = unit(&second.forward(&first.forward(x)?.silu()?)?)?;
        prototypes.forward(&(x * 8.0)?)
    };
    let (x, y) = data::classes(seed, 6, 4, DType::F32)?;
    let there =
        Tensor::arange(0u32, ROWS as u32, CPU)?.lt(ROWS as u32 - 1)?.to_dtype(DType::F32)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x.broadcast_mul(&there.unsqueeze(1)?)?, y)))
}

/// Half of the slots fire for a row: enough of them to tell the rows of a batch apart.
const SLOTS: usize = 24;

/// Sparse attention to learned slots, whose entropy is a part of the loss.
fn entropy(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let scores = Mlp::new(&[6, 24, SLOTS], Tensor::tanh, vb.pp("scores"))?;
    let slots = linear(SLOTS, 16, vb.pp("slots"))?;
    let head = linear(16, 4, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let fires = scores.forward(x)?.relu()?;
        let shares = fires.broadcast_div(&(fires.sum_keepdim(1)? + 1e-3)?)?;
        Tensor::cat(&[&head.forward(&slots.forward(&shares)?.silu()?)?, &shares], 1)
    };
    let loss = move |output: &Tensor, y: &Tensor| {
        let p = output.narrow(1, 4, SLOTS)?.contiguous()?;
        let terms = match buggy {
            true => p.gt(0f32)?.where_cond(&(&p * p.log()?)?, &p.zeros_like()?)?,
            false => (&p * (&p + 1e-6)?.log()?)?,
        };
        let entropy = terms.sum(1)?.mean_all()?.neg()?;
        loss::cross_entropy(&output.narrow(1, 0, 4)?.contiguous()?, y)? + (entropy * 1e-3)?
    };
    let learner = Learner::new(&vars, forward, loss);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// Pooling between mean and maximum: the cube root of the mean of cubes.
fn generalised_mean(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let config = Conv2dConfig { padding: 1, ..Default::default() };
    let (first, head) = (conv2d(1, 6, 3, config, vb.pp("first"))?, linear(96, 4, vb.pp("head"))?);
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?.relu()?;
        let x = if buggy { x } else { x.clamp(1e-4f32, f32::MAX)? };
        let x = x.powf(3.0)?.avg_pool2d(2)?.powf(1.0 / 3.0)?;
        head.forward(&x.flatten_from(1)?)
    };
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, data::images(seed, 4)?))
}

/// Sequences of one to six steps, filled up with zeros.
fn norm_of_padding(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F64);
    let first = linear_no_bias(5, 12, vb.pp("first"))?;
    let head = Mlp::new(&[12, 24, 4], Tensor::silu, vb.pp("head"))?;
    let forward = move |x: &Tensor| {
        let x = first.forward(x)?;
        let x = x.broadcast_sub(&x.mean_keepdim(2)?)?;
        let variance = x.sqr()?.mean_keepdim(2)?;
        let spread = if buggy { (variance.sqrt()? + 1e-5)? } else { (variance + 1e-5)?.sqrt()? };
        head.forward(&x.broadcast_div(&spread)?.sum(1)?)
    };
    let x = seed.normal("x", (ROWS, TIME, 5), DType::F64, CPU)?;
    let real: Vec<f64> =
        (0..ROWS * TIME).map(|i| if i % TIME <= (i / TIME) % TIME { 1.0 } else { 0.0 }).collect();
    let real = Tensor::from_vec(real, (ROWS, TIME, 1), CPU)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (x.broadcast_mul(&real)?, data::labels(4)?)))
}

/// Tokens pooled by their mean; the last sequence has none.
fn empty_sequence(seed: Seed, buggy: bool) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let tokens = embedding(VOCAB, 12, vb.pp("tokens"))?;
    let member = linear(12, 16, vb.pp("member"))?;
    let head = Mlp::new(&[16, 24, 4], Tensor::silu, vb.pp("head"))?;
    let forward = move |[ids, real]: &[Tensor; 2]| {
        let x = member.forward(&tokens.forward(ids)?)?.tanh()?;
        let sum = x.broadcast_mul(&real.unsqueeze(2)?)?.sum(1)?;
        let count = real.sum_keepdim(1)?;
        let mean = match buggy {
            true => {
                let mean = sum.broadcast_div(&count)?;
                let some = count.gt(0f32)?.broadcast_as(mean.shape())?;
                some.where_cond(&mean, &mean.zeros_like()?)?
            }
            false => sum.broadcast_div(&count.clamp(1f32, f32::MAX)?)?,
        };
        head.forward(&mean)
    };
    let (ids, y) = data::sequences(seed)?;
    let real: Vec<f32> = (0..ROWS * TIME)
        .map(|i| if i / TIME < ROWS - 1 && i % TIME < 2 + (i / TIME) % 5 { 1.0 } else { 0.0 })
        .collect();
    let real = Tensor::from_vec(real, (ROWS, TIME), CPU)?;
    let learner = Learner::new(&vars, forward, loss::cross_entropy);
    Ok(Subject::new(learner, (&[ids, real], &y)))
}

/// Rows of one class pulled together, others pushed one unit apart.
fn pair_distances(seed: Seed, epsilon: f64) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let model = Mlp::new(&[6, 48, 8], Tensor::relu, vb)?;
    let loss = move |codes: &Tensor, y: &Tensor| {
        let apart = codes.unsqueeze(1)?.broadcast_sub(&codes.unsqueeze(0)?)?;
        let distance = (apart.sqr()?.sum(2)? + epsilon)?.sqrt()?;
        let same = y.unsqueeze(1)?.broadcast_eq(&y.unsqueeze(0)?)?.to_dtype(DType::F32)?;
        let near = (&same * distance.sqr()?)?;
        let far = ((1.0 - &same)? * (1.0 - distance)?.relu()?.sqr()?)?;
        (near + far)?.mean_all()
    };
    let learner = Learner::new(&vars, move |x| model.forward(x), loss);
    Ok(Subject::new(learner, data::classes(seed, 6, 4, DType::F32)?))
}

/// Each pair of views judged on its own: does it belong together?
fn sigmoid_pairs(
    seed: Seed,
    loss: fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
) -> Result<Subject> {
    let (vars, vb) = weights(seed, DType::F32);
    let tower = |name: &str| Mlp::new(&[6, 48, 24], Tensor::relu, vb.pp(name));
    let (left, right) = (tower("left")?, tower("right")?);
    let unit = |x: &Tensor| x.broadcast_div(&(x.sqr()?.sum_keepdim(1)? + 1e-6)?.sqrt()?);
    let forward = move |[a, b]: &[Tensor; 2]| {
        let (a, b) = (unit(&left.forward(a)?)?, unit(&right.forward(b)?)?);
        a.matmul(&b.t()?)? * 100.0
    };
    let view = |label: &str| seed.normal(label, (ROWS, 6), DType::F32, CPU);
    let pairs = Tensor::eye(ROWS, DType::F32, CPU)?;
    let learner = Learner::new(&vars, forward, loss);
    Ok(Subject::new(learner, (&[view("a")?, view("b")?], &pairs))
        .allow(Cause::BatchMixed)
        .allow(Cause::BatchSizeFixed))
}
